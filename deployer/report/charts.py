"""Where bars stand: pure functions from intervals to per cents of an axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from deployer.report.cutovers import STATES
from deployer.report.model import LOST, UNSEEN, Cutover, Host, Outage, Phase, Timeline
from deployer.report.words import duration, ticks

PHASES = ("preflight", "lock", "environment", "model", "release", "cutover", "other")
PHASE_NAMES = {"cutover": "cut-over"}
OUT = "out"


@dataclass(frozen=True)
class Axis:
    """A span of time that a chart shows.

    Args:
        start: of the span, in seconds since the epoch or since whatever the chart counts from.
        length: seconds, above 0.
    """

    start: float
    length: float

    def at(self, time: float) -> float:
        """Where a moment stands, in per cent."""
        return round(min(100.0, max(0.0, (time - self.start) / self.length * 100)), 3)

    @property
    def marks(self) -> list[Mark]:
        """The ticks, counted from the start of the span."""
        return [Mark(self.at(self.start + one), "0" if one == 0 else duration(one)) for one in ticks(self.length)]


@dataclass(frozen=True)
class Mark:
    """A tick of an axis: where, in per cent, and what it says."""

    left: float
    label: str


@dataclass(frozen=True)
class Bar:
    """One bar.

    Args:
        style: of its look: a phase, a state, or OUT.
        label: what stands in it where there is room, and in its tooltip.
        seconds: how long it was, for people.
        left, width: in per cent of the axis.
        failed: it ended in a failure.
        unseen: its end was not seen.
    """

    style: str
    label: str
    seconds: str
    left: float
    width: float
    failed: bool = False
    unseen: bool = False


@dataclass(frozen=True)
class Lane:
    """A service's cut-overs: its states, and below them when nothing served."""

    service: str
    states: tuple[Bar, ...]
    outages: tuple[Bar, ...]


@dataclass(frozen=True)
class HostChart:
    """A host on the time axis of the run.

    Args:
        caption: the same in words, a part a phase and a part an outage.
    """

    host: Host
    phases: tuple[Bar, ...]
    lanes: tuple[Lane, ...]
    caption: tuple[str, ...]


@dataclass(frozen=True)
class CutoverChart:
    """A cut-over on an axis that begins with it."""

    cutover: Cutover
    lane: Lane
    caption: tuple[str, ...]


def axis_of(run: Timeline) -> Axis:
    """The axis of the whole run."""
    return Axis(run.start, max(run.end - run.start, 1.0))


def host_chart(host: Host, axis: Axis) -> HostChart:
    """A host's bars."""
    shown = [one for one in host.cutovers if one.outage is not None or len(one.states) > 1]
    services = list(dict.fromkeys(one.service for one in shown))
    lanes = tuple(_lane(service, [one for one in shown if one.service == service], axis, 0.0) for service in services)
    words = [_phase_words(phase) for phase in host.phases]
    words += [f"{one.service} {_out(one.outage)}" for one in shown if one.outage is not None]
    return HostChart(host, tuple(_phase(one, axis) for one in host.phases), lanes, tuple(words))


def cutover_charts(cutovers: Sequence[Cutover]) -> tuple[Axis, tuple[CutoverChart, ...]]:
    """Every cut-over that stopped or started something, the longest outage first, all counted from their beginnings."""
    shown = [one for one in cutovers if one.states and (one.outage is not None or len(one.states) > 1)]
    shown.sort(key=lambda one: -(one.outage.seconds if one.outage else 0.0))
    longest = max((one.states[-1].end - one.states[0].start for one in shown), default=1.0)
    axis = Axis(0.0, max(longest, 1.0))
    return axis, tuple(
        CutoverChart(one, _lane(one.service, [one], axis, one.states[0].start), _cutover_words(one)) for one in shown
    )


def _lane(service: str, cutovers: Sequence[Cutover], axis: Axis, zero: float) -> Lane:
    states, outages = [], []
    for one in cutovers:
        for state in one.states:
            last = state is one.states[-1]
            failed = last and one.outcome in ("not_restored", "refused")
            style = state.name if state.name in STATES else "other"
            bar = _bar(style, state.name, state.start - zero, state.end - zero, axis, failed, last and not one.outcome)
            states.append(bar)
        if one.outage is not None:
            window = one.outage
            outages.append(_bar(OUT, _out(window), window.start - zero, window.end - zero, axis, unseen=window.open))
    return Lane(service, tuple(states), tuple(outages))


def _phase(phase: Phase, axis: Axis) -> Bar:
    style = phase.name if phase.name in PHASES else "other"
    label = PHASE_NAMES.get(phase.name, phase.name)
    return _bar(style, label, phase.start, phase.end, axis, phase.ending == LOST, phase.ending == UNSEEN)


def _bar(
    style: str, label: str, start: float, end: float, axis: Axis, failed: bool = False, unseen: bool = False
) -> Bar:
    left = axis.at(start)
    return Bar(style, label, duration(max(0.0, end - start)), left, round(axis.at(end) - left, 3), failed, unseen)


def _phase_words(phase: Phase) -> str:
    words = f"{PHASE_NAMES.get(phase.name, phase.name)} {duration(phase.end - phase.start)}"
    words += f" ({phase.amount})" if phase.amount else ""
    return words + {LOST: ", failed", UNSEEN: ", end not seen"}.get(phase.ending, "")


def _cutover_words(cutover: Cutover) -> tuple[str, ...]:
    return tuple(f"{state.name} {duration(state.end - state.start)}" for state in cutover.states)


def _out(outage: Outage | None) -> str:
    if outage is None:
        return ""
    return f"out {'for at least ' if outage.open else ''}{duration(outage.seconds)}"
