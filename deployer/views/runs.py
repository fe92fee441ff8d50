"""The runs of this controller, as their journals have them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from deployer.runs.journal import Kept
from deployer.views.console import shown
from deployer.views.live import clock_text
from deployer.views.plain import PlainView

CODES = {0: "done", 1: "failed, restored", 2: "refused", 3: "NOT RESTORED", 4: "stopped"}
CODE_STYLE = {0: "green", 1: "yellow", 2: "yellow", 3: "red", 4: "cyan"}
UNSEEN = "end not seen"
HOSTS_NAMED = 3


def run_summary(run: Kept) -> dict[str, Any]:
    """What is said of a run in a list of them."""
    record = run.record
    code = record.get("exit_code")
    hosts = record.get("hosts")
    return {
        "run": run.run,
        "initiator": str(record.get("initiator") or ""),
        "verb": str(record.get("verb") or ""),
        "limit": str(record.get("limit") or ""),
        "hosts": dict(hosts) if isinstance(hosts, Mapping) else {},
        "exit_code": code,
        "outcome": CODES.get(code, UNSEEN) if isinstance(code, int) else UNSEEN,
        "seconds": record.get("seconds"),
    }


def runs_table(runs: Iterable[Kept]) -> Table:
    """A row a run, the newest first."""
    table = Table(title="Runs of this controller", title_justify="left", box=box.SIMPLE, padding=(0, 1, 0, 0))
    table.add_column("run", no_wrap=True)
    table.add_column("who", overflow="fold")
    table.add_column("hosts", overflow="fold")
    table.add_column("outcome", no_wrap=True)
    table.add_column("took", no_wrap=True, justify="right")
    for run in runs:
        one = run_summary(run)
        style = CODE_STYLE.get(one["exit_code"], "red")
        table.add_row(
            f"[bold]{shown(one['run'])}[/]",
            shown(one["initiator"]),
            shown(_named(one["hosts"]) or one["limit"]),
            f"[{style}]{shown(one['outcome'])}[/]",
            "" if one["seconds"] is None else clock_text(float(one["seconds"])),
        )
    return table


def print_run(run: Kept, console: Console) -> None:
    """One run: what it was, and the lines that it had."""
    record = run.record
    console.print(runs_table([run]))
    options = record.get("options") or {}
    versions = record.get("versions") or {}
    inventory = record.get("inventory") or {}
    for name, value in (
        ("options", ", ".join(f"{key} {one}" for key, one in options.items())),
        ("versions", ", ".join(f"{key} {one}" for key, one in versions.items())),
        ("inventory", f"{', '.join(inventory.get('sources', ()))} (sha256 {str(inventory.get('digest'))[:12]})"),
        ("meaning", record.get("meaning")),
        ("folder", run.folder),
    ):
        if value:
            console.print(f"[dim]{name}:[/] {shown(value)}", highlight=False, soft_wrap=True)
    console.print()
    view = PlainView(console)
    for event in run.events():
        view(event)


def _named(hosts: Mapping[str, str]) -> str:
    names = list(hosts)
    rest = len(names) - HOSTS_NAMED
    return ", ".join(names[:HOSTS_NAMED]) + (f" and {rest} more" if rest > 0 else "")
