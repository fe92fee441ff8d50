"""`python -m deployer`: the playbooks with live lines, a report, a journal and an exit code."""

from __future__ import annotations

from typing import Annotated

import typer

from deployer import __version__
from deployer.cli import adoption, changes, environments, history, plan, status, weights

app = typer.Typer(
    help="Provision GPU hosts and switch them to SGLang services, safely.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,
) -> None:
    """Provision GPU hosts and switch them to SGLang services, safely."""


for group in (plan, changes, status, history, adoption, environments, weights):
    group.add_to(app)


def main() -> None:
    """Entry point of `python -m deployer` and of the `deployer` command."""
    app(prog_name="deployer")
