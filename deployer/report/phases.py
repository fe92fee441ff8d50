"""Phases as intervals per host: a pure function of events.

A task starts on all hosts at once, so that is when its phase begins on each; what a host says after that shows how long
the phase lasted there. What serves in batches has the same phase several times, each time on other hosts.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from deployer.report.model import DONE, LOST, UNSEEN, Phase
from deployer.report.reading import number, text
from deployer.report.words import PART, amount
from deployer.runs.events import Event

CUTOVER = "cutover"
OF_HOSTS = ("step", "progress", "state", "cutover")


@dataclass
class _Blocks:
    """When each phase was last begun, and for which time."""

    since: dict[str, tuple[float, int]] = field(default_factory=dict)
    last: str = ""

    def task(self, phase: str, time: float) -> None:
        if phase != self.last:
            self.since[phase] = (time, self.since.get(phase, (0.0, 0))[1] + 1)
        self.last = phase


def phases(events: Iterable[Event], finish: float) -> dict[str, tuple[Phase, ...]]:
    """The phases of every host that was heard of, in the order in which they began.

    Args:
        events: of the whole run.
        finish: until when the run was seen.
    """
    blocks = _Blocks()
    found: dict[str, dict[tuple[str, int], Phase]] = {}
    for event in events:
        if event.kind == "task":
            blocks.task(text(event.data, "phase") or "other", event.time)
        elif event.kind in ("batch", "restoring"):
            blocks.last = ""
        host = text(event.data, "host")
        if event.kind not in OF_HOSTS or not host:
            continue
        name = CUTOVER if event.kind in ("state", "cutover") else text(event.data, "phase") or "other"
        since, block = blocks.since.get(name, (event.time, 0))
        of_host = found.setdefault(host, {})
        known = of_host.get((name, block))
        if known is None:
            before = max((one.end for one in of_host.values()), default=since)
            known = Phase(name, min(event.time, max(since, before)), event.time)
        of_host[name, block] = _after(known, event)
    return {host: _closed(list(of_host.values()), finish) for host, of_host in found.items()}


def _after(phase: Phase, event: Event) -> Phase:
    """A phase with one more event of its host."""
    ending, said = _ending(event), phase.amount
    if event.kind == "progress":
        said = amount(number(event.data, "done"), number(event.data, "total"), text(event.data, "unit")) or said
    start = phase.start
    if event.kind == "step":
        whole = number(event.data, "phase_seconds")  # as the phase's last step has it
        start = event.time - whole if whole else min(start, event.time - number(event.data, "seconds"))
    return Phase(phase.name, start, max(phase.end, event.time), LOST if phase.ending == LOST else ending, said)


def _ending(event: Event) -> str:
    if event.kind == "step":
        return LOST if text(event.data, "kind") in ("failed", "unreachable") else DONE
    if event.kind == "cutover":
        return DONE if text(event.data, "outcome") in ("committed", "unchanged", "planned") else LOST
    return UNSEEN


def _closed(found: list[Phase], finish: float) -> tuple[Phase, ...]:
    """The phases of a host: one is over when the next has begun, only the last may have gone on until the end."""
    over = [replace(one, ending=DONE) if one.ending == UNSEEN else one for one in found[:-1]]
    last = found[-1]
    over.append(replace(last, end=max(last.end, finish)) if last.ending == UNSEEN else last)
    # What was not seen to reach its total, and ended well, has done so between two looks.
    return tuple(replace(one, amount="") if one.ending == DONE and PART in one.amount else one for one in over)
