"""The command that says what services are at."""

from __future__ import annotations

import json
from typing import Any

import typer
from rich.console import Console

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
from deployer.views.console import print_status


def add_to(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    codes = "Exit codes: 0 all serve, 1 some do not, 2 not all asked."
    app.command(context_settings=PASS_ON, epilog=f"{PASS_ON_HELP} {codes}")(status)


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


def _status_json(host: results.HostResult) -> dict[str, Any]:
    return {"reachable": not host.unreachable, "failure": host.failure, "services": list(host.services)}
