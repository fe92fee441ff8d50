"""The commands that look at hosts before anything is changed: plan and doctor."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from deployer.cli.command_line import (
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
from deployer.runs import results
from deployer.runs.runner import Invocation
from deployer.views.plan import Line, doctor_lines, plan_lines, print_lines

EXIT_CODES = "Exit codes: 0 clean, 1 warnings, 2 errors, or a host that could not be planned."


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file to the command line."""
    for command in (plan, doctor):
        app.command(context_settings=PASS_ON, epilog=f"{PASS_ON_HELP} {EXIT_CODES}")(command)


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
