"""The command that writes files for Prometheus and Grafana."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from deployer.cli.command_line import PASS_ON, PASS_ON_HELP, Options, on_hosts, say_ansibles_words

EXIT_CODES = (
    "Exit codes: 0 written or right already, 1 a file was left as somebody edited it, 2 not all hosts could be asked."
)


def add_to(app: typer.Typer) -> None:
    """Add the command of this file to the command line."""
    app.command(context_settings=PASS_ON, epilog=f"{PASS_ON_HELP} {EXIT_CODES}")(monitoring)


@on_hosts("service", "check")
def monitoring(
    options: Options,
    into: Annotated[Path, typer.Option("--into", metavar="FOLDER", help="The folder to write on this machine.")] = Path(
        "monitoring"
    ),
) -> None:
    """Write targets and alert rules for Prometheus and a dashboard for Grafana; change nothing on hosts.

    Example: python -m deployer monitoring -i inventory/hosts.yml --into /etc/prometheus/inference
    """
    from rich.console import Console

    from deployer.views.monitoring import monitoring_lines

    made = options.deployer.monitoring(into, services=options.services, check=options.check)
    if options.as_json:
        value = {
            "files": [asdict(one) for one in made.files],
            "targets": [asdict(one) for one in made.targets],
            "kept": [asdict(one) for one in made.kept],
            "without": [asdict(one) for one in made.without],
            "failures": made.failures,
            "exit_code": made.exit_code,
        }
        typer.echo(json.dumps(value, indent=2, ensure_ascii=False))
    else:
        console = Console()
        for line in monitoring_lines(made, options.check):
            console.print(line, highlight=False, soft_wrap=True)
    say_ansibles_words(options, made)
    raise typer.Exit(made.exit_code)
