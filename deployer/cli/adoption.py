"""The command that takes over what somebody else started."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from deployer.cli.command_line import PASS_ON, PASS_ON_HELP, Options, on_hosts, say_ansibles_words

if TYPE_CHECKING:
    from rich.table import Table

    from deployer.api import Adopted, Adoption

EXIT_CODES = "Exit codes: 0 done, or nothing to adopt, 2 something cannot be adopted, or not all hosts were asked."


def add_to(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    app.command(context_settings=PASS_ON, epilog=f"{PASS_ON_HELP} {EXIT_CODES}")(adopt)


@on_hosts("check")
def adopt(
    options: Options,
    any_command: Annotated[
        bool, typer.Option("--any-command", help="Also what is no engine that is known and lists no models.")
    ] = False,
) -> None:
    """Record what serves the services' ports as releases that a rollback can start again, touching nothing that runs.

    Example: python -m deployer adopt -i inventory/hosts.yml --check
    """
    from rich.console import Console

    from deployer.views.console import shown

    adoption = options.deployer.adopt(check=options.check, any_command=any_command)
    if options.as_json:
        hosts = {
            host.host: {"failure": host.failure, "services": host.raw.get("services")}
            for host in adoption.hosts.values()
        }
        typer.echo(json.dumps(hosts, indent=2))
    else:
        console = Console()
        if any(host.services for host in adoption.hosts.values()):
            console.print(adoption_table(adoption, options.check))
        for host in filter(lambda host: host.failure, adoption.hosts.values()):
            line = f"{host.host}: {shown(host.explained, lines=True)}"
            console.print(line, style="red", highlight=False, soft_wrap=True)
    say_ansibles_words(options, adoption)
    raise typer.Exit(adoption.exit_code)


def adoption_table(adoption: Adoption, check: bool) -> Table:
    """What serves each port, and what became of it."""
    from rich import box
    from rich.table import Table

    from deployer.views.console import shown

    table = Table(title="Adoption", title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for column in ("host, service", "what serves", "log", "release"):
        table.add_column(column, overflow="fold")
    for host in adoption.hosts.values():
        for one in host.services:
            served = f"{one.engine}, by {one.raw['supervision']}\n{one.who}" if one.who else "nothing to adopt"
            table.add_row(
                f"[bold]{shown(host.host)}[/]\n{shown(one.service)}",
                "\n".join(map(shown, served.split("\n"))),
                shown(one.raw["log"]),
                _became(one, check),
            )
    return table


def _became(one: Adopted, check: bool) -> str:
    from deployer.views.console import shown

    if one.problem:
        return "[red]cannot be adopted[/]"
    if one.changed:
        return "[yellow]would be adopted[/]" if check else f"{shown(one.release)}\n[green]adopted[/]"
    return shown(one.release or "none")
