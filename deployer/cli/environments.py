"""The commands about environments: lock (which history.py adds), bundle, environments, verify, prune."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployer.cli.command_line import (
    PASS_ON,
    PASS_ON_HELP,
    Options,
    errors_said,
    on_hosts,
    say_ansibles_words,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deployer.api import Answer

ENVIRONMENTS = Path("environments")
ANSIBLES_OWN = ("ansible_facts", "deprecations", "diff", "exception", "invocation", "msg", "warnings")
Name = Annotated[
    str, typer.Argument(metavar="NAME", help="An environment below environments/, or the path of its folder.")
]


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file to the command line."""
    app.command(epilog="Exit codes: 0 done, 2 failed; the next run goes on from there.")(bundle)
    for command, codes in (
        (environments, "0 asked all, 2 not all"),
        (verify, "0 all sound, 1 some are not, 2 not all asked"),
        (prune, "0 done, 2 refused or not all asked"),
    ):
        app.command(context_settings=PASS_ON, epilog=f"{PASS_ON_HELP}. Exit codes: {codes}.")(command)


def lock(
    name: Name,
    check: Annotated[bool, typer.Option("--check", help="Only say whether the lock is stale; exit code 1.")] = False,
    upgrade: Annotated[bool, typer.Option("--upgrade", help="Take the newest versions, not those locked now.")] = False,
) -> None:
    """Lock environment.yml into conda-linux-64.lock and requirements.lock, with the sha256 of every file.

    Example: python -m deployer lock sglang
    """
    from rich.console import Console

    from deployer.environments.lock import check_lock, lock_environment
    from deployer.environments.sources import read_sources
    from deployer.progress import shown as shown_progress

    with errors_said("lock"):
        folder = folder_of(name)
        sources = read_sources(folder)
        if check:
            reasons = check_lock(folder, sources)
            for reason in reasons:
                typer.echo(f"stale: {reason}")
            typer.echo(f"{folder}: " + (f"lock again: python -m deployer lock {name}" if reasons else "up to date"))
            raise typer.Exit(1 if reasons else 0)
        with shown_progress(Console(stderr=True)) as progress:
            summary = lock_environment(folder, sources, upgrade=upgrade, progress=progress.line)
        for line in summary.lines():
            typer.echo(line)


def bundle(
    name: Name,
    wheels: Annotated[
        list[Path] | None, typer.Option(help="Folder to take wheels from before any index is asked.")
    ] = None,
) -> None:
    """Fetch every file that a lock names into its folder's bundle, verified: what hosts are sent.

    Example: python -m deployer bundle sglang
    """
    from rich.console import Console

    from deployer.environments.bundle import make_bundle
    from deployer.environments.sources import read_sources
    from deployer.progress import shown as shown_progress

    with errors_said("bundle"):
        folder = folder_of(name)
        with shown_progress(Console(stderr=True)) as progress:
            make_bundle(
                folder,
                folder / "bundle",
                sources=read_sources(folder),
                wheel_sources=wheels or (),
                progress=progress,
            )


@on_hosts()
def environments(options: Options) -> None:
    """List the conda environments of every host: versions, size, and who uses them; change nothing.

    Example: python -m deployer environments -i inventory/hosts.yml
    """
    from rich.console import Console

    from deployer.views.environments import print_environments

    found = options.deployer.environments()
    if options.as_json:
        typer.echo(json.dumps(_as_json(found), indent=2))
    else:
        print_environments(Console(), _raw(found), _explained(found))
    say_ansibles_words(options, found)
    raise typer.Exit(found.exit_code)


@on_hosts()
def verify(options: Options, deep: Annotated[bool, typer.Option("--deep", help="Hash every file.")] = False) -> None:
    """Say whether environments and models on every host are still what was built and brought; change nothing.

    Example: python -m deployer verify -i inventory/hosts.yml --deep
    """
    from rich.console import Console

    from deployer.runs import results
    from deployer.views.plan import print_lines
    from deployer.views.verify import verify_lines

    found = options.deployer.verify(deep=deep)
    if options.as_json:
        typer.echo(json.dumps(_as_json(found), indent=2))
    else:
        built, models = (found.summary.reports_of(one) for one in (results.VERIFY, results.MODEL_VERIFY))
        print_lines(Console(), verify_lines(built, models, _explained(found), deep))
    say_ansibles_words(options, found)
    raise typer.Exit(found.exit_code)


@on_hosts("check")
def prune(options: Options) -> None:
    """Remove environments, models and releases that no kept release uses; never one in use.

    Example: python -m deployer prune -i inventory/hosts.yml --check
    """
    from rich.console import Console

    from deployer.views.console import shown
    from deployer.views.plan import print_lines
    from deployer.views.prune import prune_lines

    pruning = options.deployer.prune(check=options.check)
    if options.as_json:
        typer.echo(json.dumps(_as_json(pruning), indent=2))
    else:
        console = Console()
        print_lines(console, prune_lines(_raw(pruning), check=options.check, kept=options.check))
        for host, why in _explained(pruning).items():
            console.print(f"{host}: {shown(why, lines=True)}", style="red", highlight=False, soft_wrap=True)
    say_ansibles_words(options, pruning)
    raise typer.Exit(pruning.exit_code)


def folder_of(name: str) -> Path:
    """The folder of an environment, by the path of the folder or by its name below `environments/`.

    Raises:
        DeployError: there is no such folder.
    """
    from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

    for folder in (Path(name), ENVIRONMENTS / name):
        if folder.is_dir():
            return folder
    known = sorted(path.parent.name for path in ENVIRONMENTS.glob("*/environment.yml"))
    raise DeployError(
        f"there is no environment {name}: neither a folder {name} nor {ENVIRONMENTS / name}",
        fix=f"name one of {', '.join(known)}" if known else f"write {ENVIRONMENTS / name / 'environment.yml'}",
    )


def _raw(answer: Answer[Any]) -> dict[str, Mapping[str, Any]]:
    """What the module returned, of the hosts where it did."""
    return {name: host.raw for name, host in answer.hosts.items() if host.raw}


def _explained(answer: Answer[Any]) -> dict[str, str]:
    """Why the others gave no answer, for people."""
    return {name: host.explained for name, host in answer.hosts.items() if host.failure}


def _as_json(answer: Answer[Any]) -> dict[str, object]:
    """What modules returned on every host, without what Ansible adds to it."""
    return {
        name: {
            "reachable": host.reachable,
            "failure": host.failure,
            **{key: value for key, value in host.raw.items() if key not in ANSIBLES_OWN and not key.startswith("_")},
        }
        for name, host in answer.hosts.items()
    }
