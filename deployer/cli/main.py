"""`python -m deployer`: the playbooks with live lines, a report, a journal and an exit code."""

from __future__ import annotations

import contextlib
import io
import os
import sys
import traceback
from typing import Annotated, Any

import typer

from deployer import __version__
from deployer.cli import (
    adoption,
    changes,
    client,
    compare,
    environments,
    history,
    init,
    logs,
    migrate,
    monitoring,
    plan,
    report,
    status,
    weights,
)

OWN_PACKAGES = ("", "deployer", "ansible_collections")
HELP = ["-h", "--help"]
DEFECT = 70  # as sysexits.h has it; the commands' own exit codes are 0 to 4

app = typer.Typer(
    help="Provision GPU hosts and switch them to SGLang services, safely.",
    no_args_is_help=True,
    add_completion=True,
    rich_markup_mode=None,  # rich's help takes twice as long to import as all the rest
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": HELP},
    epilog=f"Exit codes: each command names its own; {DEFECT} is a defect of this program.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit()


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Say which.")] = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="Say all; also where a defect comes from.")] = False,
) -> None:
    """Provision GPU hosts and switch them to SGLang services, safely.

    Example: python -m deployer plan -i inventory/hosts.yml
    """


for group in (
    init,
    plan,
    changes,
    status,
    logs,
    migrate,
    client,
    monitoring,
    history,
    report,
    compare,
    adoption,
    environments,
    weights,
):
    group.add_to(app)


def main() -> None:
    """Entry point of `python -m deployer` and of the `deployer` command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # what it cannot write is replaced: a run does not end by that
            stream.reconfigure(errors="replace")
    try:
        _help_at_once(sys.argv[1:])
        app(prog_name="deployer")
    except Exception as error:
        sys.exit(_said(error))
    finally:
        _let_go_of_the_output()


def _let_go_of_the_output() -> None:
    """Where nobody reads what is left to be written, Python would end with an exit code of its own."""
    try:
        sys.stdout.flush()
    except (OSError, ValueError):
        with contextlib.suppress(OSError, ValueError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _help_at_once(words: list[str]) -> None:
    """The help of a verb, where nothing else is asked for: typer would first convert the options before the verb, for
    which it imports pydantic, as slow as all the rest."""
    if len(words) < 2 or words[-1] not in HELP:
        return
    command: Any = typer.main.get_command(app)
    for word in words[:-1]:
        command = getattr(command, "commands", {}).get(word)
    if command is not None:
        command.main(words[-1:], prog_name=" ".join(["deployer", *words[:-1]]), help_option_names=HELP)


def _said(error: Exception) -> int:
    """Say in one line what nobody caught, with -v where it comes from; the exit code."""
    from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
    from deployer.runs.problems import of_os_error

    problem = of_os_error(error) if isinstance(error, OSError) else None
    if problem is not None or isinstance(error, DeployError):
        typer.echo(f"deployer: {problem.line() if problem is not None else error}", err=True)
        return 2
    if isinstance(error, ImportError) and (error.name or "").partition(".")[0] not in OWN_PACKAGES:
        fix = "install this package again with what it needs: pip install --force-reinstall sglang-deployer"
        typer.echo(f"deployer: {DeployError(f'a library is missing: {error}', fix)}", err=True)
        return 2
    if {"-v", "--verbose"} & set(sys.argv):
        typer.echo("".join(traceback.format_exception(error)), err=True)
    text = " ".join(str(error).split())
    line = f"unexpected: {type(error).__name__}: {text}; this is a defect, please report it with what deployer -v says"
    typer.echo(line.encode(errors="backslashreplace").decode(), err=True)
    return DEFECT
