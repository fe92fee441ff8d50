"""Carries out a change of what hosts have or serve: plans, asks, runs the playbook, and does what follows a failure.

Nothing is printed here: what happens is told to listeners as events (docs/events.md), and the result is returned.
"""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.rollout import number_of
from deployer.report import write_report
from deployer.runs import results
from deployer.runs.asking import asked, why_no_host
from deployer.runs.broadcast import Broadcast
from deployer.runs.events import SCHEMA, Listener, timestamp
from deployer.runs.expected import Expected
from deployer.runs.interrupts import Interrupts
from deployer.runs.journal import Journal, new_id
from deployer.runs.outcome import DECLINED, ChangeResult, host_outcome, host_outcomes, meaning
from deployer.runs.provenance import inventory_state, options, versions
from deployer.runs.questions import Batches, Operator, Questions, Unattended
from deployer.runs.redaction import Redaction, known_secrets
from deployer.runs.restore import RESTORE_ALL, RESTORE_HOST, Restored, restore_lines, to_restore, without_tags
from deployer.runs.results import Summary
from deployer.runs.runner import Invocation, Run, run_playbook
from deployer.runs.watch import Watch, planned_hosts

ROLLOUT, ROLLBACK, STAGE = "rollout", "rollback", "stage"
PLAYBOOKS = {ROLLOUT: "deploy", ROLLBACK: "rollback", STAGE: "deploy"}
PLANNED = (ROLLOUT, STAGE)  # the verbs that a plan foresees; a rollback's releases are there already
WITHOUT_CUTOVER = ("--skip-tags", "cutover")
FIRST_CTRL_C = (
    "interrupted: no further batch is begun, and what is under way on the hosts is waited for, staging as well. While "
    "nothing was cut over yet, nothing that serves is touched. Ctrl-C again ends the watching at once: hosts finish by "
    "themselves"
)
BEFORE_THE_RUN = "interrupted: nothing is begun"
SECOND_CTRL_C = "interrupted again: nobody watches the hosts any more. What each of them does by itself:"
NOTHING_CHANGES = "nothing would change: every service runs the release that is described"


@dataclass(frozen=True)
class Change:
    """What is to be done.

    Args:
        verb: ROLLOUT, ROLLBACK or STAGE.
        invocation: what its playbook is run with.
        on_failure: RESTORE_HOST or RESTORE_ALL.
        verbose: tell also of what changed nothing.
    """

    verb: str
    invocation: Invocation
    on_failure: str = RESTORE_HOST
    verbose: bool = False

    @property
    def playbook(self) -> str:
        """The name of its playbook."""
        return PLAYBOOKS[self.verb]

    @property
    def words(self) -> tuple[str, ...]:
        """Words for ansible-playbook by which the playbook does no more than this."""
        return WITHOUT_CUTOVER if self.verb == STAGE else ()


@dataclass
class _Course:
    """A change on its way.

    Args:
        order: what is to be done.
        emit: takes the events.
        interrupts: who may have asked for an end.
        watch: of the playbook that runs, or ran last.
        expected: how long things took before.
        plan: of every host, once it is known.
        status: what hosts served after something failed, once they were asked.
        begun: whether the playbook was started.
        over: whether its end was told, after which nothing is.
    """

    order: Change
    emit: Broadcast
    interrupts: Interrupts
    watch: Watch
    expected: Expected
    plan: Mapping[str, Any] = field(default_factory=dict)
    status: Summary | None = None
    begun: bool = False
    over: bool = False


def carry_out(order: Change, listeners: Sequence[Listener] = (), operator: Operator | None = None) -> ChangeResult:
    """Do it.

    Args:
        order: what is to be done.
        listeners: told what happens while it happens, one event at a time, not always by the same thread.
        operator: who is asked whether the plan is carried out, and a batch begun; nobody where it is left out.
    Returns:
        What it came to.
    Raises:
        DeployError: the run's journal cannot be written; nothing was begun.
    """
    began, started = time.monotonic(), time.time()
    operator = operator or Unattended()
    journal = None if order.invocation.check else Journal(order.verb)
    run = journal.run if journal is not None else new_id(order.verb)
    redacted = Redaction(known_secrets(order.invocation.arguments, os.environ, order.invocation.extra_vars))
    emit = Broadcast(run, [*([journal] if journal is not None else []), *listeners], redacted)
    expected = Expected.from_journals()
    head = _head(order)
    emit("run.started", **head)
    course: _Course

    def interrupted(count: int) -> None:
        if course.over:
            return
        hosts = course.watch.by_itself() if count > 1 else {}
        text = (SECOND_CTRL_C if count > 1 else FIRST_CTRL_C) if course.begun else BEFORE_THE_RUN
        emit("interrupted", count=count, text=text, hosts=hosts)

    with Interrupts(interrupted) as interrupts:  # to the very end: what is written down last is the outcome
        course = _Course(order, emit, interrupts, Watch(emit), expected)
        try:
            result = _refused_or_declined(course, operator) or _change(course, operator)
        except DeployError as error:  # the controller lacks something; what was seen until then says what is changed
            emit("message", level="error", text=str(error))
            summary = course.watch.summary
            code = summary.exit_code(1) if summary.hosts else results.REFUSED
            result = ChangeResult(code, meaning(summary, code), summary)
        seconds = time.monotonic() - began
        result = replace(result, plan=course.plan, status=course.status, run=run, seconds=seconds)
        ending = {
            "exit_code": result.exit_code,
            "meaning": result.meaning,
            "stopped": {"kind": result.summary.stopped, "why": result.summary.stopped_why},
            "seconds": round(seconds, 3),
        }
        course.over = True
        staged = order.verb == STAGE and result.exit_code == results.DONE
        emit("run.ended", **ending, hosts=host_outcomes(result.summary, staged))
        result = replace(result, problems=tuple(emit.lost))
        if journal is None:
            return result
        came_to = {name: host_outcome(host, staged) for name, host in result.summary.hosts.items()}
        record = {"schema": SCHEMA, "run": run, "started": timestamp(started), "ended": timestamp(time.time())}
        return _written_down(journal, redacted({**record, **head, **ending, "hosts": came_to}), result)


def _written_down(journal: Journal, record: Mapping[str, Any], result: ChangeResult) -> ChangeResult:
    """The journal closed, and the report written: the run is over, and that they cannot be changes nothing about it."""
    try:
        journal.close(record)
        return replace(result, folder=journal.folder, report=write_report(journal.folder))
    except (OSError, DeployError) as error:
        why = f"the record of this run cannot be written: {error}"
        return replace(result, folder=journal.folder, problems=(*result.problems, why))


def _head(order: Change) -> dict[str, Any]:
    """What `run.started` says."""
    invocation = order.invocation
    given = options(invocation.extra_vars)
    if order.on_failure != RESTORE_HOST:
        given["on_failure"] = order.on_failure
    programs = versions()
    return {
        "verb": order.verb,
        "version": programs["deployer"],
        "playbook": order.playbook,
        "limit": invocation.limit,
        "check": invocation.check,
        "initiator": str(invocation.extra_vars.get("cutover_initiator") or ""),
        "options": given,
        "versions": programs,
        "inventory": inventory_state(invocation.inventory),
    }


def _refused_or_declined(course: _Course, operator: Operator) -> ChangeResult | None:
    """What is foreseen is shown and agreed to, where somebody is there to do so; None where it may be begun."""
    order = course.order
    if not operator.asks_first or order.invocation.check:
        return None
    plain = replace(order.invocation, arguments=without_tags(order.invocation.arguments))
    course.emit("task", phase="preflight", task="Find out what would be done on every host")

    def cancelled() -> bool:
        return course.interrupts.requested

    if order.verb in PLANNED:
        foreseen, run = asked("preflight", plain, cancelled)
    else:
        foreseen, run = asked(order.playbook, replace(plain, check=True), cancelled)
    if course.interrupts.requested:
        return ChangeResult(results.STOPPED, meaning(Summary(), results.STOPPED), Summary())
    if order.verb in PLANNED and foreseen.hosts:
        course.plan = planned_hosts(foreseen)
        course.emit("plan", hosts=course.plan)
    why = _why_refused(course, foreseen, run)
    if why:
        course.emit("message", level="error", text=why)
        return ChangeResult(results.REFUSED, meaning(foreseen, results.REFUSED), foreseen)
    if not _changes(foreseen):
        course.emit("message", level="info", text=NOTHING_CHANGES)
    if operator.agrees(foreseen, course.interrupts):
        return None
    return ChangeResult(results.STOPPED, DECLINED, _untouched(foreseen))


def _why_refused(course: _Course, foreseen: Summary, run: Run) -> str:
    """Why it is not even asked; '' where it is."""
    if not foreseen.hosts:
        return why_no_host(foreseen, run, course.order.invocation.limit)
    for name, host in foreseen.hosts.items():
        if host.failure and not host.plan:
            kind = "unreachable" if host.unreachable else "failed"
            first, _, detail = host.failure.partition("\n")
            step: dict[str, Any] = {"host": name, "phase": "preflight", "task": host.failed_task, "kind": kind}
            course.emit("step", **step, changed=False, seconds=None, message=first, detail=detail)
    if foreseen.stopped:
        return foreseen.stopped_why
    lost = foreseen.lost
    allowed = number_of(course.order.invocation.extra_vars.get("rollout_max_fail", 0), len(foreseen.hosts)) or 0
    if len(lost) <= allowed:
        return ""
    names = ", ".join(lost[:8]) + (f" and {len(lost) - 8} more" if len(lost) > 8 else "")
    return (
        f"{len(lost)} of {len(foreseen.hosts)} hosts cannot be changed: {names}. Fix: mend them, or --max-fail, or -l"
    )


def _changes(foreseen: Summary) -> bool:
    """True when something would be started or switched on some host, or that cannot be told yet."""
    for host in foreseen.hosts.values():
        for service in (host.plan or {}).get("services", ()):
            current = service.get("current") or {}
            stays = current.get("release") == service.get("next") and current.get("runs")
            if service.get("role") != "predecessor" and not stays:
                return True
    return any(outcome != "unchanged" for outcome in foreseen.outcomes)


def _untouched(foreseen: Summary) -> Summary:
    """The hosts that were asked, with nothing done on any of them."""
    return Summary({name: results.HostResult(name, plan=host.plan) for name, host in foreseen.hosts.items()})


def _change(course: _Course, operator: Operator) -> ChangeResult:
    """Run the playbook, and what follows from how it ended."""
    order, interrupts = course.order, course.interrupts
    batches = Batches(operator, interrupts, course.emit)
    check = order.invocation.check
    course.watch = Watch(course.emit, course.expected, planned=not course.plan, everything=order.verbose, diff=check)
    course.begun = True
    with Questions(batches.decide, lambda kind, message: course.watch.told(kind, message)) as questions:
        invocation = _accompanied(order.invocation, questions.path, operator.has_terminal)
        only = replace(invocation, arguments=(*invocation.arguments, *order.words))
        run = _run(course, order.playbook, only)
        course.plan = course.plan or course.watch.plan
        summary = course.watch.summary
        code = summary.exit_code(run.status, interrupts.requested)
        restored = None
        if _restores_all(order, summary, code, batches.allowed) and not interrupts.requested:
            restored = _restore_all(course, invocation)
            code = max(code, restored.exit_code)
    if code != results.DONE:
        if not interrupts.requested:
            _say_no_host(course, summary, run)
        summary, code = _settled(course, invocation, run, summary, code, restored)
    return ChangeResult(code, meaning(summary, code, restored), summary, restored)


def _run(course: _Course, playbook: str, invocation: Invocation) -> Run:
    watch = course.watch
    run = run_playbook(playbook, invocation, watch.on_event, lambda: course.interrupts.at_once)
    watch.finish()
    return run


def _accompanied(invocation: Invocation, socket: str, terminal: bool) -> Invocation:
    """With what lets the playbook ask and tell, and others see whose lock it is."""
    own = {
        "rollout_socket": socket,
        "rollout_terminal": terminal,
        "rollout_lock_run": secrets.token_hex(6),
        "rollout_lock_pid": os.getpid(),
    }
    return replace(invocation, extra_vars={**invocation.extra_vars, **own})


def _restores_all(order: Change, summary: Summary, code: int, allowed: int) -> bool:
    """True when the rollout itself failed, not only hosts that may fail, and was not ended by the operator."""
    failed = code in (results.RESTORED, results.NOT_RESTORED) and summary.stopped != "request"
    return (
        order.on_failure == RESTORE_ALL
        and not order.invocation.check
        and failed
        and (bool(summary.stopped) or len(summary.lost) > allowed)
    )


def _restore_all(course: _Course, invocation: Invocation) -> Restored:
    """Bring every host that was cut over in this run back to the release that it had before."""
    wanted, without = to_restore(course.watch.summary)
    course.emit("restoring", targets=wanted, without=without)
    for line in restore_lines(wanted, without):
        course.emit("message", level="warning", text=line)
    if not wanted:
        return Restored(wanted, without)
    variables = {
        **invocation.extra_vars,
        "cutover_targets": wanted,
        "rollout_batches": ["100%"],
        "rollout_max_fail": "100%",
        "rollout_pause": 0,
        "rollout_confirm": False,
    }
    # What the user gave as -e comes later and would win.
    words = [*without_tags(invocation.arguments), "-e", json.dumps(variables)]
    back = replace(invocation, limit=",".join(wanted), extra_vars=variables, arguments=words)
    course.watch = Watch(course.emit, course.expected, planned=False, everything=course.order.verbose)
    run = _run(course, "rollback", back)
    _say_no_host(course, course.watch.summary, run)
    return Restored(wanted, without, course.watch.summary)


def _say_no_host(course: _Course, summary: Summary, run: Run) -> None:
    why = why_no_host(summary, run, course.order.invocation.limit)
    if why:
        course.emit("message", level="error", text=why)


def _settled(
    course: _Course, invocation: Invocation, run: Run, summary: Summary, code: int, restored: Restored | None
) -> tuple[Summary, int]:
    """What there is to do when not everything went well: give the lock back, and ask what the hosts serve."""
    touched = any(not host.described_wrongly for host in summary.hosts.values())
    if invocation.check or not touched or course.order.verb == STAGE:  # which takes no lock and cuts nothing over
        return summary, code
    plain = replace(invocation, arguments=without_tags(invocation.arguments))

    def cancelled() -> bool:
        return course.interrupts.no_more

    course.emit("task", phase="other", task="Give the lock back on every host")
    # On all hosts at once, where this run still holds it: after a failure the playbook does not come to its end.
    asked("lock", replace(plain, extra_vars={**plain.extra_vars, "rollout_lock_state": "released"}), cancelled)
    if course.interrupts.at_once:
        return summary, code
    if summary.lost_sight:
        text = "a cut-over was under way and its end was not seen: asking the hosts"
        course.emit("message", level="warning", text=text)
    course.emit("task", phase="other", task="Ask every host what it serves")
    course.status, _ = asked("status", plain, cancelled)
    if summary.lost_sight and restored is None:
        summary = summary.settled_by(course.status)
        code = summary.exit_code(run.status, course.interrupts.requested)
    return summary, code
