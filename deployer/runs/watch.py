"""Turns what Ansible and the hosts say into events: what happened, where, in which phase, and how long it took."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from deployer.runs import results
from deployer.runs.broadcast import Broadcast
from deployer.runs.expected import Expected
from deployer.runs.problems import of_host, short
from deployer.runs.results import CUTOVER, ROLLOUT, Step, Summary, parse_event
from deployer.runs.runner import Event
from deployer.runs.wording import asides, diff_lines, transfer_note

PREFLIGHT_PHASE, CUTOVER_PHASE, OTHER = "preflight", "cutover", "other"
PHASE_OF_ROLE = {
    "preflight": PREFLIGHT_PHASE,
    "rollout_lock": "lock",
    "environment": "environment",
    "model": "model",
    "release": "release",
    "cutover": CUTOVER_PHASE,
}
# What a client is answered by once a cut-over has come to its end.
SERVES_AFTER = {"committed": "new", "unchanged": "new", "restored": "old", "refused": "old", "not_restored": "none"}
# Of a service's plan: all but the words and variables that its processes are started with.
STARTED_WITH = ("argv", "variables")
CUT_OVER = (
    *("outcome", "before", "after", "target", "adopted", "seconds", "probe", "reason", "warning"),
    *("by_hand", "measured"),
)
LEFT_ALONE = "nothing that serves was touched"
NOTHING_MORE: Mapping[str, str] = {}
MOST_DETAIL = 60  # lines of a failure


@dataclass
class _Place:
    """What a host is at."""

    phase: str = ""
    since: float = 0.0  # monotonic, when the phase began
    task_since: float = 0.0
    task: str = ""
    changed: bool = False
    ended: float = 0.0  # monotonic, when its latest step ended
    seen: float = 0.0  # the same by the clock on the wall
    lost: bool = False
    states: dict[str, str] = field(default_factory=dict)  # by service, while it is cut over
    over: dict[str, str] = field(default_factory=dict)  # outcomes by service


class Watch:
    """Folds one playbook into a summary, and tells what happens in it. The channel's thread may speak, too.

    Args:
        emit: takes the events.
        expected: how long things took before.
        planned: False where the plan is known already.
        everything: also the steps that changed nothing.
        diff: what changed, line by line, for check mode.
        clock: seconds that no change of the time of day disturbs.
    """

    def __init__(
        self,
        emit: Broadcast,
        expected: Expected | None = None,
        *,
        planned: bool = True,
        everything: bool = False,
        diff: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.summary = Summary()
        self.plan: Mapping[str, Any] = {}
        self._emit = emit
        self._expected = expected or Expected()
        self._plan_is_due = planned
        self._everything = everything
        self._diff = diff
        self._clock = clock
        self._phase = OTHER
        self._places: dict[str, _Place] = {}
        self._items_failed: set[tuple[str, str]] = set()
        self._lock = threading.RLock()

    def on_event(self, event: Event) -> None:
        """Take one event of ansible-runner."""
        with self._lock:
            if task := results.started_task(event):
                self._task(task, _phase_of(event))
            if line := results.progress_line(event):
                self._emit("message", level="info", text=line)
            step = parse_event(event)
            if step is not None:
                self.summary = self.summary.after(step)
                self._step(step, _phase_of(event))

    def told(self, kind: str, message: Mapping[str, Any]) -> None:
        """Take what was told over the channel; what is no kind of it, or makes no sense, is left out."""
        host, service = str(message.get("host") or ""), str(message.get("service") or "")
        with self._lock:
            place = self._places.setdefault(host, _Place())
            if kind == "state" and service not in place.over:
                state = place.states[service] = str(message.get("state") or "")
                expected = message.get("expected")
                self._emit(
                    "state",
                    host=host,
                    service=service,
                    state=state,
                    seconds=_number(message.get("seconds")),
                    expected=self._expected.cutover(host, service) if expected is None else _number(expected),
                    serving=str(message.get("serving") or "unknown"),
                )
            elif kind == "progress":
                rate = message.get("rate")
                self._emit(
                    "progress",
                    host=host,
                    phase=str(message.get("phase") or OTHER),
                    service=service,
                    done=_number(message.get("done")),
                    total=_number(message.get("total")),
                    unit=str(message.get("unit") or ""),
                    text=str(message.get("text") or ""),
                    **({} if rate is None else {"rate": _number(rate)}),
                )

    def finish(self) -> None:
        """Tell what is known only at the playbook's end."""
        with self._lock:
            self._tell_plan()
            self._end_phases("")

    def by_itself(self) -> dict[str, str]:
        """What every host does when nobody watches it any more, from what was last known of it."""
        with self._lock:
            return {host: _by_itself(place) for host, place in self._places.items() if host}

    def _task(self, task: str, phase: str) -> None:
        if self._plan_is_due and any(host.plan for host in self.summary.hosts.values()):
            self._tell_plan()
        if phase != self._phase:
            self._end_phases(phase)
            self._phase = phase
        if not task.startswith(results.ANSIBLES_OWN):
            self._emit("task", phase=phase, task=task)

    def _tell_plan(self) -> None:
        """Once all hosts were planned, whether or not what was found lets them go on."""
        hosts = self.summary.hosts.values()
        if self._plan_is_due and any(host.plan for host in hosts):
            self._plan_is_due = False
            self.plan = planned_hosts(self.summary)
            self._emit("plan", hosts=self.plan)

    def _end_phases(self, following: str) -> None:
        """Every host that is not in the phase that follows has ended its own."""
        for host, place in self._places.items():
            if place.phase and place.phase != following:
                if place.phase != OTHER and not place.lost:
                    self._tell_step(host, place, place.task, "ok", False, None, moment=place.seen, ends=True)
                place.phase = ""

    def _step(self, step: Step, phase: str) -> None:
        now = self._clock()
        place = self._places.setdefault(step.host, _Place())
        if step.kind == "started":
            if place.phase != phase:
                place.phase, place.since, place.changed = phase, now, False
                place.states = {}
            place.task, place.task_since = step.task, now
            return
        seconds = now - place.task_since if place.task == step.task else None
        place.ended, place.seen = now, time.time()
        changed = bool(step.result.get("changed"))
        place.changed = place.changed or changed
        for level, text in asides(step):
            self._emit("message", level=level, text=text)
        if step.action == CUTOVER and "outcome" in step.result and (step.item or step.kind != "ok"):
            self._cutover(step, place)
        stops = step.action == ROLLOUT and step.result.get("stopped")
        if step.kind != "ok" and not step.ignored and not stops:
            self._failed(step, place, seconds, told="outcome" in step.result)
        elif step.kind == "ok" and not step.item and (changed or self._everything) and step.action != CUTOVER:
            note = transfer_note(step.result) if step.action == results.RELAY else ""
            self._tell_step(step.host, place, step.task, "ok", changed, seconds, more={"note": note})
        if self._diff and step.kind == "ok" and step.action != CUTOVER:
            lines = diff_lines(step.result.get("diff"))
            if lines:
                self._emit("diff", host=step.host, task=step.task, lines=lines)

    def _failed(self, step: Step, place: _Place, seconds: float | None, told: bool) -> None:
        """Tell why, unless a cut-over's own event told it; the sum of a loop says nothing that its rounds did not."""
        kind = "unreachable" if step.kind == "unreachable" or step.result.get("unreachable") else "failed"
        problem = None if step.action == CUTOVER else of_host(step.message, step.host)
        first, *more = (step.message or "failed without a message").splitlines()
        if problem is not None:  # one that is known has its fix in one line, and Ansible's words are for who wants more
            first, more = short(step.message, step.host), step.message.splitlines() if self._everything else []
        said = (step.host, step.task) in self._items_failed and not step.item
        if step.item:
            self._items_failed.add((step.host, step.task))
        place.lost = place.lost or not step.item
        if step.item and told:
            return
        message = {} if said or told else {"message": first, "detail": "\n".join(more[:MOST_DETAIL])}
        service = _service_of(step)
        self._tell_step(
            step.host, place, step.task, kind, False, seconds, ends=not step.item, more={"service": service, **message}
        )

    def _tell_step(
        self,
        host: str,
        place: _Place,
        task: str,
        kind: str,
        changed: bool,
        seconds: float | None,
        *,
        moment: float | None = None,
        ends: bool = False,
        more: Mapping[str, str] = NOTHING_MORE,
    ) -> None:
        data: dict[str, Any] = {"host": host, "phase": place.phase, "task": task, "kind": kind, "changed": changed}
        data["seconds"] = None if seconds is None else round(seconds, 3)
        if ends:
            data["phase_seconds"] = round(max(0.0, place.ended - place.since), 3)
            data["phase_changed"] = place.changed
        data.update({key: value for key, value in more.items() if value})
        self._emit.tell("step", data, time.time() if moment is None else moment)

    def _cutover(self, step: Step, place: _Place) -> None:
        result = step.result
        service, outcome = str(result.get("service") or ""), str(result["outcome"])
        place.states.pop(service, None)
        place.over[service] = outcome
        told = {key: result.get(key) for key in CUT_OVER}
        failure = result.get("failure")
        evidence = failure.get("evidence", ()) if isinstance(failure, Mapping) else ()
        kind = str(failure.get("kind") or "") if isinstance(failure, Mapping) else ""
        log = str(result.get("log") or "")
        serving = SERVES_AFTER.get(outcome, "unknown")
        if serving == "old" and not (result.get("after") or result.get("adopted")):
            serving = "none"
        self._emit(
            "cutover",
            host=step.host,
            service=service,
            **told,
            serving=serving,
            failure={"kind": kind, "evidence": [str(line) for line in evidence]},
            log=log,
        )


def planned_hosts(summary: Summary) -> dict[str, Any]:
    """The plan of every host, as `plan --json` has it but for what processes are started with, which may be secret."""
    return {name: _planned(host) for name, host in summary.hosts.items()}


def _planned(host: results.HostResult) -> dict[str, Any]:
    plan = host.plan
    if plan is None:
        return {
            "reachable": not host.unreachable,
            "failure": host.failure,
            "services": [],
            "findings": [],
            "exit_code": 2,
        }
    services = [
        {key: value for key, value in one.items() if key not in STARTED_WITH} for one in plan.get("services", ())
    ]
    return {
        "reachable": True,
        "failure": "",
        "services": services,
        "findings": list(plan.get("findings", ())),
        "checks": list(plan.get("checks", ())),
        "exit_code": int(plan["exit_code"]),
        "assumed_gpus": str(plan.get("assumed_gpus") or ""),
    }


def planned_summary(hosts: Mapping[str, Mapping[str, Any]]) -> Summary:
    """The other way round: the hosts of a `plan` event, for the views that show a plan."""
    found = {}
    for name, one in hosts.items():
        plan = one if "checks" in one else None
        found[name] = results.HostResult(
            name, plan=plan, failure=str(one.get("failure") or ""), unreachable=not one.get("reachable", True)
        )
    return Summary(found)


def _phase_of(event: Mapping[str, Any]) -> str:
    data = event.get("event_data")
    role = str(data.get("role") or "") if isinstance(data, Mapping) else ""
    return PHASE_OF_ROLE.get(role.rpartition(".")[2], OTHER)


def _service_of(step: Step) -> str:
    item = step.result.get("item")
    named = item.get("service") if isinstance(item, Mapping) else None
    return str(step.result.get("service") or named or "")


def _number(value: Any) -> float | int:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return value
    return 0


def _by_itself(place: _Place) -> str:
    if place.phase != CUTOVER_PHASE:
        done = _outcomes(place)
        return done or f"{LEFT_ALONE}; what was staged stays, and the next run goes on from there"
    parts = list(_ways(place)) or ["finishes its cut-over or restores what served before, by itself"]
    return "; ".join(filter(None, (_outcomes(place), *parts)))


def _ways(place: _Place) -> Iterator[str]:
    for service, state in place.states.items():
        if state == "commit":
            yield f"{service} has passed its gate: the host finishes the switch by itself"
        elif state == "restore":
            yield f"{service} did not pass: the host goes on to restore what served before, by itself"
        else:
            yield f"{service} is at {state or 'its beginning'}: the host finishes or restores by itself"
    if not place.states and place.over:
        yield "what follows on it finishes or restores by itself"


def _outcomes(place: _Place) -> str:
    return ", ".join(f"{service} is {outcome}" for service, outcome in place.over.items())
