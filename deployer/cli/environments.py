"""The commands about environments: lock (which history_commands.py adds), bundle, environments, verify, prune."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from deployer.cli.command_line import (
    PASS_ON,
    PASS_ON_HELP,
    Check,
    ExtraVars,
    Inventory,
    Json,
    Limit,
    asked,
    errors_said,
    explain,
    invocation_of,
)
from deployer.runs import results

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
        app.command(context_settings=PASS_ON, epilog=f"{PASS_ON_HELP} Exit codes: {codes}.")(command)


def lock(
    name: Name,
    check: Annotated[bool, typer.Option("--check", help="Only say whether the lock is stale; exit code 1.")] = False,
    upgrade: Annotated[bool, typer.Option("--upgrade", help="Take the newest versions, not those locked now.")] = False,
) -> None:
    """Lock environment.yml into conda-linux-64.lock and requirements.lock, with the sha256 of every file.

    Example: python -m deployer lock sglang
    """
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


def environments(
    context: typer.Context,
    inventory: Inventory = None,
    limit: Limit = "",
    extra_vars: ExtraVars = None,
    as_json: Json = False,
) -> None:
    """List the conda environments of every host: versions, size, and who uses them; change nothing.

    Example: python -m deployer environments -i inventory/hosts.yml
    """
    from deployer.views.environments import print_environments

    summary, run = asked("environments", invocation_of(context, inventory, limit, extra_vars, check=False))
    found, failures = summary.reports_of(results.ENVIRONMENTS), summary.silent(results.ENVIRONMENTS)
    if as_json:
        typer.echo(json.dumps(_as_json(summary, results.ENVIRONMENTS), indent=2))
    elif summary.hosts:
        print_environments(Console(), found, failures)
    explain(summary, run, Console(stderr=True))
    raise typer.Exit(2 if failures or not found else 0)


def verify(
    context: typer.Context,
    inventory: Inventory = None,
    limit: Limit = "",
    extra_vars: ExtraVars = None,
    deep: Annotated[bool, typer.Option("--deep", help="Hash every file.")] = False,
    as_json: Json = False,
) -> None:
    """Say whether environments and models on every host are still what was built and brought; change nothing.

    Example: python -m deployer verify -i inventory/hosts.yml --deep
    """
    from deployer.views.plan import print_lines
    from deployer.views.verify import verify_lines

    invocation = invocation_of(context, inventory, limit, extra_vars, False, {"verify_deep": deep})
    summary, run = asked("verify", invocation)
    found, models = summary.reports_of(results.VERIFY), summary.reports_of(results.MODEL_VERIFY)
    failures = {**summary.silent(results.VERIFY), **summary.silent(results.MODEL_VERIFY)}
    if as_json:
        typer.echo(json.dumps(_as_json(summary, results.VERIFY, results.MODEL_VERIFY), indent=2))
    elif summary.hosts:
        print_lines(Console(), verify_lines(found, models, failures, deep))
    explain(summary, run, Console(stderr=True))
    if failures or not found:
        raise typer.Exit(2)
    sound = [one["sound"] for result in found.values() for one in result["environments"]]
    sound += [one["ok"] for result in models.values() for one in result["models"]]
    raise typer.Exit(0 if all(sound) else 1)


def prune(
    context: typer.Context,
    inventory: Inventory = None,
    limit: Limit = "",
    extra_vars: ExtraVars = None,
    check: Check = False,
    as_json: Json = False,
) -> None:
    """Remove environments, models and releases that no kept release uses; never one in use.

    Example: python -m deployer prune -i inventory/hosts.yml --check
    """
    from deployer.views.plan import print_lines
    from deployer.views.prune import prune_lines

    summary, run = asked("prune", invocation_of(context, inventory, limit, extra_vars, check))
    found, failures = summary.reports_of(results.PRUNE), summary.silent(results.PRUNE)
    if as_json:
        typer.echo(json.dumps(_as_json(summary, results.PRUNE), indent=2))
    elif summary.hosts:
        console = Console()
        print_lines(console, prune_lines(found, check=check, kept=check))
        for host, why in failures.items():
            console.print(f"{host}: {why}", style="red", highlight=False, markup=False, soft_wrap=True)
    explain(summary, run, Console(stderr=True))
    failed = any(host.failure or host.unreachable for host in summary.hosts.values())
    raise typer.Exit(2 if failed or not found else 0)


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


def _as_json(summary: results.Summary, *modules: str) -> dict[str, object]:
    """What modules returned on every host, without what Ansible adds to it."""
    return {
        name: {
            "reachable": not host.unreachable,
            "failure": host.failure,
            **{
                key: value
                for module in modules
                for key, value in host.reports.get(module, {}).items()
                if key not in ANSIBLES_OWN and not key.startswith("_")
            },
        }
        for name, host in summary.hosts.items()
    }
