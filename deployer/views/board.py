"""What every host of a run is at: folded from events, a pure function; the live view draws it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from deployer.runs.events import Event

WAITING, ACTIVE, DONE, LOST = "waiting", "active", "done", "failed"
STAGED = "staged"
STAGES = ("preflight", "lock", "environment", "model", "release", "cutover")


@dataclass(frozen=True)
class Progress:
    """How far something is; a total of 0 is not known."""

    done: float = 0
    total: float = 0
    unit: str = ""
    text: str = ""
    rate: float = 0


@dataclass(frozen=True)
class HostLine:
    """One host.

    Args:
        name: as the inventory has it.
        status: WAITING, ACTIVE, DONE or LOST.
        phase: or the state of its cut-over.
        since: when that began.
        expected: seconds that it is expected to take; None where nobody knows.
        progress: of what it is at; None where nothing is measured.
        serving: what clients of its services see, by service.
        outcome: of its cut-overs, or why it is lost.
    """

    name: str
    status: str = WAITING
    phase: str = ""
    since: float = 0.0
    expected: float | None = None
    progress: Progress | None = None
    serving: Mapping[str, str] = field(default_factory=dict)
    outcome: str = ""


@dataclass(frozen=True)
class Board:
    """The whole run.

    Args:
        verb: what is done.
        check: True where nothing is changed.
        began: when.
        task: that is under way on all hosts.
        phase: that it belongs to.
        batch: of how many; (0, 0) before the first.
        hosts: by name, in the order in which they were met.
        later: hosts that no batch was begun with.
        restoring: True while every host is brought back.
        interrupted: how often an end was asked for.
    """

    verb: str = ""
    check: bool = False
    began: float = 0.0
    task: str = ""
    phase: str = ""
    batch: tuple[int, int] = (0, 0)
    hosts: Mapping[str, HostLine] = field(default_factory=dict)
    later: int = 0
    restoring: bool = False
    interrupted: int = 0

    def after(self, event: Event, now: float) -> Board:
        """The board with one more event.

        Args:
            event: what happened.
            now: seconds by a clock that only goes forward.
        """
        data = event.data
        if event.kind == "run.started":
            return replace(self, verb=str(data["verb"]), check=bool(data["check"]), began=now)
        if event.kind == "plan":
            return self._with(*(self._planned(name, one) for name, one in data["hosts"].items()))
        if event.kind == "task":
            return self._task(data, now)
        if event.kind == "step":
            return self._with(_stepped(self._host(data), data, now))
        if event.kind == "progress":
            amounts = (data["done"], data["total"], data["unit"], data["text"], data.get("rate", 0))
            progress = Progress(*amounts)
            host = replace(self._host(data), progress=progress)
            return self._with(host if host.status in (DONE, LOST) else _at(host, str(data["phase"]), now))
        if event.kind == "state":
            return self._with(_switching(self._host(data), data, now))
        if event.kind == "cutover":
            return self._with(_switched(self._host(data), data, now))
        if event.kind == "batch":
            begun = [_at(self._named(name), "cutover", now) for name in data["hosts"]]
            return replace(self._with(*begun), batch=(data["batch"], data["of"]), later=int(data["later"] or 0))
        if event.kind == "restoring":
            return replace(self, restoring=True)
        if event.kind == "interrupted":
            return replace(self, interrupted=int(data["count"]))
        return self

    def count(self, status: str) -> int:
        """How many hosts are so."""
        return sum(host.status == status for host in self.hosts.values())

    def _named(self, name: str) -> HostLine:
        return self.hosts.get(name, HostLine(name))

    def _host(self, data: Mapping[str, Any]) -> HostLine:
        return self._named(str(data["host"]))

    def _with(self, *changed: HostLine) -> Board:
        return replace(self, hosts={**self.hosts, **{host.name: host for host in changed if host.name}})

    def _planned(self, name: str, one: Mapping[str, Any]) -> HostLine:
        services = [service for service in one.get("services", ()) if service.get("role") != "predecessor"]
        serving = {str(service["service"]): "old" if _serves_now(service) else "none" for service in services}
        return replace(self._named(name), serving={**serving, **self._named(name).serving})

    def _task(self, data: Mapping[str, Any], now: float) -> Board:
        phase = str(data["phase"])
        board = replace(self, task=str(data["task"]), phase=phase)
        # In a cut-over only the hosts of the batch take part; what stands in no phase is the controller's.
        if phase in STAGES and phase != "cutover":
            return board._with(*(_at(host, phase, now) for host in self.hosts.values() if host.status != LOST))
        return board


def _serves_now(service: Mapping[str, Any]) -> bool:
    """True where a plan knows of something that serves, deployed or by hand."""
    return bool((service.get("current") or {}).get("runs") or service.get("by_hand"))


def _at(host: HostLine, phase: str, now: float) -> HostLine:
    """The host in a phase; where it is in it already, as it is."""
    if host.status == ACTIVE and (host.phase == phase or (phase == "cutover" and host.phase not in STAGES)):
        return host
    return replace(host, status=ACTIVE, phase=phase, since=now, expected=None, progress=None)


def _stepped(host: HostLine, data: Mapping[str, Any], now: float) -> HostLine:
    if data["kind"] != "ok":
        lost = str(data.get("message") or host.outcome or data["task"])
        outcome = host.outcome if data["phase"] == "cutover" and host.outcome else lost
        return replace(host, status=LOST, phase=str(data["phase"]), outcome=outcome, progress=None)
    if host.status == LOST or "phase_seconds" not in data:
        return host
    if data["phase"] == "cutover":
        return replace(host, status=DONE, progress=None)
    phase = STAGED if data["phase"] == "release" else f"{data['phase']} done"
    return replace(host, status=WAITING, phase=phase, progress=None)


def _switching(host: HostLine, data: Mapping[str, Any], now: float) -> HostLine:
    serving = {**host.serving, str(data["service"]): str(data["serving"])}
    began = now - float(data["seconds"])
    progress = host.progress if host.phase == data["state"] else None
    at = replace(host, status=ACTIVE, phase=str(data["state"]), since=began, progress=progress)
    return replace(at, expected=data.get("expected"), serving=serving)


def _switched(host: HostLine, data: Mapping[str, Any], now: float) -> HostLine:
    outcome = str(data["outcome"])
    serving = {**host.serving, str(data["service"]): str(data["serving"])}
    lost = outcome in ("restored", "not_restored", "refused")
    return replace(
        host, status=LOST if lost else DONE, phase="cutover", serving=serving, outcome=outcome, progress=None
    )


def to_show(board: Board, rows: int) -> tuple[Sequence[HostLine], Sequence[HostLine]]:
    """The hosts that there is room for, in their order, and the rest: what is under way or failed comes first."""
    hosts = list(board.hosts.values())
    if len(hosts) <= rows:
        return hosts, ()
    rank = {ACTIVE: 0, LOST: 1, WAITING: 2, DONE: 3}
    chosen = {host.name for host in sorted(hosts, key=lambda host: rank[host.status])[: max(1, rows - 1)]}
    return [host for host in hosts if host.name in chosen], [host for host in hosts if host.name not in chosen]
