"""Cut-overs as intervals: pure functions from events to states and outage windows.

The states come from the host's own clock where it reported an outcome, as the controller only looks from time to time;
where no outcome was seen, from what was seen on the way.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from deployer.report.model import Cutover, Outage, State
from deployer.report.reading import mapping, number, text
from deployer.runs.events import Event

STATES = ("measure", "drain", "stop", "prove", "start", "gate", "commit", "restore")
BEFORE = STATES[:2]  # the states in which what served before serves
DARK = STATES[2:6]  # the states in which nothing serves
COMMITTED, RESTORED, NOT_RESTORED = "committed", "restored", "not_restored"


@dataclass
class _Course:
    """What was seen of one cut-over."""

    host: str
    service: str
    taken_back: bool = False
    seen: list[Event] = field(default_factory=list)
    ended: Event | None = None


def cutovers(events: Iterable[Event], finish: float) -> list[Cutover]:
    """Every cut-over of a run, in the order in which they were first seen.

    Args:
        events: of the whole run.
        finish: until when the run was seen.
    """
    return [_cutover(one, finish) for one in _courses(events)]


def _courses(events: Iterable[Event]) -> list[_Course]:
    courses: list[_Course] = []
    under_way: dict[tuple[str, str], _Course] = {}
    taken_back: set[str] = set()
    for event in events:
        if event.kind == "restoring":
            taken_back.update(mapping(event.data, "targets"))
        if event.kind not in ("state", "cutover"):
            continue
        host, service = text(event.data, "host"), text(event.data, "service")
        course = under_way.get((host, service))
        if course is None:
            course = under_way[host, service] = _Course(host, service, host in taken_back)
            courses.append(course)
        if event.kind == "state":
            course.seen.append(event)
        else:
            course.ended = event
            del under_way[host, service]
    return courses


def _cutover(course: _Course, finish: float) -> Cutover:
    ended = course.ended
    data = ended.data if ended is not None else {}
    states = _measured(course, ended) if ended is not None else ()
    states = states or _watched(course.seen, ended.time if ended is not None else finish)
    outcome, before, adopted = (text(data, key) for key in ("outcome", "before", "adopted"))
    said = [text(event.data, "serving") for event in course.seen if text(event.data, "state") in BEFORE]
    served = said[0] != "none" if said and said[0] else bool(before or adopted or ended is None)
    return Cutover(
        host=course.host,
        service=course.service,
        outcome=outcome or ("unknown" if ended is not None else ""),
        before=before,
        after=text(data, "after"),
        target=text(data, "target"),
        adopted=adopted,
        states=states,
        outage=outage_of(states, outcome) if served else None,
        taken_back=course.taken_back,
    )


def outage_of(states: Sequence[State], outcome: str) -> Outage | None:
    """The window in which nothing served; None where nothing was stopped.

    Args:
        states: of one cut-over.
        outcome: that it came to; '' when that was not seen.
    """
    start = _dark_from(states)
    if start is None:
        return None
    committed = next((state.start for state in states if state.name == "commit"), None)
    if outcome == RESTORED or committed is None or any(state.name == "restore" for state in states):
        return Outage(start, states[-1].end, open=outcome not in (COMMITTED, RESTORED))
    return Outage(start, committed)


def _dark_from(states: Sequence[State]) -> float | None:
    """When what served was stopped: the controller may not have seen that state itself, only what comes after it."""
    stopped = [state.start for state in states if state.name == "stop"]
    drained = states[0].name in BEFORE if states else False
    later = [state.start for state in states if (state.name in DARK and drained) or state.name == "restore"]
    return next(iter(stopped or later), None)


def _measured(course: _Course, ended: Event) -> tuple[State, ...]:
    """The states by the host's clock, laid where the controller saw them."""
    seconds = mapping(ended.data, "seconds")
    names = [*(name for name in STATES if name in seconds), *(name for name in seconds if name not in STATES)]
    lengths = {name: max(0.0, number(seconds, name)) for name in names}
    latest = ended.time - sum(lengths.values())
    start = min([latest, *(event.time - number(event.data, "seconds") for event in course.seen)])
    states = []
    for name, length in lengths.items():
        states.append(State(name, start, start + length))
        start += length
    return tuple(states)


def _watched(seen: Sequence[Event], finish: float) -> tuple[State, ...]:
    """The states as the controller saw them, the last until the cut-over's end."""
    states: list[State] = []
    for event in seen:
        name = text(event.data, "state")
        if states and states[-1].name == name:
            continue
        if states:
            states[-1] = State(states[-1].name, states[-1].start, max(states[-1].start, event.time))
        states.append(State(name, event.time, max(event.time, finish)))
    return tuple(states)
