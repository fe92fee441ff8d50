"""What a load comes to: percentiles, throughput and failures, and what is worse than was asked for."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import Step

FEW_PIECES = 4  # tokens a piece: of an answer in fewer pieces, the time between two tokens cannot be told


@dataclass(frozen=True)
class Percentiles:
    """Of the times of requests, in seconds."""

    p50: float
    p90: float
    p99: float


@dataclass(frozen=True)
class Figures:
    """What a server did at one rate.

    Args:
        rate: of requests in a second; infinity for all at once.
        sent, failed, empty: requests, those without an answer, and those whose answer has no text.
        bursts: answers that came in so few pieces that the time of a token is not known.
        first_token: seconds to the first token; None where no answer has one, as for the next two.
        token: seconds a token after the first; of answers that are no bursts.
        latency: seconds to the last token.
        tokens_per_second, requests_per_second: that were answered.
        tokens: of an answer, on average.
        problem: why it was not measured; '' where it was.
        errors: what failed requests say, each once.
    """

    rate: float
    sent: int
    failed: int
    empty: int
    bursts: int
    first_token: Percentiles | None
    token: Percentiles | None
    latency: Percentiles | None
    tokens_per_second: float
    requests_per_second: float
    tokens: float
    problem: str = ""
    errors: tuple[str, ...] = ()

    @property
    def failure_rate(self) -> float:
        """Part of the requests that failed; 1 where nothing could be measured."""
        return self.failed / self.sent if self.sent else 1.0

    @property
    def nothing(self) -> bool:
        """No request was answered."""
        return bool(self.problem) or self.failed == self.sent


def figures(step: Step) -> Figures:
    """What a step comes to."""
    done = [one for one in step.requests if not one.error]
    said = [one for one in done if one.first > 0]
    several = [one for one in said if one.tokens > 1]
    streamed = [one for one in several if one.pieces > 1 and one.pieces * FEW_PIECES >= one.tokens]
    tokens = sum(one.tokens for one in done)
    return Figures(
        rate=step.rate,
        sent=len(step.requests),
        failed=len(step.requests) - len(done),
        empty=len(done) - len(said),
        bursts=len(several) - len(streamed),
        first_token=percentiles([one.first for one in said]),
        token=percentiles([(one.latency - one.first) / (one.tokens - 1) for one in streamed]),
        latency=percentiles([one.latency for one in said]),
        tokens_per_second=tokens / step.seconds if step.seconds else 0.0,
        requests_per_second=len(done) / step.seconds if step.seconds else 0.0,
        tokens=tokens / len(done) if done else 0.0,
        problem=step.problem,
        errors=tuple(dict.fromkeys(one.error for one in step.requests if one.error)),
    )


def percentiles(values: Sequence[float]) -> Percentiles | None:
    """The median, p90 and p99, between two values where none is there; None of nothing."""
    return Percentiles(*(percentile(values, part) for part in (0.5, 0.9, 0.99))) if values else None


def percentile(values: Sequence[float], part: float) -> float:
    """As numpy has it by default: linear between the two nearest values."""
    ordered = sorted(values)
    at = (len(ordered) - 1) * part
    below = math.floor(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (at - below)


def worse(old: Sequence[Figures], new: Sequence[Figures], no_worse: float) -> Iterator[str]:
    """What the new server does worse than is allowed, for people.

    Args:
        old, new: one a rate.
        no_worse: how many times the old server's p99 end-to-end latency the new one's may be.
    """
    for before, after in zip(old, new):
        at = rate_words(after.rate)
        if after.problem:
            yield f"{at}: not measured: {after.problem}"
        elif after.failure_rate > before.failure_rate:
            theirs = f"{before.failed} of {before.sent} of the old server's"
            yield f"{at}: {after.failed} of {after.sent} requests fail, {theirs}"
        elif slower(before, after, no_worse):
            yield f"{at}: {slower(before, after, no_worse)}"


def slower(old: Figures, new: Figures, no_worse: float) -> str:
    """How much slower the new server is at a rate, for people; '' where that is allowed, or cannot be told."""
    if not old.latency or not new.latency or new.latency.p99 <= old.latency.p99 * no_worse:
        return ""
    times = new.latency.p99 / old.latency.p99
    return f"p99 of the end-to-end latency is {new.latency.p99:.2f} s, {times:.2f} times {old.latency.p99:.2f} s"


def rate_words(rate: float) -> str:
    """`4 requests/s`, or `all at once`."""
    return "all at once" if math.isinf(rate) else f"{rate:g} request{'' if rate == 1 else 's'}/s"
