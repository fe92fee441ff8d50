"""The walk through a migration, step by step: what is done, done again, asked, and gone back on.

Nothing here knows how the verbs do it. Every change of the state is handed over before what follows from it is begun.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.migration import steps
from deployer.migration.hosts import begun, came_to, left_alone, targets_back, went_back
from deployer.migration.state import (
    BACK,
    DONE,
    FAILED,
    PENDING,
    RUNNING,
    SKIPPED,
    STOPPED,
    TAKEN_BACK,
    Judged,
    Return,
    State,
    StepState,
    Switched,
)
from deployer.migration.steps import STEPS, step_named
from deployer.migration.verbs import Changed, PlannedService, Question, Seat, Verbs
from deployer.runs import results
from deployer.wording import counted

# The exit codes of a rollout, and what a step that ends so is at.
AFTER = {results.DONE: DONE, results.STOPPED: STOPPED}
NOT_AGREED = "not agreed to; what serves is as it was"
GOES_BACK = "the comparison did not pass, and the canary went back"


class _NotKept(Exception):
    """The state cannot be written any more: nothing is begun that nobody would know of."""


@dataclass(frozen=True)
class Came:
    """What a step came to.

    Args:
        state: of the step.
        says: in a line.
        problems: a line each.
        run: that it was done by.
        code: with which the walk ends here; None where it goes on.
        returns: the canary goes back, and the walk ends.
    """

    state: str
    says: str = ""
    problems: tuple[str, ...] = ()
    run: str = ""
    code: int | None = None
    returns: bool = False


def walk(
    state: State,
    verbs: Verbs,
    seat: Seat,
    keep: Callable[[State], None],
    *,
    until: str = "",
    clock: Callable[[], float] = time.time,
) -> State:
    """Go on with a migration from the first step that is not over.

    Args:
        state: of it.
        verbs: what it is done by.
        seat: who is asked, and told.
        keep: takes every state, so that a walk that is killed goes on from it.
        until: name of the step after which to stop; '' for all.
        clock: seconds since the epoch.

    Returns:
        The state, with the exit code and what it means.

    Raises:
        DeployError: there is no such step, or going back was begun and not finished.
    """
    if until:
        step_named(until)
    one = _Walk(state, verbs, seat, keep, clock)
    return one.as_kept(lambda: one.go(until))


def go_back(
    state: State,
    verbs: Verbs,
    seat: Seat,
    keep: Callable[[State], None],
    *,
    clock: Callable[[], float] = time.time,
) -> State:
    """Bring every host that a migration has switched back to what served before it; otherwise as `walk`."""
    one = _Walk(state, verbs, seat, keep, clock)
    return one.as_kept(one.back)


class _Walk:
    def __init__(
        self, state: State, verbs: Verbs, seat: Seat, keep: Callable[[State], None], clock: Callable[[], float]
    ) -> None:
        self._state = state
        self._verbs = verbs
        self._seat = seat
        self._keep = keep
        self._clock = clock
        self._inventory = ""
        self._compared = False  # in this call
        self._planned: tuple[PlannedService, ...] = ()
        self._there: tuple[str, ...] = ()  # the hosts of the inventory, once it was planned
        self._touched = False  # a host may have been switched by this call
        self._do: Mapping[str, Callable[[], Came]] = {
            steps.DOCTOR: self._doctor,
            steps.ADOPT: self._adopt,
            steps.PLAN: self._plan,
            steps.STAGE: self._stage,
            steps.MEASURE: self._measure,
            steps.CANARY: self._canary,
            steps.COMPARE: self._compare,
            steps.CONFIRM: self._confirm,
            steps.ROLLOUT: self._rollout,
            steps.REPORT: self._report,
        }

    def as_kept(self, do: Callable[[], State]) -> State:
        """What a walk comes to; where the state cannot be written, that ends it, in words and an exit code."""
        try:
            return do()
        except _NotKept as error:
            code = results.NOT_RESTORED if self._touched else results.REFUSED
            looks = "; what hosts serve: python -m deployer status" if self._touched else ""
            meaning = f"the state of this migration cannot be written: {error}. Make room, and go on{looks}"
            self._seat.tell("migration.ended", exit_code=code, meaning=meaning, ended="")
            return replace(self._state, exit_code=code, meaning=meaning)

    def go(self, until: str) -> State:
        if self._state.back is not None and self._state.back.step.state != DONE:
            if self._state.back.whole:
                fix = "go on with it: migrate --back; a host that is gone for good, take out of the inventory first"
                raise DeployError("going back was begun, and is not done", fix)
            return self._take_back((self._state.canary,), whole=False)
        self._inventory = self._verbs.inventory()
        self._note(self._to_look_at_again())
        for step in STEPS:
            if not self._state.step(step.name).over:
                came = self._step(step.name)
                if came.returns:
                    return self._take_back((self._state.canary,), whole=False)
                if came.code is not None:
                    return self._end(came.code, f"{step.name}: {came.says}")
            if step.name == until and step.name != STEPS[-1].name:
                return self._end(results.DONE, f"stopped after {until}, as asked")
        self._note(replace(self._state, ended=DONE))
        return self._end(results.DONE, "")

    def _to_look_at_again(self) -> State:
        """What was done for another description is done again; and the plan, before anything more is switched."""
        state = replace(self._state.described_by(self._inventory), meaning="")
        if state.step(steps.CANARY).over and state.step(steps.ROLLOUT).over:
            return state
        return state.without(steps.ADOPT, steps.PLAN)

    def back(self) -> State:
        hosts = self._state.switched
        if not hosts:
            self._note(replace(self._state, ended=BACK))
            return self._end(results.DONE, "no host had been switched: there is nothing to go back on")
        question = Question(BACK, f"{_names(hosts)} to go back to what served before", hosts)
        if self._seat.asks and not self._seat.agrees(question, self._state):
            return self._end(results.STOPPED, NOT_AGREED)
        return self._take_back(hosts, whole=True)

    def _step(self, name: str) -> Came:
        before = self._state.step(name)
        refused = self._asked_first(name)
        if refused is not None:
            return refused
        began = self._clock()
        self._change(name, state=RUNNING, started=began, ended=0.0, says="", problems=(), inventory=self._inventory)
        of = {"number": steps.NAMES.index(name) + 1, "of": len(STEPS)}
        self._seat.tell("migration.step", step=name, state=RUNNING, says=step_named(name).says, **of)
        try:
            came = self._do[name]()
        except DeployError as error:
            came = Came(FAILED, error.problem, (_line(error),), code=results.REFUSED)
        except KeyboardInterrupt:
            came = Came(STOPPED, "interrupted; it is done again", code=results.STOPPED)
        runs = (*before.runs, came.run) if came.run else before.runs
        self._change(name, state=came.state, ended=self._clock(), says=came.says, problems=came.problems, runs=runs)
        self._tell(name)
        return came

    def _asked_first(self, name: str) -> Came | None:
        """Before the canary is switched somebody agrees; what it runs already is no switch."""
        if name != steps.CANARY or not self._seat.asks or self._stays(self._state.canary):
            return None
        question = Question(steps.CANARY, f"{self._state.canary} to be switched", (self._state.canary,))
        if self._seat.agrees(question, self._state):
            return None
        return Came(PENDING, NOT_AGREED, code=results.STOPPED)

    def _doctor(self) -> Came:
        found = self._verbs.doctor(self._state.settings.max_fail)
        return Came(DONE if found.good else FAILED, found.says, found.problems, code=_unless(found.good))

    def _adopt(self) -> Came:
        found = self._verbs.adopt(self._state.settings.services, self._state.settings.max_fail)
        serving: dict[str, dict[str, Switched]] = {}
        for host, services in found.serving.items():
            for service, one in services.items():
                known = self._state.hosts.get(host, {}).get(service, Switched())
                serving.setdefault(host, {})[service] = known.as_found(one.release, one.engine)
        self._note(self._with_found(serving))
        return Came(DONE if found.good else FAILED, found.says, found.problems, code=_unless(found.good))

    def _with_found(self, serving: Mapping[str, Mapping[str, Switched]]) -> State:
        """The state with what serves now; a canary that somebody has switched meanwhile is begun with anew."""
        state = self._state.with_hosts(serving)
        pairs = [
            (one, state.hosts[state.canary][name]) for name, one in self._state.hosts.get(state.canary, {}).items()
        ]
        if self._state.measured and any(known.before != found.before for known, found in pairs):
            again = state.without(steps.MEASURE, steps.CANARY, steps.COMPARE, steps.CONFIRM)
            return replace(again, compared=(), comparison=None)
        if any(known.switched and not found.switched for known, found in pairs):
            return replace(state.without(steps.CANARY, steps.COMPARE, steps.CONFIRM), comparison=None)
        return state

    def _plan(self) -> Came:
        settings = self._state.settings
        found = self._verbs.plan(settings.services, settings.max_fail)
        if not found.good:
            return Came(FAILED, found.says, found.problems, code=results.REFUSED)
        self._planned = found.services
        self._there = (*dict.fromkeys(one.host for one in found.services), *found.lost)
        hosts: dict[str, dict[str, Switched]] = {}
        for one in found.services:
            known = self._state.hosts.get(one.host, {}).get(one.service, Switched())
            hosts.setdefault(one.host, {})[one.service] = known
        left = {host: services for host, services in self._state.hosts.items() if host in self._state.switched}
        lost = {host: self._state.hosts.get(host, {}) for host in found.lost}
        self._note(replace(self._state, hosts={**hosts, **left, **lost}))
        self._choose(found.services, found.lost)
        gone = [host for host in left if host not in self._there]
        problems = [
            f"{host} was switched, and the plan does not have it any more: it is left as it is" for host in gone
        ]
        return Came(DONE, f"{found.says}; the canary is {self._state.canary}", (*found.problems, *problems))

    def _choose(self, planned: Sequence[PlannedService], lost: Sequence[str]) -> None:
        """The host that is switched first: the one that was named, or was chosen before, or has something to compare.

        Raises:
            DeployError: the one that was named is none of the plan, or there is none.
        """
        hosts = list(dict.fromkeys(one.host for one in planned))
        named = self._state.settings.canary
        if named in lost:
            raise DeployError(f"the canary {named} could not be planned", "mend what is wrong with it, and go on")
        if named and named not in hosts:
            fix = f"use one of {_names(hosts)}" if hosts else "see: python -m deployer plan"
            raise DeployError(f"--canary {named}: the plan has no such host", fix)
        if not hosts:
            raise DeployError("the plan has no host that a service is described for", "see: python -m deployer plan")
        changing = [host for host in hosts if not self._stays(host)]
        comparable = [host for host in changing if any(one.before for one in self._state.hosts[host].values())]
        before = self._state.canary if self._state.canary in hosts else ""
        chosen = named or before or [*comparable, *changing, *hosts][0]
        if chosen != self._state.canary:
            again = self._state.without(steps.MEASURE, steps.CANARY, steps.COMPARE, steps.CONFIRM)
            self._note(replace(again, canary=chosen, compared=(), comparison=None))

    def _stays(self, host: str) -> bool:
        """All of its services run already what is described."""
        return all(one.stays for one in self._planned if one.host == host)

    def _stage(self) -> Came:
        return _of(self._verbs.stage(self._state.settings.max_fail))

    def _measure(self) -> Came:
        canary, settings = self._state.canary, self._state.settings
        changing = [one.service for one in self._planned if one.host == canary and not one.stays]
        known = self._state.hosts[canary]
        old = [service for service in changing if known[service].before and not known[service].switched]
        if not settings.compare:
            return Came(SKIPPED, "as asked: nothing is compared")
        if not changing:
            return Came(SKIPPED, f"{canary} runs the described release already: there is nothing to compare")
        if not old:
            return Came(SKIPPED, f"nothing that was there before serves on {canary}: there is nothing to compare with")
        found = self._verbs.record(canary, old, settings)
        self._note(replace(self._state, compared=found.services))
        if found.problems:
            says = f"{canary} could not be measured"
            return Came(FAILED, says, found.problems, code=results.REFUSED)
        return Came(DONE, f"measured {', '.join(found.services)} on {canary}")

    def _canary(self) -> Came:
        self._note(replace(self._state.without(steps.COMPARE, steps.CONFIRM), comparison=None))
        return self._switch((self._state.canary,), (), 0)

    def _switch(self, hosts: Sequence[str], batches: Sequence[int | str], max_fail: int | str) -> Came:
        """Roll out; what is under way counts as switched from its beginning on, as nobody may see its end."""
        earlier = {host: self._state.hosts[host] for host in hosts}
        self._note(self._state.with_hosts(begun(earlier)))
        self._touched = True
        try:
            changed = self._verbs.rollout(hosts, self._state.settings.services, batches, max_fail)
        except DeployError:
            self._note(self._state.with_hosts(earlier))
            raise
        self._note(self._state.with_hosts(came_to(earlier, changed)))
        return _of(changed)

    def _compare(self) -> Came:
        state = self._state
        if not state.compared or not state.settings.compare:
            return Came(SKIPPED, "nothing was measured to compare with")
        try:
            judged = self._verbs.compare(state.canary, state.compared, state.settings)
        except DeployError as error:
            judged = Judged(False, ("it could not be measured again",), (_line(error),))
        self._compared = True
        self._note(replace(self._state, comparison=judged))
        if judged.passed or self._seat.asks:
            says = "passed" if judged.passed else "did not pass"
            return Came(DONE, f"{says}: {'; '.join(judged.lines)}", judged.misses)
        return Came(FAILED, f"did not pass: {'; '.join(judged.lines)}", judged.misses, returns=True)

    def _confirm(self) -> Came:
        state = self._state
        judged = None
        if state.step(steps.COMPARE).state == DONE:
            # What was asked for may be another since then.
            judged = state.comparison if self._compared else self._verbs.judge(state.compared, state.settings)
            self._note(replace(state, comparison=judged))
        passed = judged is None or judged.passed
        if not self._others and passed:
            return Came(SKIPPED, f"there is no host but {state.canary}")
        if self._seat.asks:
            others = self._others
            text = f"{_names(others)} to be switched" if others else f"{state.canary} to stay as it is"
            if self._seat.agrees(Question(steps.CONFIRM, text, others), self._state):
                return Came(DONE, "agreed to" if passed else "agreed to, though the comparison did not pass")
            return Came(PENDING, f"not agreed to; {state.canary} stays as it is", code=results.STOPPED)
        if not passed:
            return Came(FAILED, GOES_BACK, judged.misses if judged else (), returns=True)
        return Came(DONE, "the comparison passed" if judged else "there was nothing to compare")

    def _rollout(self) -> Came:
        settings = self._state.settings
        if not self._others:
            return Came(SKIPPED, f"there is no host but {self._state.canary}")
        return self._switch(self._others, settings.batches, settings.max_fail)

    @property
    def _others(self) -> tuple[str, ...]:
        """The hosts of the plan but the canary."""
        return tuple(host for host in self._state.others if host in self._there)

    def _report(self) -> Came:
        self._verbs.report(self._state)
        return Came(DONE, "report.html")

    def _take_back(self, hosts: Sequence[str], *, whole: bool) -> State:
        """Bring hosts back, and end: the canary, as its comparison did not pass, or all, as that was asked for."""
        began = self._clock()
        self._note(replace(self._state, back=Return(tuple(hosts), whole, StepState(RUNNING, began)), ended=""))
        left: Mapping[str, Mapping[str, Switched]] = {}
        wanted: Mapping[str, Mapping[str, str]] = {}
        without: Mapping[str, tuple[str, ...]] = {}
        why: tuple[str, ...] = ()
        try:
            left, why = left_alone(self._state.hosts, hosts, self._verbs.serves_now())
            self._note(self._state.with_hosts(left))
            wanted, without = targets_back(self._state, hosts)
            self._seat.tell("migration.back", state=RUNNING, targets=wanted, without=without)
            changed = self._bring_back(wanted)
        except DeployError as error:
            changed = Changed(results.REFUSED, error.problem, problems=(_line(error),))
        except KeyboardInterrupt:
            changed = Changed(results.STOPPED, "interrupted; going back is not done")
        self._note(self._state.with_hosts(went_back(self._state.hosts, changed)))
        good = changed.code == results.DONE
        stays = "".join(f"; {host} had no {', '.join(names)} before: it stays" for host, names in without.items())
        serve = "serve" if len(wanted) > 1 else "serves"
        says = f"{_names(list(wanted))} {serve} what served before" if good and wanted else changed.says
        still = [host for host in wanted if host in self._state.switched]
        says = f"{_names(still)} did not go back: {says}" if whole and still and not good else says
        says += f"; {_names(list(left))} left as {'they are' if len(left) > 1 else 'it is'}" if left else ""
        step = StepState(
            DONE if good else FAILED,
            began,
            self._clock(),
            says + stays,
            (*changed.problems, *why),
            (changed.run,) if changed.run else (),
        )
        self._note(replace(self._state, back=Return(tuple(hosts), whole, step)))
        self._seat.tell("migration.back", state=step.state, says=step.says, problems=list(step.problems))
        for name in (steps.CANARY, *((steps.ROLLOUT,) if whole else ())):
            if good and self._state.step(name).state != PENDING:
                self._change(name, state=TAKEN_BACK)
        if whole:
            if good:
                self._note(replace(self._state, ended=BACK))
            return self._end(changed.code, step.says)
        if good:
            return self._end(results.RESTORED, f"{GOES_BACK}: {says}")
        code = results.RESTORED if changed.code == results.REFUSED else changed.code
        return self._end(code, f"the comparison did not pass, and the canary did not go back: {says}")

    def _bring_back(self, wanted: Mapping[str, Mapping[str, str]]) -> Changed:
        if not wanted:
            return Changed(results.DONE, "there is nothing to go back to")
        self._touched = True
        return self._verbs.back(wanted, self._state.settings.batches, self._state.settings.max_fail)

    def _end(self, code: int, meaning: str) -> State:
        self._note(replace(self._state, exit_code=code, meaning=meaning))
        try:
            self._verbs.report(self._state)
        except DeployError as error:
            self._seat.tell("message", level="error", text=_line(error))
        self._seat.tell("migration.ended", exit_code=code, meaning=meaning, ended=self._state.ended)
        return self._state

    def _note(self, state: State) -> None:
        if state != self._state:
            self._state = state
            try:
                self._keep(state)
            except OSError as error:
                raise _NotKept(error.strerror or str(error)) from error

    def _change(self, name: str, **changes: Any) -> None:
        self._note(self._state.with_step(name, **changes))

    def _tell(self, name: str) -> None:
        step = self._state.step(name)
        seconds = round(max(0.0, step.ended - step.started), 1)
        self._seat.tell(
            "migration.step",
            step=name,
            state=step.state,
            says=step.says,
            problems=list(step.problems),
            seconds=seconds,
        )


def _of(changed: Changed) -> Came:
    good = changed.code == results.DONE
    if good and changed.interrupted:
        says = f"{changed.says}; interrupted: nothing more is begun"
        return Came(DONE, says, changed.problems, changed.run, code=results.STOPPED)
    state = AFTER.get(changed.code, FAILED)
    return Came(state, changed.says, changed.problems, changed.run, code=None if good else changed.code)


def _line(error: DeployError) -> str:
    """An error without its detail, which may be pages that Ansible printed."""
    return str(DeployError(error.problem, error.fix))


def _unless(good: bool) -> int | None:
    return None if good else results.REFUSED


def _names(hosts: Sequence[str]) -> str:
    if len(hosts) <= 6:
        return ", ".join(hosts)
    return f"{', '.join(hosts[:3])} and {counted(len(hosts) - 3, 'more host')}"
