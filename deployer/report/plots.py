"""Where the marks of a plot stand: pure functions from the figures of two servers to the coordinates of a drawing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from ansible_collections.deployer.sglang.plugins.module_utils.measuring.figures import Figures, Percentiles, rate_words
from deployer.compare.judging import NEW, OLD, LoadComparison

WIDTH, HEIGHT = 360.0, 216.0
LEFT, RIGHT, TOP, BOTTOM = 50.0, 352.0, 12.0, 176.0
APART = 0.17  # of the room that a rate has: how far the two servers stand from its middle
BAR = 0.26  # of that room
TICKS = 4
WIDE = 40.0  # from so many times the smallest figure on, the axis is logarithmic


@dataclass(frozen=True)
class Tick:
    """A mark of an axis: where, and what it says."""

    at: float
    label: str


@dataclass(frozen=True)
class Range:
    """The times of a server at one rate: where the median, p90 and p99 stand, and all of it in words."""

    server: str
    x: float
    p50: float
    p90: float
    p99: float
    words: str


@dataclass(frozen=True)
class Bar:
    """A figure of a server at one rate."""

    server: str
    x: float
    y: float
    width: float
    height: float
    words: str


@dataclass(frozen=True)
class Plot:
    """A drawing of WIDTH by HEIGHT.

    Args:
        title: what is drawn, with its unit.
        better: which way is better, in words.
        logarithmic: the vertical axis is.
        rates, ticks: marks of the horizontal and of the vertical axis.
        ranges, bars: what is drawn.
        lines: of each server, the points that join its medians.
        missing: what is not there, in words.
    """

    title: str
    better: str
    logarithmic: bool
    rates: tuple[Tick, ...]
    ticks: tuple[Tick, ...]
    ranges: tuple[Range, ...] = ()
    bars: tuple[Bar, ...] = ()
    lines: tuple[tuple[str, str], ...] = ()
    missing: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scale:
    """The vertical axis.

    Args:
        low, high: the figures at its ends; low is 0 unless it is logarithmic.
        logarithmic: whether it is.
    """

    low: float
    high: float
    logarithmic: bool

    def at(self, value: float) -> float:
        """Where a figure stands."""
        if self.logarithmic:
            part = math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        else:
            part = value / self.high
        return round(BOTTOM - min(1.0, max(0.0, part)) * (BOTTOM - TOP), 2)


def plots(load: LoadComparison) -> tuple[Plot, ...]:
    """The drawings of a comparison: three of times, throughput, and failures where there were some."""
    drawn = [
        _times(load, "Time to first token, s", lambda one: one.first_token, 1),
        _times(load, "Time per output token, ms", lambda one: one.token, 1000),
        _times(load, "End-to-end latency, s", lambda one: one.latency, 1),
        _bars(load, "Throughput, tokens/s", "higher is better", lambda one: one.tokens_per_second, "tokens/s"),
    ]
    if any(one.failed for one in (*load.old_figures, *load.new_figures)):
        drawn.append(_bars(load, "Failed requests, %", "lower is better", lambda one: one.failure_rate * 100, "%"))
    return tuple(drawn)


def _times(load: LoadComparison, title: str, of: Callable[[Figures], Percentiles | None], unit: float) -> Plot:
    sides = ((OLD, load.old_figures), (NEW, load.new_figures))
    found = [
        (who, place, figures, times)
        for who, every in sides
        for place, figures in enumerate(every)
        if (times := of(figures)) is not None and not figures.problem
    ]
    scale = scale_of([one * unit for *_, times in found for one in (times.p50, times.p99)])
    count = len(load.old_figures)
    ranges = tuple(
        Range(
            who,
            x_of(who, place, count),
            scale.at(times.p50 * unit),
            scale.at(times.p90 * unit),
            scale.at(times.p99 * unit),
            f"{who}, {rate_words(figures.rate)}: p50 {short(times.p50 * unit)}, p90 {short(times.p90 * unit)}, "
            f"p99 {short(times.p99 * unit)}",
        )
        for who, place, figures, times in found
    )
    lines = tuple((who, " ".join(f"{one.x},{one.p50}" for one in ranges if one.server == who)) for who, _ in sides)
    better = "lower is better"
    return Plot(title, better, scale.logarithmic, _rates(load), ticks_of(scale), ranges, (), lines, _missing(load, of))


def _bars(load: LoadComparison, title: str, better: str, of: Callable[[Figures], float], unit: str) -> Plot:
    sides = ((OLD, load.old_figures), (NEW, load.new_figures))
    found = [(who, place, one) for who, every in sides for place, one in enumerate(every) if not one.problem]
    scale = scale_of([of(one) for *_, one in found], bars=True)
    count = len(load.old_figures)
    room = (RIGHT - LEFT) / count
    bars = tuple(
        Bar(
            who,
            round(x_of(who, place, count) - room * BAR / 2, 2),
            scale.at(of(one)),
            round(room * BAR, 2),
            round(BOTTOM - scale.at(of(one)), 2),
            f"{who}, {rate_words(one.rate)}: {short(of(one))} {unit}",
        )
        for who, place, one in found
    )
    return Plot(title, better, False, _rates(load), ticks_of(scale), (), bars, (), _missing(load, of))


def _missing(load: LoadComparison, of: Callable[[Figures], object]) -> tuple[str, ...]:
    return tuple(
        f"{who}, {rate_words(one.rate)}"
        for who, every in ((OLD, load.old_figures), (NEW, load.new_figures))
        for one in every
        if one.problem or of(one) is None
    )


def x_of(who: str, place: int, count: int) -> float:
    """Where a server's marks of a rate stand."""
    room = (RIGHT - LEFT) / count
    return round(LEFT + room * (place + 0.5 + (-APART if who == OLD else APART)), 2)


def scale_of(values: Sequence[float], bars: bool = False) -> Scale:
    """An axis on which all values have a place; bars begin at 0."""
    known = [one for one in values if one > 0]
    if not known:
        return Scale(0.0, 1.0, False)
    if not bars and max(known) > WIDE * min(known):
        low, high = 10 ** math.floor(math.log10(min(known))), 10 ** math.ceil(math.log10(max(known)))
        return Scale(low, high, True)
    step = step_of(max(known))
    return Scale(0.0, step * math.ceil(max(known) / step - 1e-9), False)


def step_of(highest: float) -> float:
    """A round step that goes at most TICKS times into an axis."""
    rough = highest / TICKS
    power: float = 10 ** math.floor(math.log10(rough))
    return next((one * power for one in (1, 2, 2.5, 5) if one * power >= rough), 10 * power)


def ticks_of(scale: Scale) -> tuple[Tick, ...]:
    """The marks of an axis."""
    if scale.logarithmic:
        powers = range(round(math.log10(scale.low)), round(math.log10(scale.high)) + 1)
        return tuple(Tick(scale.at(10**one), short(10**one)) for one in powers)
    step = step_of(scale.high)
    return tuple(Tick(scale.at(one * step), short(one * step)) for one in range(round(scale.high / step) + 1))


def short(value: float) -> str:
    """Three digits at most before what does not matter."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _rates(load: LoadComparison) -> tuple[Tick, ...]:
    count = len(load.old_figures)
    room = (RIGHT - LEFT) / count
    return tuple(
        Tick(round(LEFT + room * (place + 0.5), 2), "all at once" if math.isinf(one.rate) else f"{one.rate:g}")
        for place, one in enumerate(load.old_figures)
    )
