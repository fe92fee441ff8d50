"""Runs a playbook that changes hosts, watches it, reports, and does what follows when it failed."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import typer
from rich.console import Console

from deployer import __version__
from deployer.cli.command_line import asked, explain
from deployer.runs import results
from deployer.runs.interrupts import Interrupts
from deployer.runs.journal import Journal, kept
from deployer.runs.questions import Operator, Questions
from deployer.runs.restore import Restored, restore_lines, to_restore, without_tags
from deployer.runs.runner import Event, Invocation, Run, run_playbook
from deployer.views.console import Reporter, outcome_table, print_status

RESTORE_HOST, RESTORE_ALL = "restore-host", "restore-all"
OWN_VARIABLES = ("rollout_socket", "rollout_terminal", "rollout_lock_run", "rollout_lock_pid")
FIRST_CTRL_C = (
    "interrupted: no further batch is begun, and what is under way on the hosts is waited for. While nothing was cut "
    "over yet, nothing that serves is touched. Ctrl-C again ends the watching at once: hosts finish by themselves"
)


@dataclass(frozen=True)
class Change:
    """What is to be done.

    Args:
        playbook: its name.
        verb: as people call it.
        invocation: what the playbook is run with.
        on_failure: RESTORE_HOST or RESTORE_ALL.
        as_json: print an object instead of tables.
        verbose: show what changed nothing, too.
    """

    playbook: str
    verb: str
    invocation: Invocation
    on_failure: str = RESTORE_HOST
    as_json: bool = False
    verbose: bool = False


@dataclass
class Watch:
    """Folds the events of one playbook into a summary, showing them and writing down what matters."""

    reporter: Reporter
    journal: Journal | None
    summary: results.Summary = field(default_factory=results.Summary)

    def on_event(self, event: Event) -> None:
        """Take one event."""
        if task := results.started_task(event):
            self.reporter.task(task)
        if line := results.progress_line(event):
            self.reporter.progress(line)
        step = results.parse_event(event)
        if step is None:
            return
        self.summary = self.summary.after(step)
        self.reporter.step(step)
        if self.journal is not None and (step.kind in ("failed", "unreachable") or step.action == results.CUTOVER):
            self.journal.write("step", host=step.host, task=step.task, kind=step.kind, **kept(step.result))


def change(order: Change) -> int:
    """Do it, report, and give the exit code."""
    console = Console(stderr=order.as_json)
    try:
        journal = None if order.invocation.check else Journal(order.verb)
    except OSError as error:
        console.print(f"the journal of this run cannot be written: {error}. Fix: start it from a folder of your own")
        return results.REFUSED
    if journal is not None:
        told = {key: value for key, value in order.invocation.extra_vars.items() if key not in OWN_VARIABLES}
        journal.write("started", verb=order.verb, version=__version__, limit=order.invocation.limit, **told)
    watch = Watch(Reporter(console, order.verbose, diff=order.invocation.check), journal)

    def say_interrupted() -> None:
        console.print(FIRST_CTRL_C, style="yellow", highlight=False, soft_wrap=True)

    with Interrupts(say_interrupted) as interrupts:
        operator = Operator(console, interrupts)
        with Questions(operator.decide) as questions:
            invocation = _accompanied(order.invocation, questions.path)
            run = run_playbook(order.playbook, invocation, watch.on_event, lambda: interrupts.at_once)
            code = watch.summary.exit_code(run.status, interrupts.requested)
            if any(host.cutovers for host in watch.summary.hosts.values()):
                console.print(outcome_table(watch.summary))
            restored = None
            if _restores_all(order, watch.summary, code, operator.allowed) and not interrupts.requested:
                restored = _restore_all(order, invocation, watch, console, lambda: interrupts.at_once)
                code = max(code, restored.exit_code)
        code = _after(order, invocation, run, watch.summary, code, interrupts, console, restored)
    if journal is not None:
        journal.write("ended", exit_code=code)
        console.print(f"[dim]journal: {journal.path}[/]")
    if order.as_json:
        typer.echo(json.dumps(_as_json(watch.summary, code, restored), indent=2))
    return code


def _accompanied(invocation: Invocation, socket: str) -> Invocation:
    """With what lets the playbook ask whether a batch may be begun, and others see whose lock it is."""
    own = {
        "rollout_socket": socket,
        "rollout_terminal": sys.stdin.isatty(),
        "rollout_lock_run": secrets.token_hex(6),
        "rollout_lock_pid": os.getpid(),
    }
    return replace(invocation, extra_vars={**invocation.extra_vars, **own})


def _restores_all(order: Change, summary: results.Summary, code: int, allowed: int) -> bool:
    """True when the rollout itself failed, not only hosts that may fail, and was not ended by the operator."""
    failed = code in (results.RESTORED, results.NOT_RESTORED) and summary.stopped != "request"
    return (
        order.on_failure == RESTORE_ALL
        and not order.invocation.check
        and failed
        and (bool(summary.stopped) or len(summary.lost) > allowed)
    )


def _restore_all(
    order: Change, invocation: Invocation, watch: Watch, console: Console, cancelled: Callable[[], bool]
) -> Restored:
    """Bring every host that was cut over in this run back to the release that it had before."""
    wanted, without = to_restore(watch.summary)
    for line in restore_lines(wanted, without):
        console.print(line, style="yellow", highlight=False, markup=False, soft_wrap=True)
    if not wanted:
        return Restored(wanted, without)
    if watch.journal is not None:
        watch.journal.write("restoring all", targets=wanted)
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
    second = Watch(Reporter(console, order.verbose), watch.journal)
    run = run_playbook("rollback", back, second.on_event, cancelled)
    if any(host.cutovers for host in second.summary.hosts.values()):
        console.print(outcome_table(second.summary, title="Restored"))
    explain(second.summary, run, console)
    return Restored(wanted, without, second.summary)


def _after(
    order: Change,
    invocation: Invocation,
    run: Run,
    summary: results.Summary,
    code: int,
    interrupts: Interrupts,
    console: Console,
    restored: Restored | None,
) -> int:
    """What there is to say and to do when not everything went well; the exit code, as the hosts' state corrects it."""
    if code == results.DONE:
        return code
    if not interrupts.requested:
        explain(summary, run, console)
    touched = any(not host.described_wrongly for host in summary.hosts.values())
    if not invocation.check and touched:
        plain = replace(invocation, arguments=without_tags(invocation.arguments))
        _give_lock_back(plain)
        if summary.lost_sight:
            console.print("a cut-over was under way and its end was not seen: asking the hosts", style="yellow")
        status, _ = asked("status", plain)
        print_status(status, console)
        if summary.lost_sight and restored is None:
            summary = summary.settled_by(status)
            code = summary.exit_code(run.status, interrupts.requested)
    style = "red" if code == results.NOT_RESTORED else "yellow"
    console.print(meaning(summary, code, restored), style=style, highlight=False, markup=False, soft_wrap=True)
    return code


def _give_lock_back(invocation: Invocation) -> None:
    """On all hosts at once, where this run still holds it: after a failure the playbook does not come to its end."""
    variables = {**invocation.extra_vars, "rollout_lock_state": "released"}
    asked("lock", replace(invocation, extra_vars=variables))


def meaning(summary: results.Summary, code: int, restored: Restored | None = None) -> str:
    """An exit code in words."""
    if restored is not None and code == results.RESTORED:
        return "failed; every host that had been cut over is back at what it served before" + (
            ", but for those that had nothing before" if restored.without else ""
        )
    settled = [name for name, host in summary.hosts.items() if host.cutover_settled]
    if settled:
        return (
            f"the end of the cut-over was not seen on {', '.join(settled)}, where every service serves: see the table"
        )
    if code == results.RESTORED:
        return "failed; what served before serves again where a release did not pass"
    if code == results.REFUSED:
        return "refused; nothing that serves was changed"
    if code == results.STOPPED:
        done = [host for host in summary.hosts.values() if host.cutovers]
        if not done:
            return "stopped on request; nothing that serves was changed"
        return f"stopped on request after {len(done)} of {len(summary.hosts)} hosts; run it again to go on"
    if restored is not None and restored.exit_code == results.NOT_RESTORED:
        return "FAILED, AND NOT ALL HOSTS ARE BACK: see the tables above"
    if summary.lost_sight:
        return "OUTCOME NOT KNOWN: each host finishes or restores by itself; look again with: python -m deployer status"
    return "FAILED AND NOT RESTORED: on some host nothing is known to serve"


def _as_json(summary: results.Summary, code: int, restored: Restored | None) -> dict[str, Any]:
    value: dict[str, Any] = {"exit_code": code, "hosts": _outcomes(summary)}
    if summary.stopped:
        value["stopped"] = {"kind": summary.stopped, "why": summary.stopped_why}
    if restored is not None:
        value["restored"] = {"hosts": _outcomes(restored.summary), "without_earlier_release": dict(restored.without)}
    return value


def _outcomes(summary: results.Summary) -> list[Mapping[str, Any]]:
    return [
        {
            "host": host.host,
            "unreachable": host.unreachable,
            "failure": host.failure,
            "services": [kept(cutover) for cutover in host.cutovers],
        }
        for host in summary.hosts.values()
    ]
