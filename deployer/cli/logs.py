"""The command that shows what services have logged."""

from __future__ import annotations

import time
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployer.cli.command_line import PASS_ON, PASS_ON_HELP, Options, on_hosts

if TYPE_CHECKING:
    from deployer.runs.runner import Invocation, Run
    from deployer.runs.service_logs import Gathered

SHOWN, NOT_ASKED = 0, 2


class Level(str, Enum):
    """How grave a line has to be."""

    info = "info"
    warning = "warning"
    error = "error"


def add_to(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    codes = "Exit codes: 0 shown, 2 not all asked; with --follow 0 after Ctrl-C."
    app.command(context_settings=PASS_ON, epilog=f"{PASS_ON_HELP} {codes}")(logs)


@on_hosts("service")
def logs(
    options: Options,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on, until Ctrl-C.")] = False,
    since: Annotated[
        str, typer.Option("--since", metavar="AGE|TIME", help="Such as 10m, 2h, or 2026-11-29T02:00 (UTC).")
    ] = "",
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of each service, the newest.")] = 50,
    level: Annotated[Level, typer.Option("--level", help="Only lines as grave as this.")] = Level.info,
    grep: Annotated[str, typer.Option("--grep", metavar="TEXT", help="Only lines that hold this text.")] = "",
) -> None:
    """Show what the services of all hosts have logged, each line behind its host's name.

    Example: python -m deployer logs -i inventory/hosts.yml --service code2sql --since 10m --level warning
    """
    from rich.console import Console

    from deployer.runs.service_logs import follow_logs, read_logs
    from deployer.views.logs import LogPrinter

    refuse_time(since)
    variables: dict[str, Any] = {
        "logs_services": list(options.services),
        "logs_since": since,
        "logs_lines": lines,
        "logs_level": level.value,
        "logs_holding": grep,
        "logs_follow": follow,
    }
    invocation = options.invocation(variables)
    printer = LogPrinter(Console(), Console(stderr=True), options.as_json, len(options.services) != 1)
    if follow:
        gathered, run, ended = follow_logs(invocation, printer)
        raise typer.Exit(SHOWN if ended else _code(gathered, run, invocation))
    raise typer.Exit(_code(*read_logs(invocation, printer), invocation))


def refuse_time(text: str) -> None:
    """Refuse a time that no host would understand.

    Raises:
        typer.BadParameter: it is none.
    """
    from ansible_collections.deployer.sglang.plugins.module_utils.log_lines import since_epoch

    try:
        since_epoch(text or "0s", time.time())
    except ValueError as error:
        raise typer.BadParameter(
            f"--since {error}. Fix: give an age (90s, 10m, 2h, 1d) or a time in ISO 8601"
        ) from None


def _code(gathered: Gathered, run: Run, invocation: Invocation) -> int:
    from rich.console import Console

    from deployer.runs.problems import of_run
    from deployer.views.console import shown

    def say(text: str) -> None:
        Console(stderr=True).print(shown(text, lines=True), style="red", highlight=False, soft_wrap=True)

    if not gathered.summary.hosts:
        say(of_run(run.output, run.status, invocation.limit).line())
        return NOT_ASKED
    names = invocation.extra_vars["logs_services"]
    if names and not gathered.services:
        say(f"no host has a service {' or '.join(names)}. Fix: --service takes a name of inference_services")
        return NOT_ASKED
    return NOT_ASKED if run.status != 0 or gathered.summary.lost else SHOWN
