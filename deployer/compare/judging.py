"""Which of two servers under the same load is better at what."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.figures import (
    Figures,
    figures,
    worse,
)
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import Load, Measurement, Server

SAME = 0.05  # part by which two figures may differ and count as the same: what a second run differs by as well
OLD, NEW, EQUAL, UNKNOWN = "old", "new", "same", "not compared"


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
        if self.no_worse is None:
            return ()
        return tuple(worse(self.old_figures, self.new_figures, self.no_worse))

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


def _load(measurement: Measurement) -> Load:
    if measurement.load is None:
        raise DeployError(f"{measurement.server.url} was put under no load", "measure it again with --load")
    return measurement.load
