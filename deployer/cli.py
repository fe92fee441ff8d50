"""`python -m deployer`: the playbooks with live lines, a report, a journal and an exit code."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from deployer import (
    __version__,
    adoption_commands,
    change_commands,
    environment_commands,
    history_commands,
    results,
    weights_commands,
)
from deployer.command_line import (
    PASS_ON,
    PASS_ON_HELP,
    ExtraVars,
    Inventory,
    Json,
    Limit,
    asked,
    explain,
    invocation_of,
)
from deployer.console import print_status
from deployer.plan_view import Line, doctor_lines, plan_lines, print_lines
from deployer.runner import Invocation

app = typer.Typer(
    help="Provision GPU hosts and switch them to SGLang services, safely.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

PLAN_EXIT_CODES = "Exit codes: 0 clean, 1 warnings, 2 errors, or a host that could not be planned."


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
    summary, run = asked("status", invocation_of(context, inventory, limit, extra_vars, check=False))
    if as_json:
        typer.echo(json.dumps({h.host: _status_json(h) for h in summary.hosts.values()}, indent=2))
    elif summary.hosts:
        print_status(summary, Console())
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


def _status_json(host: results.HostResult) -> dict[str, Any]:
    return {"reachable": not host.unreachable, "failure": host.failure, "services": list(host.services)}


change_commands.add_to(app)
adoption_commands.add_to(app)
environment_commands.add_to(app)
history_commands.add_to(app)
weights_commands.add_to(app)


def main() -> None:
    """Entry point of `python -m deployer` and of the `deployer` command."""
    app(prog_name="deployer")
