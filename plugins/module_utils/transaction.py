"""The cut-over on a host: stop the old release, prove it stopped, start the new one, gate it, commit - or restore."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils import journal, procfs
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import exclusive_lock, point_link
from ansible_collections.deployer.sglang.plugins.module_utils.gate import (
    LOG_LINES,
    GateFailure,
    Subject,
    answers,
    pass_gate,
)
from ansible_collections.deployer.sglang.plugins.module_utils.release import StagedRelease, load_gate, load_release
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder, Store
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import supervisor_for
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import RunState, Supervisor, stop

UNCHANGED = "unchanged"  # the release serves already
COMMITTED = "committed"  # it serves now
RESTORED = "restored"  # it did not pass; what served before serves again, or nothing did before
NOT_RESTORED = "not_restored"  # it did not pass, and neither did what served before: look at this host
REFUSED = "refused"  # nothing was touched
PLANNED = "planned"  # check mode: it would be switched

PREVIOUS = "previous"  # what `resolve` takes besides a release id


@dataclass(frozen=True)
class Outcome:
    """What a cut-over came to.

    Args:
        outcome: one of the constants above.
        before: the release that was committed before, None when there was none.
        after: the release that is committed now.
        target: the release that was asked for.
        probe: what the target failed on; '' when it did not fail.
        reason: one line; '' when nothing failed.
        log: the last lines of the failed release's log.
        seconds: how long each state took.
    """

    outcome: str
    before: str | None
    after: str | None
    target: str
    probe: str = ""
    reason: str = ""
    log: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """True when the target does not serve."""
        return self.outcome in (RESTORED, NOT_RESTORED)


class _Clock:
    """Measures the states, and puts each on disk before it is entered."""

    def __init__(self, folder: ServiceFolder, entry: Mapping[str, Any]) -> None:
        self.folder, self.entry = folder, entry
        self.seconds: dict[str, float] = {}
        self._state, self._since = "", time.monotonic()

    def enter(self, state: str) -> None:
        self.leave()
        journal.enter(self.folder, state, **self.entry)
        self._state, self._since = state, time.monotonic()

    def leave(self) -> None:
        if self._state:
            self.seconds[self._state] = round(time.monotonic() - self._since, 2)
        self._state = ""


def resolve(folder: ServiceFolder, target: str) -> str:
    """The id of the release that `target` names: an id, or PREVIOUS, which falls back to the predecessor.

    Raises:
        DeployError: there is nothing to go back to.
    """
    if target != PREVIOUS:
        return target
    current = folder.release_of("current")
    unfinished = journal.unfinished(folder)
    if current is not None and unfinished is not None and unfinished.get("to") != current:
        return current  # what was cut off never served: what served before it is what is committed
    for role in (PREVIOUS, "predecessor"):
        found = folder.release_of(role)
        if found is not None and found != current:
            return found
    raise DeployError(
        "there is no earlier release on this host, and no predecessor was staged",
        "describe predecessor: in the service and deploy, or deploy the release that you want",
    )


def would_change(root: str, service: str, target: str) -> bool:
    """True when `cut_over` would do something."""
    folder = Store(root).service(service)
    if folder.release_of("current") != target or journal.unfinished(folder):
        return True
    staged = load_release(folder.release(target))
    supervisor = supervisor_for(staged.release.supervisor, service, folder)
    return not answers(Subject(staged, supervisor))


def cut_over(root: str, service: str, target: str, initiator: str) -> Outcome:
    """Bring `service` to the release `target`, or back to what served before.

    Args:
        root: the deployment's root folder on this host.
        service: the service's name.
        target: the id of a staged release.
        initiator: who asked for it, for the journal.
    Raises:
        DeployError: refused: something is missing or in the way, and nothing was touched.
    """
    folder = Store(root).service(service)
    if not os.path.isdir(folder.path):
        raise DeployError(f"service {service} was never staged on this host", "deploy it first")
    busy = f"another cut-over of {service} is under way on this host"
    # A look at the status holds the lock for a moment, a cut-over holds it to its end.
    with exclusive_lock(folder.lock, patience=2, busy=busy):
        if not would_change(root, service, target):
            return Outcome(UNCHANGED, target, target, target)
        return _Transaction(folder, service, target, initiator).run()


class _Transaction:
    """One cut-over, under the service's lock."""

    def __init__(self, folder: ServiceFolder, service: str, target: str, initiator: str) -> None:
        self.folder = folder
        self.service = service
        self.new = load_release(folder.release(target))
        self.supervisor = self._supervisor(self.new)
        self.before = folder.release_of("current")
        self.previous = folder.release_of(PREVIOUS)
        self.old, self.old_problem = self._load_old()
        self.interrupted = journal.unfinished(folder)
        self.entry = {"from": self.before, "to": target, "initiator": initiator}
        self.clock = _Clock(folder, self.entry)

    def run(self) -> Outcome:
        self._refuse_the_foreseeable()
        unchanged = self.before == self.new.id and self.interrupted is None and self._runs_already()
        self._begin()
        try:
            restarted, passed = self._bring_up()
            if unchanged and not restarted:
                outcome = self._outcome(UNCHANGED)
            else:
                self.clock.enter("commit")
                self._commit(passed)
                outcome = self._outcome(COMMITTED)
        except GateFailure as failure:
            outcome = self._restore(failure.probe, failure.reason, failure.log)
        except DeployError as error:
            outcome = self._restore("cutover", str(error), "")
        except Exception as error:  # whatever it was, what served before has to serve again
            outcome = self._restore("cutover", f"{type(error).__name__}: {error}", "")
        self._end(outcome)
        return outcome

    def _load_old(self) -> tuple[StagedRelease | None, str]:
        if self.before is None:
            return None, ""
        try:
            return load_release(self.folder.release(self.before)), ""
        except DeployError as error:
            return None, error.problem

    def _refuse_the_foreseeable(self) -> None:
        release = self.new.release
        for path, what in ((release.argv[0], "environment"), (release.model.path, "model")):
            if not os.path.exists(path):
                raise DeployError(f"the {what} of release {self.new.id} is missing: {path}", "deploy again to stage it")
        foreign = procfs.foreign_listeners(release.port, self._running_pids())
        if foreign:
            raise DeployError(
                f"port {release.port} is held by {foreign}, which is not this service",
                "end that process, or give the service another port",
            )

    def _running_pids(self) -> frozenset[int]:
        kinds = {staged.release.supervisor for staged in (self.new, self.old) if staged}
        states = [supervisor_for(kind, self.service, self.folder).state() for kind in sorted(kinds)]
        return frozenset(pid for state in states for pid in state.pids)

    def _runs_already(self) -> bool:
        return self.supervisor.state().release == self.new.id

    def _begin(self) -> None:
        """Write down what is about to happen; where even that cannot be written, nothing happens.

        Raises:
            DeployError: the disk takes nothing.
        """
        try:
            journal.append(self.folder, event="started", interrupted=self.interrupted, **self.entry)
            self.clock.enter("gate" if self._runs_already() else "stop")
        except OSError as error:
            raise DeployError(f"{self.folder.path} cannot be written: {error}", "free space on that disk") from None

    def _bring_up(self) -> tuple[bool, RunState]:
        """Have the release run and pass its gate; whether it was started for that, and the process that passed.

        A process of this very release is left running and gated: it may still be loading after a reboot, or be what an
        interrupted cut-over left. Only where it is what was committed is it started anew when it does not pass.
        """
        gate = load_gate(self.folder.release(self.new.id))
        subject = Subject(self.new, self.supervisor)
        if self._runs_already():
            try:
                return False, pass_gate(subject, gate)
            except GateFailure:
                if self.before != self.new.id:
                    raise
        self.clock.enter("stop")
        if self.old is not None:
            stop(self._supervisor(self.old), self.old.release.port, self.old.release.stop_timeout)
        stop(self.supervisor, self.new.release.port, self.new.release.stop_timeout)
        self.clock.enter("start")
        self.supervisor.start_candidate(self.new)
        self.clock.enter("gate")
        return True, pass_gate(subject, gate)

    def _commit(self, passed: RunState) -> None:
        self.supervisor.commit(self.new)
        now = self.supervisor.state()
        if (now.main_pid, now.start_time) != (passed.main_pid, passed.start_time):
            reason = "its process ended between the gate and the commit"
            raise GateFailure("process", reason, self.supervisor.log_tail(LOG_LINES))
        if self.old is not None and self.old.id != self.new.id:
            point_link(self.folder.link(PREVIOUS), os.path.join("releases", self.old.id))
        point_link(self.folder.link("current"), os.path.join("releases", self.new.id))
        if self.old is not None and self.old.release.supervisor != self.new.release.supervisor:
            self._supervisor(self.old).forget()

    def _restore(self, probe: str, reason: str, log: str) -> Outcome:
        """Put back what was committed; nothing was, on a new host, and then nothing runs afterwards either."""
        with contextlib.suppress(OSError):  # a full disk must not keep the old release from starting
            self.clock.enter("restore")
        try:
            self._stop_candidate()
            if self.old is not None:
                supervisor = self._supervisor(self.old)
                supervisor.start_committed(self.old)
                pass_gate(Subject(self.old, supervisor), load_gate(self.folder.release(self.old.id)))
                self._put_previous_back()
            elif self.before is not None:
                raise DeployError(f"release {self.before} is current and cannot be started: {self.old_problem}")
        except Exception as error:
            detail = f"{reason}; restoring {self.before or 'an empty host'} failed as well: {error}"
            return self._outcome(NOT_RESTORED, probe, detail, "\n".join(filter(None, (log, getattr(error, "log", "")))))
        return self._outcome(RESTORED, probe, reason, log)

    def _stop_candidate(self) -> None:
        """End the release that did not pass; a stranger who took the port meanwhile is the old release's matter."""
        try:
            stop(self.supervisor, self.new.release.port, self.new.release.stop_timeout)
        except DeployError:
            if self.supervisor.state().pids:
                raise
        if self.old is None or self.old.release.supervisor != self.new.release.supervisor:
            self.supervisor.forget()

    def _put_previous_back(self) -> None:
        """Undo the half of a commit that went wrong."""
        if self.previous is not None and self.folder.release_of(PREVIOUS) != self.previous:
            point_link(self.folder.link(PREVIOUS), os.path.join("releases", self.previous))

    def _end(self, outcome: Outcome) -> None:
        """Write down what it came to; on a full disk the outcome still has to reach the caller."""
        with contextlib.suppress(OSError):
            journal.append(
                self.folder,
                event="ended",
                outcome=outcome.outcome,
                probe=outcome.probe,
                reason=outcome.reason,
                seconds=dict(outcome.seconds),
                **self.entry,
            )
            journal.finish(self.folder)

    def _outcome(self, outcome: str, probe: str = "", reason: str = "", log: str = "") -> Outcome:
        self.clock.leave()
        after = self.new.id if outcome in (COMMITTED, UNCHANGED) else self.before
        return Outcome(outcome, self.before, after, self.new.id, probe, reason, log, dict(self.clock.seconds))

    def _supervisor(self, staged: StagedRelease) -> Supervisor:
        return supervisor_for(staged.release.supervisor, self.service, self.folder)
