"""What an operator sees of the verification of environments and models."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.filesize import decimal
from rich.table import Table

from deployer.views.console import shown
from deployer.views.plan import Line
from deployer.wording import counted

LINES_SHOWN = 5  # differences of one environment or model

Found = Mapping[str, Mapping[str, Any]]


def verify_lines(found: Found, models: Found, failures: Mapping[str, str], deep: bool) -> Iterator[Table | Line]:
    """A row for every environment and model of every host, then what differs with the way out of it, then the sum.

    Args:
        found: host -> what the module `environment_verify` returned there.
        models: host -> what the module `model_verify` returned there.
        failures: host -> why it could not be asked.
        deep: files were hashed.
    """
    rows = [(host, one) for host, result in found.items() for one in result["environments"]]
    model_rows = [(host, one) for host, result in models.items() for one in result["models"]]
    if rows:
        yield _table(rows, deep)
    if model_rows:
        yield _model_table(model_rows, deep)
    for host, one in rows:
        yield from _trouble(host, one)
    for host, one in model_rows:
        yield from _model_trouble(host, one)
    for host, why in failures.items():
        yield Line(f"[red]{shown(host)}[/] could not be asked: {shown(why)}")
    wrong = sum(not one["sound"] for _, one in rows) + sum(not one["ok"] for _, one in model_rows)
    how = "hashed" if deep else "looked at (--deep hashes every file)"
    what = f"{counted(len(rows), 'environment')} and {counted(len(model_rows), 'model')}"
    looked = f"{what} on {counted(len({**found, **models}), 'host')} {how}"
    verdict = f"[red]{wrong} not as it was[/]" if wrong else "[green]as they were[/]"
    yield Line(f"{looked}; {verdict if rows or model_rows else 'there is nothing to verify'}")


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


def _model_table(rows: list[tuple[str, Mapping[str, Any]]], deep: bool) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for heading in ("host", "model", "files", "size", "state"):
        table.add_column(heading, justify="right" if heading in ("files", "size") else "left", overflow="fold")
    for host, one in rows:
        state = f"[green]hashed in {one['seconds']:.0f} s[/]" if deep else "[green]size and time as verified[/]"
        if one["count"]:
            state = f"[red]{counted(one['count'], 'problem')}[/]"
        table.add_row(shown(host), shown(one["path"]), f"{one['files']:,}", decimal(one["bytes"]), state)
    return table


def _model_trouble(host: str, one: Mapping[str, Any]) -> Iterator[Line]:
    if one["ok"]:
        return
    yield Line(f"[bold]{shown(host)}[/] {shown(one['path'])}")
    for problem in one["problems"][:LINES_SHOWN]:
        wanted = f"wanted {problem['wanted']}, got " if problem["wanted"] else ""
        yield Line(f"[red]{shown(problem['file'])}: {shown(wanted)}{shown(problem['got'])}[/]", 2)
    if one["count"] > LINES_SHOWN:
        yield Line(f"… and {one['count'] - LINES_SHOWN} more; --json has the first 50", 2)
    yield Line(f"fix: {shown(one['fix'])}", 2)
