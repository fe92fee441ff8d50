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
from ansible_collections.deployer.sglang.plugins.module_utils.gate import GateFailure, Subject, answers, pass_gate
from ansible_collections.deployer.sglang.plugins.module_utils.release import StagedRelease, load_gate, load_release
from ansible_collections.deployer.sglang.plugins.module_utils.service import SUPERVISORS
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder, Store
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import supervisor_for
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import stop

UNCHANGED = "unchanged"  # the release serves already
COMMITTED = "committed"  # it serves now
RESTORED = "restored"  # it did not pass; what served before serves again, or nothing did before
NOT_RESTORED = "not_restored"  # it did not pass, and neither did what served before: look at this host
REFUSED = "refused"  # nothing was touched

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
    with exclusive_lock(folder.lock, wait=False, busy=busy):
        if not would_change(root, service, target):
            return Outcome(UNCHANGED, target, target, target)
        return _Transaction(folder, service, target, initiator).run()


class _Transaction:
    """One cut-over, under the service's lock."""

    def __init__(self, folder: ServiceFolder, service: str, target: str, initiator: str) -> None:
        self.folder = folder
        self.service = service
        self.new = load_release(folder.release(target))
        before = folder.release_of("current")
        self.old = load_release(folder.release(before)) if before else None
        self.supervisor = self._supervisor(self.new)
        self.interrupted = journal.unfinished(folder)
        self.entry = {"from": before, "to": target, "initiator": initiator}
        self.clock = _Clock(folder, self.entry)

    def run(self) -> Outcome:
        self._refuse_the_foreseeable()
        journal.append(self.folder, event="started", interrupted=self.interrupted, **self.entry)
        try:
            if not self._candidate_was_left_running():
                self.clock.enter("stop")
                self._stop_all()
                self.clock.enter("start")
                self.supervisor.start_candidate(self.new)
            self.clock.enter("gate")
            pass_gate(Subject(self.new, self.supervisor), load_gate(self.folder.release(self.new.id)))
            self.clock.enter("commit")
            self._commit()
            outcome = self._outcome(COMMITTED)
        except GateFailure as failure:
            outcome = self._restore(failure.probe, failure.reason, failure.log)
        except DeployError as error:
            outcome = self._restore("cutover", str(error), "")
        except OSError as error:
            outcome = self._restore("cutover", f"{type(error).__name__}: {error}", "")
        with contextlib.suppress(OSError):  # on a full disk the outcome still has to reach the caller
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
        return outcome

    def _refuse_the_foreseeable(self) -> None:
        release = self.new.release
        for path, what in ((release.argv[0], "environment"), (release.model.path, "model")):
            if not os.path.exists(path):
                raise DeployError(f"the {what} of release {self.new.id} is missing: {path}", "deploy again to stage it")
        ours = self._running_pids()
        inodes = procfs.listening_inodes(release.port)
        if inodes and not procfs.holders(inodes, ours):
            raise DeployError(
                f"port {release.port} is held by {procfs.describe_listeners(release.port)}, which is not this service",
                "end that process, or give the service another port",
            )

    def _running_pids(self) -> frozenset[int]:
        kinds = {staged.release.supervisor for staged in (self.new, self.old) if staged}
        pids: frozenset[int] = frozenset()
        for kind in SUPERVISORS:
            if kind in kinds:
                pids |= supervisor_for(kind, self.service, self.folder).state().pids
        return pids

    def _candidate_was_left_running(self) -> bool:
        """A cut-over to the same release was interrupted and its process runs: go on at the gate."""
        return self.interrupted is not None and self.supervisor.state().release == self.new.id

    def _stop_all(self) -> None:
        if self.old is not None:
            stop(self._supervisor(self.old), self.old.release.port, self.old.release.stop_timeout)
        stop(self.supervisor, self.new.release.port, self.new.release.stop_timeout)

    def _commit(self) -> None:
        self.supervisor.commit(self.new)
        if self.old is not None and self.old.id != self.new.id:
            point_link(self.folder.link(PREVIOUS), os.path.join("releases", self.old.id))
        point_link(self.folder.link("current"), os.path.join("releases", self.new.id))

    def _restore(self, probe: str, reason: str, log: str) -> Outcome:
        """Put back what was committed; nothing was, on a new host, and then nothing runs afterwards either."""
        with contextlib.suppress(OSError):  # a full disk must not keep the old release from starting
            self.clock.enter("restore")
        try:
            stop(self.supervisor, self.new.release.port, self.new.release.stop_timeout)
            if self.old is not None:
                supervisor = self._supervisor(self.old)
                supervisor.start_committed(self.old)
                pass_gate(Subject(self.old, supervisor), load_gate(self.folder.release(self.old.id)))
        except (GateFailure, DeployError, OSError) as error:
            detail = f"{reason}; restoring {self.old.id if self.old else 'an empty host'} failed as well: {error}"
            return self._outcome(NOT_RESTORED, probe, detail, log)
        return self._outcome(RESTORED, probe, reason, log)

    def _outcome(self, outcome: str, probe: str = "", reason: str = "", log: str = "") -> Outcome:
        self.clock.leave()
        before = self.old.id if self.old else None
        after = self.new.id if outcome == COMMITTED else before
        return Outcome(outcome, before, after, self.new.id, probe, reason, log, dict(self.clock.seconds))

    def _supervisor(self, staged: StagedRelease) -> Any:
        return supervisor_for(staged.release.supervisor, self.service, self.folder)
