"""What hosts remember: history, and the lock of a rollout."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping
from typing import Annotated, Any

import typer
from rich import box
from rich.console import Console
from rich.table import Table
from typer.core import TyperGroup

from deployer.cli import environments
from deployer.cli.command_line import PASS_ON, PASS_ON_HELP, Options, on_hosts, tell
from deployer.runs import results
from deployer.runs.asking import asked
from deployer.views.console import OUTCOME_STYLE, shown

MARK = {"current": "●", "previous": "previous", "adopted": "adopted", "predecessor": "predecessor"}
ENVIRONMENT = "environment"


class LockGroup(TyperGroup):
    """`lock status` and `lock release` are about hosts; `lock NAME` locks an environment."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Take whatever is no command of its own for an environment."""
        if args and args[0] not in (*self.commands, "-h", "--help"):
            args = [ENVIRONMENT, *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


def add_to(app: typer.Typer) -> None:
    """Add the commands of this file to the command line."""
    app.command(context_settings=PASS_ON, epilog=f"{PASS_ON_HELP}. Exit codes: 0 asked all, 2 not all.")(history)
    group = typer.Typer(
        cls=LockGroup,
        no_args_is_help=True,
        help="Lock an environment (lock NAME), or see to the lock that a rollout keeps on hosts.",
    )
    codes = "Exit codes: 0 done, 1 stale (--check), 2 failed; nothing was written."
    group.command(ENVIRONMENT, epilog=codes)(environments.lock)
    group.command(
        "status", context_settings=PASS_ON, epilog=f"{PASS_ON_HELP}. Exit codes: 0 nobody, 1 held, 2 not all asked."
    )(lock_status)
    group.command("release", context_settings=PASS_ON, epilog=f"{PASS_ON_HELP}. Exit codes: 0 done, 2 not on all.")(
        lock_release
    )
    app.add_typer(group, name="lock")


@on_hosts()
def history(
    options: Options,
    last: Annotated[int, typer.Option("--last", min=0, help="How many events of each service.")] = 10,
    runs: Annotated[bool, typer.Option("--runs", help="List the runs of this controller, asking no host.")] = False,
    run: Annotated[str, typer.Option("--run", metavar="ID", help="Show one of these runs; `last` is the newest.")] = "",
) -> None:
    """List the releases that every host keeps, which rollback --to takes, and what happened there.

    Example: python -m deployer history -i inventory/hosts.yml -l gpu1
    """
    if runs or run:
        _runs_of_this_controller(run, options.as_json)
        return
    invocation = options.invocation({"history_last": last})
    summary, ended = asked("history", invocation)
    failures = summary.silent(results.HISTORY)

    def show(console: Console, found: Mapping[str, Mapping[str, Any]]) -> None:
        for host, result in found.items():
            for table in history_tables(host, result["history"]):
                console.print(table)

    tell(summary, ended, results.HISTORY, failures, "services" if options.as_json else "", show)
    raise typer.Exit(2 if failures or not summary.reports_of(results.HISTORY) else 0)


def _runs_of_this_controller(wanted: str, as_json: bool) -> None:
    """List the runs that the journals tell of, or show one.

    Raises:
        DeployError: there is no such run.
    """
    from deployer.runs.journal import find_run, kept_runs
    from deployer.views.runs import print_run, run_summary, runs_table

    console = Console()
    if wanted:
        run = find_run(wanted)
        if as_json:
            for event in run.events():
                typer.echo(event.as_json())
        else:
            print_run(run, console)
    elif as_json:
        typer.echo(json.dumps([run_summary(one) for one in kept_runs()], indent=2))
    else:
        console.print(runs_table(kept_runs()))


def history_tables(host: str, services: list[Mapping[str, Any]]) -> Iterator[Table]:
    """Two tables a service: its releases, and its last events."""
    for service in services:
        title = f"{shown(host)} {shown(service['service'])}"
        table = _table(f"{title}: releases", "release", "is", "engine")
        table.add_column("environment\n[dim]model[/]", overflow="fold")
        table.add_column("staged\n[dim]served (UTC)[/]", no_wrap=True)
        for one in service["releases"]:
            marks = "\n".join(MARK.get(mark, mark) for mark in one["marks"])
            environment, model = (shown(one[key]) for key in ("environment", "model"))
            table.add_row(
                f"[bold]{shown(one['id'])}[/]" if "current" in one["marks"] else shown(one["id"]),
                marks if one["readable"] else "[red]unreadable[/]",
                shown(one["engine"]),
                f"{environment}\n[dim]{model}[/]",
                f"{_day(one['staged'])}\n[dim]{shown(_moment(str(one['committed'])))}[/]",
            )
        yield table
        events = _table(f"{title}: events", "when (UTC)", "who", "from\n[dim]to[/]", "outcome", "s")
        events.add_column("why", overflow="fold", ratio=1)
        for one in service["events"]:
            outcome = str(one["outcome"] or one["event"])
            seconds = one["seconds"]
            events.add_row(
                shown(_moment(str(one["time"]))),
                shown(_cut(str(one["initiator"]), 14)),
                f"{shown(_cut(str(one['from'] or 'none'), 12))}\n[dim]{shown(_cut(str(one['to'] or 'none'), 12))}[/]",
                f"[{OUTCOME_STYLE.get(outcome, 'default')}]{shown(outcome)}[/]",
                "" if seconds is None else f"{seconds:.0f}",
                shown(_cut(str(one["reason"]), 120)),
            )
        if service["events"]:
            yield events


@on_hosts()
def lock_status(options: Options) -> None:
    """Say who is rolling out to every host: who, since when, from where, and what.

    Example: python -m deployer lock status -i inventory/hosts.yml
    """
    held, failed = _look(options, "read")
    raise typer.Exit(2 if failed else 1 if held else 0)


@on_hosts()
def lock_release(options: Options) -> None:
    """Give the lock of a rollout back, whoever holds it. Look first whether that rollout is really no more.

    Example: python -m deployer lock release -i inventory/hosts.yml -l gpu1
    """
    _, failed = _look(options, "released")
    raise typer.Exit(2 if failed else 0)


def _look(options: Options, state: str) -> tuple[bool, bool]:
    """Whether any host is locked, or was; and whether one could not be asked."""
    summary, run = asked("lock", options.invocation({"rollout_lock_state": state}))
    found, failures = summary.reports_of(results.LOCK), summary.silent(results.LOCK)

    def show(console: Console, hosts: Mapping[str, Mapping[str, Any]]) -> None:
        for host, result in hosts.items():
            text = str(result.get("text") or "")
            said = f"released, held by {text}" if state == "released" and text else text or "nobody"
            console.print(f"{host}: {shown(said)}", highlight=False, soft_wrap=True)

    tell(summary, run, results.LOCK, failures, "holder" if options.as_json else "", show)
    return any(result["holder"] for result in found.values()), bool(failures or not found)


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    for column in columns:
        table.add_column(column, no_wrap=True)
    return table


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _moment(stamp: str) -> str:
    """An ISO time to the minute."""
    return stamp[:16].replace("T", " ")


def _day(seconds: float) -> str:
    return time.strftime("%Y-%m-%d", time.gmtime(seconds)) if seconds else ""
