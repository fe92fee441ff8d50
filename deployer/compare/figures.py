"""What a load comes to: percentiles, throughput and failures, and which of two servers is better at what."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.compare.measurement import Load, Measurement, Server, Step

SAME = 0.05  # part by which two figures may differ and count as the same: what a second run differs by as well
OLD, NEW, EQUAL, UNKNOWN = "old", "new", "same", "not compared"
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


@dataclass(frozen=True)
class Judgement:
    """Which server is better at one thing, at one rate.

    Args:
        metric: a name of METRICS.
        rate: of requests in a second.
        better: OLD, NEW or EQUAL; UNKNOWN where one has no such figure.
        old, new: the figures; None where there is none.
    """

    metric: str
    rate: float
    better: str
    old: float | None
    new: float | None

    @property
    def factor(self) -> float | None:
        """How many times the larger figure is the smaller one; None where one is missing or 0."""
        if not self.old or not self.new:
            return None
        return max(self.old, self.new) / min(self.old, self.new)


@dataclass(frozen=True)
class Metric:
    """Something that a server is judged by.

    Args:
        name: for people.
        of: the figure, None where there is none.
        more_is_better: of the figure.
    """

    name: str
    of: Callable[[Figures], float | None]
    more_is_better: bool = False


METRICS = (
    Metric("time to first token, p50", lambda one: one.first_token.p50 if one.first_token else None),
    Metric("time to first token, p99", lambda one: one.first_token.p99 if one.first_token else None),
    Metric("time per output token, p50", lambda one: one.token.p50 if one.token else None),
    Metric("time per output token, p99", lambda one: one.token.p99 if one.token else None),
    Metric("end-to-end latency, p50", lambda one: one.latency.p50 if one.latency else None),
    Metric("end-to-end latency, p99", lambda one: one.latency.p99 if one.latency else None),
    Metric("throughput", lambda one: one.tokens_per_second, more_is_better=True),
    Metric("failures", lambda one: one.failure_rate),
)


@dataclass(frozen=True)
class LoadComparison:
    """Two servers under the same load.

    Args:
        old, new: the servers.
        old_load, new_load: as measured.
        old_figures, new_figures: one a rate.
        judgements: by metric, then by rate.
        no_worse: how many times the old server's p99 end-to-end latency the new one's may be; None where it is not
            asked.
    """

    old: Server
    new: Server
    old_load: Load
    new_load: Load
    old_figures: tuple[Figures, ...]
    new_figures: tuple[Figures, ...]
    judgements: tuple[Judgement, ...]
    no_worse: float | None = None

    @property
    def misses(self) -> tuple[str, ...]:
        """What the new server does worse than is allowed."""
        return tuple(self._misses()) if self.no_worse is not None else ()

    def _misses(self) -> Iterator[str]:
        assert self.no_worse is not None
        for old, new in zip(self.old_figures, self.new_figures, strict=True):
            at = rate_words(new.rate)
            if new.problem:
                yield f"{at}: not measured: {new.problem}"
            elif new.failure_rate > old.failure_rate:
                yield f"{at}: {new.failed} of {new.sent} requests fail, {old.failed} of {old.sent} of the old server's"
            elif old.latency and new.latency and new.latency.p99 > old.latency.p99 * self.no_worse:
                yield (
                    f"{at}: p99 of the end-to-end latency is {new.latency.p99:.2f} s, "
                    f"{new.latency.p99 / old.latency.p99:.2f} times {old.latency.p99:.2f} s"
                )

    @property
    def exit_code(self) -> int:
        """0 as good as was asked for, 1 not, 2 one of the servers could be measured at no rate."""
        if any(all(one.problem for one in every) for every in (self.old_figures, self.new_figures)):
            return 2
        return 1 if self.misses else 0


def compare_load(old: Measurement, new: Measurement, no_worse: float | None = None) -> LoadComparison:
    """Compare two servers that were put under the same load.

    Raises:
        DeployError: one was put under none, or under another.
    """
    first, second = _load(old), _load(new)
    if (first.settings, first.prompts) != (second.settings, second.prompts):
        problem = f"{old.server.url} and {new.server.url} were put under different loads"
        raise DeployError(problem, "measure both with the same options")
    before, after = tuple(map(figures, first.steps)), tuple(map(figures, second.steps))
    judged = tuple(judge(metric, one, other) for metric in METRICS for one, other in zip(before, after, strict=True))
    return LoadComparison(old.server, new.server, first, second, before, after, judged, no_worse)


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


def judge(metric: Metric, old: Figures, new: Figures) -> Judgement:
    """Which of two servers is better; one that answers is better than one that does not."""
    one = None if old.nothing else metric.of(old)
    other = None if new.nothing else metric.of(new)
    if old.nothing != new.nothing and (one, other) != (None, None):
        better = NEW if old.nothing else OLD
    elif one is None or other is None:
        better = UNKNOWN
    elif abs(one - other) <= SAME * max(one, other):
        better = EQUAL
    else:
        better = OLD if (one > other) == metric.more_is_better else NEW
    return Judgement(metric.name, new.rate, better, one, other)


def verdict(compared: LoadComparison) -> dict[str, tuple[str, ...]]:
    """What each is better at, in words: OLD, NEW, EQUAL and UNKNOWN, with metrics and the rates where it is so."""
    words: dict[str, list[str]] = {NEW: [], OLD: [], EQUAL: [], UNKNOWN: []}
    for metric in METRICS:
        of_metric = [one for one in compared.judgements if one.metric == metric.name]
        for who in words:
            here = [one for one in of_metric if one.better == who]
            if here:
                where = "at every rate" if len(here) == len(of_metric) else _rates(here)
                words[who].append(f"{metric.name} {where}{_factors(here) if who in (OLD, NEW) else ''}")
    return {who: tuple(said) for who, said in words.items()}


def _rates(judged: Sequence[Judgement]) -> str:
    numbers = [f"{one.rate:g}" for one in judged if not math.isinf(one.rate)]
    words = [f"at {', '.join(numbers)} request{'' if numbers == ['1'] else 's'}/s"] if numbers else []
    return " and ".join([*words, *(["all at once"] if any(math.isinf(one.rate) for one in judged) else [])])


def _factors(judged: Sequence[Judgement]) -> str:
    known = [one.factor for one in judged if one.factor is not None]
    if not known:
        return ""
    least, most = f"{min(known):.1f}", f"{max(known):.1f}"
    return f" (by a factor of {least})" if least == most else f" (by a factor of {least} to {most})"


def rate_words(rate: float) -> str:
    """`4 requests/s`, or `all at once`."""
    return "all at once" if math.isinf(rate) else f"{rate:g} request{'' if rate == 1 else 's'}/s"


def _load(measurement: Measurement) -> Load:
    if measurement.load is None:
        raise DeployError(f"{measurement.server.url} was put under no load", "measure it again with --load")
    return measurement.load
