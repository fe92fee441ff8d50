"""The cut-over on a host, from the lock to the outcome; and what follows when it was killed."""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from ansible_collections.deployer.sglang.plugins.module_utils import journal, procfs
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.adopt import Adoptable, adopt, look
from ansible_collections.deployer.sglang.plugins.module_utils.audit import record
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.gate import Subject, answers
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.guardian import Answer, guarded
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.outcome import (
    COMMITTED,
    NOT_RESTORED,
    RESTORED,
    UNCHANGED,
    Outcome,
)
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.targets import committed, mend_current, resolve
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.textfile import tell_monitors
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.transaction import Transaction
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import exclusive_lock
from ansible_collections.deployer.sglang.plugins.module_utils.release import StagedRelease, load_release
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder, Store
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import supervisor_for
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import RunState


@dataclasses.dataclass(frozen=True)
class Order:
    """What is asked for.

    Args:
        root: the deployment's root folder on this host.
        service: the service's name.
        target: a release, as `targets.resolve` takes it.
        initiator: who asked for it, for the journal.
        supervisor: what is to keep an adopted service alive, once it is restored.
        adopt: take over what somebody else started on the port.
        textfile_directory: where monitors are told what it came to; '' for nowhere.
        judged: the release is new, and has to pass gate.parity and gate.load, too.
    """

    root: str
    service: str
    target: str
    initiator: str
    supervisor: str = "systemd"
    adopt: bool = True
    textfile_directory: str = ""
    judged: bool = False

    @property
    def folder(self) -> ServiceFolder:
        """The service's folder."""
        return Store(self.root).service(self.service)


def bring(order: Order) -> Outcome:
    """Bring a service to a release, or back to what served before; a killed process is made good by its guardian.

    Raises:
        DeployError: refused: something is missing or in the way, and nothing was touched.
    """

    def work() -> Answer:
        try:
            return _told(order, cut_over(order)).as_dict()
        except DeployError:
            tell_monitors(order.root, order.textfile_directory)
            raise

    def mend(how: str) -> Answer:
        try:
            outcome = recover(order, how)
        except (DeployError, OSError) as error:
            outcome = _unmended(order, how, error)
        return _told(order, outcome).as_dict()

    return Outcome(**guarded(work, mend))


def cut_over(order: Order) -> Outcome:
    """The cut-over in this process; as `bring`."""
    with _locked(order) as folder:
        before = mend_current(folder, _running(order))
        target = resolve(folder, order.target)
        staged = load_release(folder.release(target))
        adopted = _adopted(order, staged)
        if adopted:
            before = adopted
        if not adopted and not _would_change(order, staged, before):
            return Outcome(UNCHANGED, target, target, target)
        work = Transaction(folder, order.service, target, order.initiator, before, adopted, order.judged)
        return _audited(order, work.run())


def recover(order: Order, how: str) -> Outcome:
    """Bring an interrupted cut-over to an end: forward where its release has passed the gate, back otherwise.

    Args:
        order: that was being carried out.
        how: the way in which it was interrupted, for people.
    """
    with _locked(order) as folder:
        unfinished = journal.unfinished(folder)
        current = mend_current(folder, _running(order))
        if unfinished is None:
            raise DeployError(f"the cut-over did not begin: {how}", "run it again; nothing was touched")
        wanted, state = str(unfinished.get("to")), str(unfinished.get("state"))
        reason = f"{how}, at {state}"
        forward = state == "commit" and _answers(order, wanted)
        target = wanted if forward else current
        if target is None:
            return _audited(order, _end_candidate(order, wanted, reason))
        try:
            outcome = Transaction(folder, order.service, target, order.initiator, current).run()
        except DeployError as error:  # refused: whatever serves now, it is not known to be what was committed
            outcome = Outcome(NOT_RESTORED, current, current, wanted, "cutover", f"{reason}; {error}")
        brought = outcome.outcome in (COMMITTED, UNCHANGED)
        if not forward:
            said = reason if brought else f"{reason}; {outcome.reason}"
            kind = RESTORED if brought else NOT_RESTORED
            outcome = dataclasses.replace(outcome, outcome=kind, target=wanted, probe="cutover", reason=said)
        with contextlib.suppress(OSError):
            journal.append(
                folder,
                event="recovered",
                to=outcome.after,
                outcome=outcome.outcome,
                reason=reason,
                initiator=order.initiator,
            )
        return _audited(order, outcome)


def _told(order: Order, outcome: Outcome) -> Outcome:
    """The outcome, of which monitors know now; where they do not, it says so."""
    problem = tell_monitors(order.root, order.textfile_directory)
    return outcome.with_warning("; ".join(filter(None, (outcome.warning, problem)))) if problem else outcome


def _unmended(order: Order, how: str, error: Exception) -> Outcome:
    """What is known of a cut-over that was killed and cannot be brought to an end now.

    Raises:
        DeployError: it had not begun.
    """
    try:
        unfinished = journal.unfinished(order.folder)
    except DeployError:
        unfinished = {}
    if unfinished is None:
        if isinstance(error, DeployError):
            raise error
        raise DeployError(f"{how}; {error}", "see the disk and the rights on this host")
    before = unfinished.get("from") or None
    reason = f"{how}, at {unfinished.get('state')}; and it cannot be mended now: {error}"
    return Outcome(NOT_RESTORED, before, before, str(unfinished.get("to") or order.target), "cutover", reason)


def prediction(order: Order) -> tuple[str | None, str, bool, str]:
    """Check mode: the release now, the one afterwards, whether they differ, and what would be adopted, for people.

    Raises:
        DeployError: there is nothing to go back to.
    """
    folder = order.folder
    before = committed(folder, None)
    target = order.target
    if not os.path.isdir(folder.release(target)):
        target = resolve(folder, target) if target.startswith("@") or not _may_be_staged(target) else target
    if not os.path.isdir(folder.release(target)):  # it would be staged first
        return before, target, True, ""
    staged = load_release(folder.release(target))
    found = _adoptable(order, staged)
    return before, target, bool(found) or _would_change(order, staged, before), found


def _may_be_staged(target: str) -> bool:
    """True for a whole id: staging in check mode wrote nothing."""
    return len(target) == 12 and all(char in "0123456789abcdef" for char in target)


@contextmanager
def _locked(order: Order) -> Iterator[ServiceFolder]:
    folder = order.folder
    if not os.path.isdir(folder.path):
        raise DeployError(f"service {order.service} was never staged on this host", "deploy it first")
    busy = f"another cut-over of {order.service} is under way on this host"
    # A look at the status holds the lock for a moment, a cut-over holds it to its end.
    with exclusive_lock(folder.lock, patience=2, busy=busy):
        yield folder


def _states(order: Order, *kinds: str) -> list[RunState]:
    """What runs for the service, whatever keeps it: asked for, or committed, or to be brought."""
    committed_now = order.folder.release_of("current")
    kept = {order.supervisor, *kinds}
    with contextlib.suppress(DeployError):
        if committed_now is not None:
            kept.add(load_release(order.folder.release(committed_now)).release.supervisor)
    return [supervisor_for(kind, order.service, order.folder).state() for kind in sorted(kept)]


def _running(order: Order) -> str | None:
    """The release that the service's process says it is."""
    return next((state.release for state in _states(order) if state.release), None)


def _own_pids(order: Order, staged: StagedRelease) -> frozenset[int]:
    return frozenset(pid for state in _states(order, staged.release.supervisor) for pid in state.pids)


def _found(order: Order, staged: StagedRelease) -> Adoptable | None:
    """What somebody else has on the service's port; None where nobody does, or the service itself has it as well."""
    own = _own_pids(order, staged)
    port = staged.release.port
    return look(port, own) if order.adopt and _only_others_listen(port, own) else None


def _adoptable(order: Order, staged: StagedRelease) -> str:
    """Who holds the port and would be adopted; '' for nobody."""
    found = _found(order, staged)
    return found.who if found is not None and found.automatic and not found.problem else ""


def _adopted(order: Order, staged: StagedRelease) -> str:
    """The release made of what somebody else started on the port; '' when there is nothing to adopt.

    Raises:
        DeployError: it is recognised and cannot be taken over.
    """
    found = _found(order, staged)
    if found is None or not found.automatic:  # a stranger: the transaction names it and refuses
        return ""
    port = staged.release.port
    if found.problem:
        raise DeployError(f"port {port} is held by {found.who}, which cannot be adopted: {found.problem}", found.fix)
    return adopt(order.folder, order.service, port, order.root, order.supervisor, order.initiator)


def _only_others_listen(port: int, own: frozenset[int]) -> bool:
    """True when the port is held, and by nobody of the service's own: beside it, whoever listens is a stranger."""
    inodes = procfs.listening_inodes(port)
    return bool(inodes) and not procfs.holders(inodes, own)


def _would_change(order: Order, staged: StagedRelease, before: str | None) -> bool:
    folder = order.folder
    if before != staged.id or folder.release_of("current") != before or journal.unfinished(folder):
        return True
    return not answers(Subject(staged, supervisor_for(staged.release.supervisor, order.service, folder)))


def _answers(order: Order, release_id: str) -> bool:
    try:
        staged = load_release(order.folder.release(release_id))
    except DeployError:
        return False
    return answers(Subject(staged, supervisor_for(staged.release.supervisor, order.service, order.folder)))


def _end_candidate(order: Order, wanted: str, reason: str) -> Outcome:
    """On a host that had nothing before: nothing runs afterwards either."""
    folder = order.folder
    try:
        staged = load_release(folder.release(wanted))
        supervisor = supervisor_for(staged.release.supervisor, order.service, folder)
        supervisor.request_stop(staged.release.stop_timeout)
        supervisor.forget()
    except DeployError as error:
        return Outcome(NOT_RESTORED, None, None, wanted, "cutover", f"{reason}; {error}")
    journal.append(folder, event="recovered", to=None, outcome=RESTORED, reason=reason, initiator=order.initiator)
    journal.finish(folder)
    return Outcome(RESTORED, None, None, wanted, "cutover", reason)


def _audited(order: Order, outcome: Outcome) -> Outcome:
    record(
        order.root,
        what="cutover",
        service=order.service,
        initiator=order.initiator,
        before=outcome.before,
        after=outcome.after,
        target=outcome.target,
        outcome=outcome.outcome,
    )
    return outcome


def engines_of(folder: ServiceFolder, releases: Iterable[str | None]) -> dict[str, str]:
    """What these releases are run by, for people; what is not kept here, or cannot be read, is left out."""
    found = {}
    for release in releases:
        with contextlib.suppress(DeployError, OSError):
            if release:
                found[release] = load_release(folder.release(release)).release.engine
    return found
