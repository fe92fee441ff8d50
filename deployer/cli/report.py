"""The report of a run, written anew from its journal."""

from __future__ import annotations

from typing import Annotated

import typer

from deployer.cli.command_line import errors_said


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file to the command line."""
    app.command(epilog="Exit codes: 0 done, 2 there is no such run, or its report cannot be written.")(report)


def report(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Id of a run, the beginning of one, or last.")] = "last",
) -> None:
    """Write the report of a run as one HTML file, and say where it is: from its journal, also when it was killed.

    Example: python -m deployer report 20261129T023417Z-rollout
    """
    from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
    from deployer.report import write_report
    from deployer.runs.journal import find_run

    with errors_said("report"):
        folder = find_run(run).folder
        try:
            path = write_report(folder)
        except OSError as error:
            problem = f"the report of {folder.name} cannot be written: {error}"
            raise DeployError(problem, "make room, and run this as who started that run") from error
    typer.echo(path)
