"""The command that says what services are at."""

from __future__ import annotations

from typing import Annotated

import typer

from deployer.cli.command_line import PASS_ON, PASS_ON_HELP, Options, on_hosts

EVERY = 5.0  # seconds between two rounds

Watch = Annotated[bool, typer.Option("--watch", "-w", help="Ask again and again, until Ctrl-C.")]
Every = Annotated[
    float | None,
    typer.Option("--every", min=1, max=86_400, metavar="SECONDS", help=f"With --watch: how often; {EVERY:g}."),
]


def add_to(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    codes = "Exit codes: 0 all serve, 1 some do not (--strict: or differ from their release), 2 not all asked."
    app.command(context_settings=PASS_ON, epilog=f"{PASS_ON_HELP} {codes}")(status)


@on_hosts("service")
def status(
    options: Options,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 for drift, too.")] = False,
    watch: Watch = False,
    every: Every = None,
) -> None:
    """Say what every service on every host is at, and what differs from its release.

    Example: python -m deployer status -i inventory/hosts.yml --watch --every 10
    """
    if every is not None and not watch:
        raise typer.BadParameter("--every says how often --watch asks. Fix: add --watch, or leave it out")
    from deployer.cli import status_rounds
    from deployer.runs.service_states import CHOSEN

    invocation = options.invocation({CHOSEN: list(options.services)} if options.services else {})
    if watch:
        raise typer.Exit(status_rounds.round_after_round(invocation, every or EVERY, strict, options.as_json))
    raise typer.Exit(status_rounds.once(invocation, strict, options.as_json))
