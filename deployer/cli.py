"""`python -m deployer`: the playbooks with live lines, a report, a journal and an exit code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from deployer import __version__, environment_commands, results, weights_commands
from deployer.command_line import (
    PASS_ON,
    PASS_ON_HELP,
    Check,
    ExtraVars,
    Inventory,
    Json,
    Limit,
    Verbose,
    asked,
    explain,
    invocation_of,
)
from deployer.console import Reporter, outcome_table, status_details, status_table
from deployer.journal import Journal, kept
from deployer.plan_view import Line, doctor_lines, plan_lines, print_lines
from deployer.runner import Event, Invocation, Run, run_playbook

app = typer.Typer(
    help="Provision GPU hosts and switch them to SGLang services, safely.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PLAN_EXIT_CODES = "Exit codes: 0 clean, 1 warnings, 2 errors, or a host that could not be planned."
EXIT_CODES = "Exit codes: 0 done, 1 failed and restored, 2 refused before anything changed, 3 failed and not restored."


@app.command(context_settings=PASS_ON, epilog=f"{PASS_ON_HELP} {EXIT_CODES}")
def rollout(
    context: typer.Context,
    inventory: Inventory = None,
    limit: Limit = "",
    extra_vars: ExtraVars = None,
    check: Check = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Stage the described services on all hosts, then cut over in batches.

    Example: python -m deployer rollout -i inventory/hosts.yml -l gpu-nodes
    """
    invocation = invocation_of(context, inventory, limit, extra_vars, check)
    raise typer.Exit(_change("deploy", "rollout", invocation, as_json, verbose))


@app.command(context_settings=PASS_ON, epilog=f"{PASS_ON_HELP} {EXIT_CODES}")
def rollback(
    context: typer.Context,
    inventory: Inventory = None,
    limit: Limit = "",
    extra_vars: ExtraVars = None,
    check: Check = False,
    as_json: Json = False,
    verbose: Verbose = False,
) -> None:
    """Go back to the release that served before; the first time, to the predecessor.

    Example: python -m deployer rollback -i inventory/hosts.yml -l gpu-nodes
    """
    invocation = invocation_of(context, inventory, limit, extra_vars, check)
    raise typer.Exit(_change("rollback", "rollback", invocation, as_json, verbose))


@app.command(
    context_settings=PASS_ON, epilog=f"{PASS_ON_HELP} Exit codes: 0 all serve, 1 some do not, 2 not all asked."
)
def status(
    context: typer.Context,
    inventory: Inventory = None,
    limit: Limit = "",
    extra_vars: ExtraVars = None,
    as_json: Json = False,
) -> None:
    """Say what every service on every host is at.

    Example: python -m deployer status -i inventory/hosts.yml --json
    """
    summary, run = _status(invocation_of(context, inventory, limit, extra_vars, check=False))
    if as_json:
        typer.echo(json.dumps({h.host: _status_json(h) for h in summary.hosts.values()}, indent=2))
    elif summary.hosts:
        _print_status(summary, Console())
    explain(summary, run, Console(stderr=True))
    states = [service["state"] for host in summary.hosts.values() for service in host.services]
    if run.status != 0 or not states:
        raise typer.Exit(2)
    raise typer.Exit(0 if all(state == "serving" for state in states) else 1)


@app.command(context_settings=PASS_ON, epilog=f"{PASS_ON_HELP} {PLAN_EXIT_CODES}")
def plan(
    context: typer.Context,
    inventory: Inventory = None,
    limit: Limit = "",
    extra_vars: ExtraVars = None,
    as_json: Json = False,
    offline: Annotated[bool, typer.Option("--offline", help="Ask no host; needs --gpu.")] = False,
    gpu: Annotated[str, typer.Option("--gpu", help="With --offline: the GPUs of a host, such as H200x8.")] = "",
) -> None:
    """Say what a rollout would start on every host, whether it fits, and what is wrong with it; change nothing.

    Example: python -m deployer plan -i inventory/hosts.yml -l gpu-nodes
    """
    if offline != bool(gpu):
        raise typer.BadParameter("--offline and --gpu go together. Fix: plan --offline --gpu H200x8")
    variables = {"preflight_assume_gpus": gpu} if offline else {}
    raise typer.Exit(_plan(invocation_of(context, inventory, limit, extra_vars, False, variables), as_json, plan_lines))


@app.command(context_settings=PASS_ON, epilog=f"{PASS_ON_HELP} {PLAN_EXIT_CODES}")
def doctor(
    context: typer.Context,
    inventory: Inventory = None,
    limit: Limit = "",
    extra_vars: ExtraVars = None,
    as_json: Json = False,
) -> None:
    """Check the hosts alone: Python, driver, GPUs, limits, disk, ports; change nothing.

    Example: python -m deployer doctor -i inventory/hosts.yml
    """
    invocation = invocation_of(context, inventory, limit, extra_vars, False, {"preflight_scope": "host"})
    raise typer.Exit(_plan(invocation, as_json, doctor_lines))


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,
) -> None:
    """Provision GPU hosts and switch them to SGLang services, safely."""


def _change(playbook: str, verb: str, invocation: Invocation, as_json: bool, verbose: bool) -> int:
    """Run a playbook that changes hosts, report, and give the exit code."""
    console = Console(stderr=as_json)
    reporter = Reporter(console, verbose, diff=invocation.check)
    journal = None if invocation.check else Journal(verb)
    summary = results.Summary()

    def on_event(event: Event) -> None:
        nonlocal summary
        if task := results.started_task(event):
            reporter.task(task)
        if line := results.progress_line(event):
            reporter.progress(line)
        step = results.parse_event(event)
        if step is None:
            return
        summary = summary.after(step)
        reporter.step(step)
        if journal is not None and (step.kind in ("failed", "unreachable") or step.action == results.CUTOVER):
            journal.write("step", host=step.host, task=step.task, kind=step.kind, **kept(step.result))

    if journal is not None:
        journal.write("started", verb=verb, version=__version__, limit=invocation.limit, **invocation.extra_vars)
    run = run_playbook(playbook, invocation, on_event)
    code = summary.exit_code(run.status)
    _report(summary, run, invocation, code, console)
    if journal is not None:
        journal.write("ended", exit_code=code)
        console.print(f"[dim]journal: {journal.path}[/]")
    if as_json:
        typer.echo(
            json.dumps({"exit_code": code, "hosts": [_outcome_json(h) for h in summary.hosts.values()]}, indent=2)
        )
    return code


def _report(summary: results.Summary, run: Run, invocation: Invocation, code: int, console: Console) -> None:
    """The outcome; and where something failed, what every service of every host is at now."""
    if any(host.cutovers for host in summary.hosts.values()):
        console.print(outcome_table(summary))
    if code == results.DONE:
        return
    explain(summary, run, console)
    if summary.lost_sight:
        console.print("a cut-over was under way and its end was not seen: asking the hosts", style="yellow")
    if not invocation.check and any(not host.described_wrongly for host in summary.hosts.values()):
        _print_status(_status(invocation)[0], console)
    console.print(_meaning(summary, code), style="red" if code == results.NOT_RESTORED else "yellow")


def _meaning(summary: results.Summary, code: int) -> str:
    """An exit code in words."""
    if code == results.RESTORED:
        return "failed; what served before serves again where a release did not pass"
    if code == results.REFUSED:
        return "refused; nothing that serves was changed"
    if summary.lost_sight:
        return "OUTCOME NOT KNOWN: each host finishes or restores by itself; look again with: python -m deployer status"
    return "FAILED AND NOT RESTORED: on some host nothing is known to serve"


def _print_status(summary: results.Summary, console: Console) -> None:
    console.print(status_table(summary))
    for line in status_details(summary):
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def _plan(invocation: Invocation, as_json: bool, lines: Callable[[results.Summary], Iterable[Table | Line]]) -> int:
    """Plan every host, print what comes of it, and give the exit code."""
    summary, run = asked("preflight", invocation)
    if as_json:
        typer.echo(json.dumps({h.host: _plan_json(h) for h in summary.hosts.values()}, indent=2))
    else:
        console = Console()
        print_lines(console, lines(summary) if summary.hosts else ())
    explain(summary, run, Console(stderr=True))
    return summary.plan_exit_code


def _plan_json(host: results.HostResult) -> dict[str, Any]:
    nothing: dict[str, Any] = {"services": [], "findings": [], "checks": [], "exit_code": 2}
    failure = "" if host.plan else host.failure
    return {"reachable": not host.unreachable, "failure": failure, **(host.plan or nothing)}


def _status(invocation: Invocation) -> tuple[results.Summary, Run]:
    return asked("status", invocation)


def _status_json(host: results.HostResult) -> dict[str, Any]:
    return {"reachable": not host.unreachable, "failure": host.failure, "services": list(host.services)}


def _outcome_json(host: results.HostResult) -> dict[str, Any]:
    return {
        "host": host.host,
        "unreachable": host.unreachable,
        "failure": host.failure,
        "services": [kept(cutover) for cutover in host.cutovers],
    }


environment_commands.add_to(app)
weights_commands.add_to(app)


def main() -> None:
    """Entry point of `python -m deployer` and of the `deployer` command."""
    app(prog_name="deployer")
