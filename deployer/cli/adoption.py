"""The command that takes over what somebody else started."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table

from deployer.cli.command_line import (
    PASS_ON,
    PASS_ON_HELP,
    Check,
    ExtraVars,
    Inventory,
    Json,
    Limit,
    asked,
    invocation_of,
    tell,
)
from deployer.runs import results
from deployer.views.console import shown

EXIT_CODES = "Exit codes: 0 done, or nothing to adopt, 2 something cannot be adopted, or not all hosts were asked."


def add_to(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    app.command(context_settings=PASS_ON, epilog=f"{PASS_ON_HELP} {EXIT_CODES}")(adopt)


def adopt(
    context: typer.Context,
    inventory: Inventory = None,
    limit: Limit = "",
    extra_vars: ExtraVars = None,
    check: Check = False,
    any_command: Annotated[
        bool, typer.Option("--any-command", help="Also what is no engine that is known and lists no models.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Record what serves the services' ports as releases that a rollback can start again, touching nothing that runs.

    Example: python -m deployer adopt -i inventory/hosts.yml --check
    """
    variables = {"adopt_any_command": any_command}
    summary, run = asked("adopt", invocation_of(context, inventory, limit, extra_vars, check, variables))
    failures = {host.host: host.failure for host in summary.hosts.values() if host.failure}

    def show(console: Console, found: Mapping[str, Mapping[str, Any]]) -> None:
        if found:
            console.print(adoption_table(found, check))

    tell(summary, run, results.ADOPT, failures, "services" if as_json else "", show)
    raise typer.Exit(2 if failures or not summary.reports_of(results.ADOPT) else 0)


def adoption_table(found: Mapping[str, Mapping[str, Any]], check: bool) -> Table:
    """What serves each port, and what became of it."""
    table = Table(title="Adoption", title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for column in ("host, service", "what serves", "log", "release"):
        table.add_column(column, overflow="fold")
    for host, result in found.items():
        for one in result["services"]:
            served = f"{one['engine']}, by {one['supervision']}\n{one['who']}" if one["who"] else "nothing to adopt"
            table.add_row(
                f"[bold]{shown(host)}[/]\n{shown(one['service'])}",
                shown(served),
                shown(one["log"]),
                _became(one, check),
            )
    return table


def _became(one: Mapping[str, Any], check: bool) -> str:
    if one["problem"]:
        return "[red]cannot be adopted[/]"
    if one["changed"]:
        return "[yellow]would be adopted[/]" if check else f"{shown(one['release'])}\n[green]adopted[/]"
    return shown(one["release"] or "none")
