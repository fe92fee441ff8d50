"""What an operator sees of a pruning: what goes, what stays and why, folded over the hosts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.table import Table

from deployer.views.console import shown
from deployer.views.plan import Line

Result = Mapping[str, Any]

HOSTS_NAMED = 3
UNITS = ("B", "K", "M", "G", "T")
# Of these, hosts differ in how many parts they hold, not in what it is.
COUNTED = ("wheel cache", "conda cache")


@dataclass(frozen=True)
class Fold:
    """One thing on the hosts that share it; `size` is bytes on all of them together."""

    kind: str
    name: str
    why: str
    size: int
    hosts: tuple[str, ...]


def prune_lines(results: Mapping[str, Result], check: bool = False, kept: bool = False) -> Iterator[Table | Line]:
    """The result of the module `prune` on every host, for people.

    Args:
        results: host -> result.
        check: nothing was removed.
        kept: also what is kept, and why.
    """
    removed = fold(results, "removed")
    if removed:
        yield _table("Would be removed" if check else "Removed", removed, len(results))
    if kept and (stays := fold(results, "kept")):
        yield _table("Kept", stays, len(results))
    yield from _remarks(results, "failed_paths", "red", "not removed")
    yield from _remarks(results, "left_alone", "dim", "left alone")
    yield from _notes(results)
    yield Line(_sum(results, removed, check))


def fold(results: Mapping[str, Result], what: str) -> list[Fold]:
    """Rows of the list `what`, each once for all hosts, in the order in which they were met.

    Hosts share a row when it is the same thing; why it is kept is said as the first of them says it.
    """
    found: dict[tuple[str, str], list[tuple[str, Mapping[str, Any]]]] = {}
    for host, result in results.items():
        for row in result.get(what, ()):
            found.setdefault((str(row["kind"]), _name(row)), []).append((host, row))
    return [
        Fold(kind, name, _why(rows), sum(int(row["bytes"]) for _, row in rows), tuple(host for host, _ in rows))
        for (kind, name), rows in found.items()
    ]


def readable(size: int) -> str:
    """Bytes for people: `0B`, `12.3M`, `1.4T`."""
    value = float(size)
    for unit in UNITS:
        if value < 1024 or unit == UNITS[-1]:
            break
        value /= 1024
    return f"{value:.0f}{unit}" if unit == "B" else f"{value:.1f}{unit}"


def _name(row: Mapping[str, Any]) -> str:
    """What tells a thing from others of its kind: a release needs its service's name as well."""
    parts = str(row["path"]).split("/")
    if row["kind"] in ("release", "unfinished release") and len(parts) > 2:
        return f"{parts[-3]}/{parts[-1]}"
    return parts[-1]


def _why(rows: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
    reasons = list(dict.fromkeys(str(row["why"]) for _, row in rows))
    if len(reasons) > 1 and rows[0][1]["kind"] not in COUNTED:
        return f"{reasons[0]} (and otherwise on other hosts)"
    return reasons[0]


def _table(title: str, rows: Iterable[Fold], hosts: int) -> Table:
    table = Table(title=title, title_justify="left", padding=(0, 1, 0, 0), box=box.SIMPLE)
    table.add_column("what", overflow="fold", min_width=24)
    table.add_column("disk", justify="right", no_wrap=True)
    table.add_column("why, where", overflow="fold")
    for row in rows:
        table.add_row(
            f"[bold]{shown(row.kind)}[/]\n{shown(row.name)}",
            readable(row.size),
            f"{shown(row.why)}\n[dim]{_hosts(row.hosts, hosts)}[/]",
        )
    return table


def _remarks(results: Mapping[str, Result], what: str, style: str, word: str) -> Iterator[Line]:
    where: dict[tuple[str, str], list[str]] = {}
    for host, result in results.items():
        for row in result.get(what, ()):
            where.setdefault((str(row["path"]), str(row["why"])), []).append(host)
    for (path, why), hosts in where.items():
        yield Line(f"[{style}]{word}[/] {shown(path)}: {shown(why)} [dim]({_hosts(hosts, len(results))})[/]")


def _notes(results: Mapping[str, Result]) -> Iterator[Line]:
    where: dict[str, list[str]] = {}
    for host, result in results.items():
        for note in result.get("notes", ()):
            where.setdefault(str(note), []).append(host)
    for note, hosts in where.items():
        yield Line(f"[yellow]note[/] {shown(note)} [dim]({_hosts(hosts, len(results))})[/]")


def _hosts(names: Sequence[str], all_hosts: int) -> str:
    if len(names) == all_hosts > 1:
        return f"all {all_hosts} hosts"
    rest = len(names) - HOSTS_NAMED
    return shown(", ".join(names[:HOSTS_NAMED])) + (f" and {rest} more" if rest > 0 else "")


def _sum(results: Mapping[str, Result], removed: Iterable[Fold], check: bool) -> str:
    hosts = f"{len(results)} host" + ("s" if len(results) != 1 else "")
    count = Counter[str]()
    for row in removed:
        count[row.kind] += len(row.hosts)
    if not count:
        return f"{hosts}: nothing to remove"
    size = readable(sum(int(result.get("freed", 0)) for result in results.values()))
    parts = ", ".join(f"{number} {_plural(kind, number)}" for kind, number in count.items())
    return f"{hosts}: {size} {'would be freed' if check else 'freed'}: {parts}"


def _plural(kind: str, number: int) -> str:
    return kind if number == 1 or kind == "incoming" else f"{kind}s"
