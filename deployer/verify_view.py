"""What an operator sees of the environments' verification."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.table import Table

from deployer.console import counted, shown
from deployer.plan_view import Line

LINES_SHOWN = 5  # differences of one environment

Found = Mapping[str, Mapping[str, Any]]


def verify_lines(found: Found, failures: Mapping[str, str], deep: bool) -> Iterator[Table | Line]:
    """A row for every environment of every host, then what differs with the way out of it, then the sum.

    Args:
        found: host -> what the module `environment_verify` returned there.
        failures: host -> why it could not be asked.
        deep: files were hashed.
    """
    rows = [(host, one) for host, result in found.items() for one in result["environments"]]
    if rows:
        yield _table(rows, deep)
    for host, one in rows:
        yield from _trouble(host, one)
    for host, why in failures.items():
        yield Line(f"[red]{shown(host)}[/] could not be asked: {shown(why)}")
    wrong = sum(not one["sound"] for _, one in rows)
    how = "hashed" if deep else "looked at (--deep hashes every file)"
    looked = f"{counted(len(rows), 'environment')} on {counted(len(found), 'host')} {how}"
    verdict = f"[red]{wrong} not as it was[/]" if wrong else "[green]as they were[/]"
    yield Line(f"{looked}; {verdict if rows else 'there is nothing to verify'}")


def _table(rows: list[tuple[str, Mapping[str, Any]]], deep: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("host", "environment", "files" if deep else "", "state"):
        table.add_column(heading, justify="right" if heading == "files" else "left", overflow="fold")
    for host, one in rows:
        state = "[green]as built[/]" if one["built"] else "[green]as installed[/]"
        if one["problem"]:
            state = "[red]unusable[/]"
        elif one["count"]:
            state = f"[red]{counted(one['count'], 'difference')}[/]"
        elif not deep:
            state = "[green]versions as built[/]" if one["built"] else "[green]works[/]"
        files = f"{one['files']:,}" if one["files"] else ""
        table.add_row(shown(host), shown(one["path"]), files, state)
    return table


def _trouble(host: str, one: Mapping[str, Any]) -> Iterator[Line]:
    if one["sound"]:
        return
    yield Line(f"[bold]{shown(host)}[/] {shown(one['path'])}")
    if one["problem"]:
        yield Line(f"[red]{shown(one['problem'])}[/]", 2)
    for line in one["differences"][:LINES_SHOWN]:
        yield Line(f"[red]{shown(line)}[/]", 2)
    if one["count"] > LINES_SHOWN:
        yield Line(f"… and {one['count'] - LINES_SHOWN} more; --json has the first 50", 2)
    yield Line(f"fix: {shown(one['fix'])}", 2)
