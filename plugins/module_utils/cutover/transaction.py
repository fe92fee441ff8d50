"""The transaction: stop the old release, prove it stopped, start the new one, gate it, commit - or restore."""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Collection, Mapping
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils import journal, procfs
from ansible_collections.deployer.sglang.plugins.module_utils.cutover import loading
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.drain import run_hook, wait_for_quiet
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.gate import (
    LOG_LINES,
    GateFailure,
    Subject,
    answers,
    pass_gate,
)
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.gpu_proof import foreign_use, prove_free
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.judging import Judge
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.outcome import (
    COMMITTED,
    NOT_RESTORED,
    REFUSED,
    RESTORED,
    UNCHANGED,
    Outcome,
)
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.targets import PREVIOUS
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import point_link
from ansible_collections.deployer.sglang.plugins.module_utils.host_probe import processes_of_services
from ansible_collections.deployer.sglang.plugins.module_utils.release import (
    StagedRelease,
    load_gate,
    load_handover,
    load_release,
    verify_release,
)
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder, Store
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import supervisor_for
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import RunState, Supervisor, kill, stop


class Clock:
    """Measures the states, and puts each on disk before it is entered."""

    def __init__(self, folder: ServiceFolder, entry: Mapping[str, Any], lenient: bool = False) -> None:
        self.folder, self.entry, self.lenient = folder, entry, lenient
        self.seconds: dict[str, float] = {}
        self.state, self._since = "", time.monotonic()

    def enter(self, state: str) -> None:
        """Leave the state before and enter this one; raises OSError where the disk takes nothing."""
        self.leave()
        try:
            journal.enter(self.folder, state, **self.entry)
        except OSError:
            if not self.lenient:  # going back is on disk already: it goes on, whatever the disk takes
                raise
        self.state, self._since = state, time.monotonic()

    def leave(self) -> None:
        """The state has ended."""
        if self.state:
            self.seconds[self.state] = round(time.monotonic() - self._since, 2)
        self.state = ""


class Transaction:
    """One cut-over, under the service's lock.

    Args:
        folder: of the service.
        service: its name.
        target: id of the release to bring.
        initiator: who asked for it, for the journal.
        before: id of the release that is committed; None for none.
        adopted: what was adopted for this cut-over; '' for nothing.
        judged: the release has to pass gate.parity and gate.load, too, where its description has them.
    Raises:
        DeployError: the target cannot be read, or was changed since it was staged.
    """

    def __init__(
        self,
        folder: ServiceFolder,
        service: str,
        target: str,
        initiator: str,
        before: str | None,
        adopted: str = "",
        judged: bool = False,
    ) -> None:
        self.folder = folder
        self.service = service
        self.interrupted = journal.unfinished(folder)
        self.goes_back = self.interrupted is not None and target == before
        if not self.goes_back:  # on the way back its gate is the judge, and nothing else is there to go to
            verify_release(folder.release(target))
        self.new = load_release(folder.release(target))
        self.supervisor = self._supervisor(self.new)
        self.before = before
        self.previous = folder.release_of(PREVIOUS[1:])
        self.adopted = adopted
        self.old, self.old_problem = self._load_old()
        self.handover = load_handover(folder.release(target), folder.release(before) if before else "")
        self.cut_off = self._load_cut_off()
        self.entry = {"from": self.before, "to": target, "initiator": initiator}
        self.clock = Clock(folder, self.entry, self.goes_back)
        self.family: list[procfs.Process] = []
        self.touched = False  # whether the old release is no longer as it was
        self.gate = load_gate(folder.release(target))
        self.measured = ""
        asked = [name for name in ("parity", "load") if getattr(self.gate, name)]
        self.judge = Judge(self.gate, self.new, self._loads) if asked and judged and self._is_new else None
        if asked and judged and not self._is_new and self.before != self.new.id:
            self.measured = f"{' and '.join(asked)}: not judged, an interrupted cut-over is brought to its end"

    @property
    def _is_new(self) -> bool:
        """What it replaces, if anything, is as it was committed, and can be compared with."""
        return self.interrupted is None and self.before != self.new.id

    def run(self) -> Outcome:
        """Bring the release, or what served before.

        Raises:
            DeployError: refused: something is missing or in the way, and nothing was touched.
        """
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
            outcome = self._restore(failure)
        except Exception as error:  # whatever it was, what served before has to serve again
            if not self.touched:
                self._refuse(error)
            text = str(error) if isinstance(error, DeployError) else f"{type(error).__name__}: {error}"
            outcome = self._restore(GateFailure("cutover", text, ""))
        outcome = self._with_traffic_back(outcome)
        self._end(outcome)
        return outcome

    def _load_old(self) -> tuple[StagedRelease | None, str]:
        if self.before is None:
            return None, ""
        try:
            return load_release(self.folder.release(self.before)), ""
        except DeployError as error:
            return None, error.problem

    def _load_cut_off(self) -> list[StagedRelease]:
        """What an interrupted cut-over was about and something else keeps than what keeps these: it may run as well."""
        kept = {staged.release.supervisor for staged in (self.new, self.old) if staged}
        found: dict[str, StagedRelease] = {}
        for name in ("to", "from"):
            one = (self.interrupted or {}).get(name)
            with contextlib.suppress(DeployError):
                staged = load_release(self.folder.release(str(one))) if one else None
                if staged is not None and staged.release.supervisor not in kept:
                    found.setdefault(staged.release.supervisor, staged)
        return list(found.values())

    def _refuse_the_foreseeable(self) -> None:
        release = self.new.release
        for path, what in release.required:
            if not os.path.exists(path):
                raise DeployError(f"the {what} of release {self.new.id} is missing: {path}", "deploy again to stage it")
        own = self._running_pids()
        foreign = procfs.foreign_listeners(release.port, own)
        if foreign:
            raise DeployError(
                f"port {release.port} is held by {foreign}, which is not this service",
                "end that process, or give the service another port",
            )
        use = foreign_use(release.gpus, own | self._others())
        if use:
            raise DeployError(f"its GPUs are in use: {use}", "end that process, or give the service other GPUs")
        self.family = [process for pid in own if (process := procfs.read_process(pid)) is not None]

    def _others(self) -> frozenset[int]:
        return processes_of_services(Store(self.new.release.root), besides=self.service)

    def _running_pids(self) -> frozenset[int]:
        kinds = {staged.release.supervisor for staged in (self.new, self.old, *self.cut_off) if staged}
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
            with contextlib.suppress(*([OSError] if self.clock.lenient else [])):
                journal.append(self.folder, event="started", interrupted=self.interrupted, **self.entry)
            self.clock.enter("gate" if self._runs_already() else "measure" if self.judge else "drain")
        except OSError as error:
            with contextlib.suppress(OSError):
                if self.interrupted is None:
                    journal.finish(self.folder)
            raise DeployError(f"{self.folder.path} cannot be written: {error}", "free space on that disk") from None

    def _refuse(self, error: Exception) -> None:
        """Nothing was stopped yet: let the requests come again, and leave it at that."""
        if "drain" in (self.clock.state, *self.clock.seconds):  # before, the gateway is as its operator has it
            with contextlib.suppress(DeployError):
                run_hook("restore", self.handover.gateway_restore, self.handover.gateway_timeout)
        if self.interrupted is None:
            self._end(self._outcome(REFUSED, reason=str(error)))
        else:  # it is still to be finished
            with contextlib.suppress(OSError):
                journal.enter(self.folder, **{key: value for key, value in self.interrupted.items() if key != "time"})
        if isinstance(error, DeployError):
            raise error
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise DeployError(f"{error.strerror}: {error.filename}; nothing was stopped", "make room there") from error
        raise DeployError(f"{type(error).__name__}: {error}; nothing was stopped", "report it") from error

    def _bring_up(self) -> tuple[bool, RunState]:
        """Have the release run and pass its gate; whether it was started for that, and the process that passed.

        A process of this very release is left running and gated: it may still be loading after a reboot, or be what an
        interrupted cut-over left. Only where it is what was committed is it started anew when it does not pass.
        """
        subject = Subject(self.new, self.supervisor)
        if self._runs_already():
            self.touched = True
            if self.judge is not None:
                self.judge.said.append("parity and load: not judged, it ran already")
            try:
                return False, pass_gate(subject, self.gate, self._loads)
            except GateFailure:
                if self.before != self.new.id:
                    raise
        if self.clock.state == "measure":
            self._measure()
            self.clock.enter("drain")
        if self.clock.state == "drain":
            self._drain()
        self.clock.enter("stop")
        self.touched = True
        for staged in (*self.cut_off, *([self.old] if self.old is not None else [])):
            stop(self._supervisor(staged), staged.release.port, staged.release.stop_timeout)
        stop(self.supervisor, self.new.release.port, self.new.release.stop_timeout)
        self.clock.enter("prove")
        prove_free(self.new.release.gpus, self._others(), self._end_leftovers)
        self.clock.enter("start")
        self.supervisor.start_candidate(self.new)
        self.clock.enter("gate")
        passed = pass_gate(subject, self.gate, self._loads)
        if self.judge is not None:
            self.judge.judge(subject, passed)
        return True, passed

    def _measure(self) -> None:
        """Measure what serves, while it serves."""
        assert self.judge is not None
        old = None if self.old is None else Subject(self.old, self._supervisor(self.old))
        try:
            self.judge.look_at_old(old, old is not None and answers(old))
        finally:
            loading.forget(self.folder)

    def _loads(self, line: str) -> None:
        loading.note(self.folder, line)

    def _drain(self) -> None:
        serving = self.old is not None and answers(Subject(self.old, self._supervisor(self.old)), 1)
        try:
            run_hook("drain", self.handover.gateway_drain, self.handover.gateway_timeout)
        except DeployError:
            if serving and self.interrupted is None:  # otherwise there is nothing to be kept from, and much to gain
                raise
        if self.old is None or not serving:
            return
        release = self.old.release
        url = Subject(self.old, self._supervisor(self.old)).url
        wait_for_quiet(url, release.engine, release.port, self.handover.drain_timeout)

    def _end_leftovers(self, pids: Collection[int]) -> None:
        """SIGKILL to those of these processes that belonged to the service; others are named by who called this."""
        for process in self.family:
            if process.pid in pids and procfs.lives(process):
                kill(process.pid)

    def _commit(self, passed: RunState) -> None:
        self.supervisor.commit(self.new)
        now = self.supervisor.state()
        if (now.main_pid, now.start_time) != (passed.main_pid, passed.start_time):
            reason = "its process ended between the gate and the commit"
            raise GateFailure("process", reason, Subject(self.new, self.supervisor).log_tail(LOG_LINES))
        if self.old is not None and self.old.id != self.new.id:
            point_link(self.folder.link(PREVIOUS[1:]), os.path.join("releases", self.old.id))
        point_link(self.folder.link("current"), os.path.join("releases", self.new.id))
        if self.old is not None and self.old.release.supervisor != self.new.release.supervisor:
            self._supervisor(self.old).forget()
        for staged in self.cut_off:  # what was cut off may have left it to be started at boot
            self._supervisor(staged).forget()

    def _restore(self, failure: GateFailure) -> Outcome:
        """Put back what was committed; nothing was, on a new host, and then nothing runs afterwards either."""
        with contextlib.suppress(OSError):  # a full disk must not keep the old release from starting
            self.clock.enter("restore")
        loading.forget(self.folder)
        try:
            self._stop_candidate()
            if self.old is not None:
                with contextlib.suppress(DeployError):  # its gate is the better judge of what GPUs still hold
                    prove_free(self.old.release.gpus, self._others(), self._end_leftovers)
                with contextlib.suppress(OSError):  # a full disk has them as they were
                    self._put_links_back()
                supervisor = self._supervisor(self.old)
                supervisor.start_committed(self.old)
                pass_gate(Subject(self.old, supervisor), load_gate(self.folder.release(self.old.id)), self._loads)
            elif self.before is not None:
                raise DeployError(f"release {self.before} is current and cannot be started: {self.old_problem}")
        except Exception as error:
            failure.reason = f"{failure.reason}; restoring {self.before or 'an empty host'} failed as well: {error}"
            failure.log = "\n".join(filter(None, (failure.log, getattr(error, "log", ""))))
            return self._outcome(NOT_RESTORED, failure)
        return self._outcome(RESTORED, failure)

    def _stop_candidate(self) -> None:
        """End the release that did not pass; a stranger who took the port meanwhile is the old release's matter."""
        try:
            stop(self.supervisor, self.new.release.port, self.new.release.stop_timeout)
        except DeployError:
            if self.supervisor.state().pids:
                raise
        if self.old is None or self.old.release.supervisor != self.new.release.supervisor:
            self.supervisor.forget()

    def _put_links_back(self) -> None:
        """Undo the half of a commit that went wrong, and what somebody removed."""
        for role, before in ((PREVIOUS[1:], self.previous), ("current", self.before)):
            if before is not None and self.folder.release_of(role) != before:
                point_link(self.folder.link(role), os.path.join("releases", before))

    def _with_traffic_back(self, outcome: Outcome) -> Outcome:
        """Have the gateway send requests again, wherever something serves."""
        if outcome.outcome in (COMMITTED, RESTORED, UNCHANGED) and "drain" in outcome.seconds:
            try:
                run_hook("restore", self.handover.gateway_restore, self.handover.gateway_timeout)
            except DeployError as error:
                return outcome.with_warning(f"requests may not reach the service: {error}")
        return outcome

    def _end(self, outcome: Outcome) -> None:
        """Write down what it came to; on a full disk the outcome still has to reach the caller."""
        kept = ("outcome", "probe", "reason", "failure", "seconds", "warning", "adopted", "measured")
        with contextlib.suppress(OSError):
            journal.append(
                self.folder,
                event="ended",
                **{name: value for name, value in outcome.as_dict().items() if name in kept},
                **self.entry,
            )
        with contextlib.suppress(OSError):
            journal.finish(self.folder)

    def _outcome(self, outcome: str, failure: GateFailure | None = None, reason: str = "") -> Outcome:
        self.clock.leave()
        return Outcome(
            outcome,
            self.before,
            self.new.id if outcome in (COMMITTED, UNCHANGED) else self.before,
            self.new.id,
            probe=failure.probe if failure else "",
            reason=failure.reason if failure else reason,
            log=failure.log if failure else "",
            failure=failure.failure.as_dict() if failure else {},
            seconds=dict(self.clock.seconds),
            adopted=self.adopted,
            measured=self.judge.words if self.judge is not None else self.measured,
        )

    def _supervisor(self, staged: StagedRelease) -> Supervisor:
        return supervisor_for(staged.release.supervisor, self.service, self.folder)
