"""What an operator sees of a plan: a table of what would run where, and every finding with its fix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich import box
from rich.console import Console
from rich.padding import Padding
from rich.table import Table

from deployer.runs.results import Summary
from deployer.views.console import shown

Plan = Mapping[str, Any]

GIB = 2**30
BAR = 16  # characters of a memory bar
WEIGHTS, KV, RESERVED, TAKEN = "█", "▓", "░", "·"
LEGEND = (
    f"[dim]memory of a GPU: {WEIGHTS} weights, {KV} KV cache, {RESERVED} activations and graphs, {TAKEN} not free[/]"
)
SEVERITY_STYLE = {"error": "red", "warning": "yellow", "info": "cyan", "accepted": "dim"}
CHECK_STYLE = {"ok": "green", **SEVERITY_STYLE}
HOSTS_NAMED = 4  # of those that share a finding


@dataclass(frozen=True)
class Line:
    """A line of markup that keeps its indent where a terminal has to break it."""

    text: str
    indent: int = 0


def plan_lines(summary: Summary) -> Iterator[Table | Line]:
    """The plan for people: a table, then the findings of all hosts, each once, then what it comes to."""
    plans = _plans(summary)
    if plans:
        yield _table(plans)
        if any(service["memory"] for plan in plans.values() for service in plan["services"]):
            yield Line(LEGEND)
            yield Line("")
    yield from _strategies(plans)
    yield from _findings(plans)
    yield from _unplanned(summary)
    yield _sum(summary)


def doctor_lines(summary: Summary) -> Iterator[Table | Line]:
    """The checks for people: a line each, with the fix of those that did not pass."""
    for name, plan in _plans(summary).items():
        yield Line(f"[bold]{shown(name)}[/]")
        for check in plan["checks"]:
            found = check["finding"]
            severity = found["severity"] if found else "ok"
            mark = f"[{CHECK_STYLE[severity]}]{severity:8}[/]"
            yield Line(f"{mark} {shown(check['name'])}: {shown(check['detail'])}", 2)
            if found and severity != "accepted":
                yield Line(f"[dim]fix ({found['id']}):[/] {shown(found['fix'])}", 11)
    yield from _unplanned(summary)
    yield _sum(summary)


def print_lines(console: Console, lines: Iterable[Table | Line]) -> None:
    """Print a view; what is no terminal gets whole lines, for other programs to search."""
    for line in lines:
        if isinstance(line, Table):
            console.print(line)
        elif console.is_terminal:
            console.print(Padding(line.text, (0, 0, 0, line.indent)), highlight=False)
        else:
            console.print(" " * line.indent + line.text, highlight=False, soft_wrap=True)


def _plans(summary: Summary) -> dict[str, Plan]:
    return {host.host: host.plan for host in summary.hosts.values() if host.plan}


def _table(plans: Mapping[str, Plan]) -> Table:
    table = Table(title="Plan", title_justify="left", padding=(0, 1, 0, 0), box=box.SIMPLE)
    for column in ("host, service", "now → next", "GPUs", "memory a GPU", "KV cache"):
        table.add_column(column, overflow="fold", no_wrap=column in ("GPUs", "memory a GPU", "KV cache"))
    for host, plan in plans.items():
        for service in plan["services"]:
            table.add_row(*_row(host, service))
    return table


def _row(host: str, service: Mapping[str, Any]) -> list[str]:
    """A service in cells of two lines, so that it is read in 80 columns as well."""
    if service["role"] == "predecessor":
        name = "[dim]└ way back[/]"
    else:
        name = f"[bold]{shown(host)}[/]\n{shown(service['service'])}"
    named = [str(gpu["index"]) for gpu in service["gpus"]] or service["gpus_wanted"]
    gpus = shown(",".join(named)) or "none"
    return [name, _change(service), f"{gpus}\n{_degrees(service['parallelism'])}", _memory(service), _kv(service)]


def _degrees(parallelism: Mapping[str, int]) -> str:
    others = (("pipeline", "PP"), ("data", "DP"), ("expert", "EP"), ("attention_data", "ADP"))
    return " ".join(
        [f"TP {parallelism['tensor']}"]
        + [f"{short} {parallelism[degree]}" for degree, short in others if parallelism[degree] > 1]
    )


def _change(service: Mapping[str, Any]) -> str:
    current = service["current"]
    version = shown(f"{service['engine']} {service['version']}".strip())
    if service["role"] == "predecessor":
        return f"[dim]{version}[/]"
    if current and current["release"] == service["next"]:
        stays = "stays" if current["runs"] else "is started again"
        return f"{version}\n[dim]{shown(current['release'])}, {stays}[/]"
    by_hand = str(service.get("by_hand") or "").partition(":")[0]  # a journal of an earlier version has none
    without = f"{by_hand}, by hand" if by_hand else "nothing"
    before = shown(f"{current['engine']} {current['release']}" if current else without)
    return f"{before}\n→ {version} {service['next'] or '(not hashed here yet)'}"


def _memory(service: Mapping[str, Any]) -> str:
    memory, weights = service["memory"], service["weight_bytes"]
    if not memory:
        return f"{_gib(weights)} of weights" if weights else ""
    total = memory["total"]
    used = (service["kv_tokens"] or 0) * (service["kv_bytes_per_token"] or 0) if memory["capped"] else memory["kv"]
    kv = max(0, used)
    width = {part: min(BAR, round(BAR * size / total)) for part, size in ((WEIGHTS, memory["weights"]), (KV, kv))}
    taken = min(BAR, round(BAR * (total - memory["available"]) / total))
    bar = (WEIGHTS * width[WEIGHTS] + KV * width[KV])[: BAR - taken]
    style = "red" if memory["kv"] <= 0 else "green"
    bar += RESERVED * (BAR - taken - len(bar)) + TAKEN * taken
    return f"[{style}]{bar}[/]\n{_gib(memory['weights'])} + {_gib(kv)} of {_gib(total)}"


def _kv(service: Mapping[str, Any]) -> str:
    """Its capacity in tokens, how many requests run at once, and how many of the longest fit."""
    if not service["kv_tokens"]:
        return ""
    lines = [f"{service['kv_tokens']:,} tokens"]
    if service["requests"]:
        lines.append(f"[dim]{service['requests']:,} at once[/]")
    return "\n".join([*lines, f"[dim]{service['longest_requests']:,} x {service['context']:,}[/]"])


def _gib(size: float) -> str:
    return f"{size / GIB:.1f}G" if size >= GIB / 10 else f"{size / 2**20:.1f}M"


def _strategies(plans: Mapping[str, Plan]) -> Iterator[Line]:
    """How each service is cut over and why, once for all hosts where it is the same."""
    where: dict[tuple[str, str, str], list[str]] = {}
    for host, plan in plans.items():
        for service in plan["services"]:
            strategy = service.get("strategy")
            if strategy and service["next"] != (service["current"] or {}).get("release"):
                where.setdefault((service["service"], strategy["kind"], strategy["reason"]), []).append(host)
    for (service, kind, reason), names in where.items():
        hosts = _hosts(names, len(plans))
        yield Line(f"cut-over of {shown(service)} [dim]on {hosts}[/]: [bold]{kind}[/], as {shown(reason)}")


def _findings(plans: Mapping[str, Plan]) -> Iterator[Line]:
    """Each finding once, worst first, with the hosts that it is found on."""
    where: dict[tuple[str, str, str, str, str], list[str]] = {}
    for host, plan in plans.items():
        for one in plan["findings"]:
            key = (one["severity"], one["id"], one["subject"], one["message"], one["fix"])
            where.setdefault(key, []).append(host)
    worst_first = list(SEVERITY_STYLE)
    for (severity, identifier, subject, message, fix), names in sorted(
        where.items(), key=lambda item: worst_first.index(item[0][0])
    ):
        style = SEVERITY_STYLE[severity]
        yield Line(f"[{style}]{severity:8}[/] [bold]{identifier}[/] [dim]on {_hosts(names, len(plans))}[/]")
        yield Line(f"{shown(subject)}: {shown(message)}", 9)
        if severity != "accepted":
            yield Line(f"[dim]fix:[/] {shown(fix)}", 9)


def _unplanned(summary: Summary) -> Iterator[Line]:
    """Hosts without a plan, those with one reason together."""
    where: dict[tuple[str, str], list[str]] = {}
    for host in summary.hosts.values():
        if not host.plan:
            word = "unreachable" if host.unreachable else "not planned"
            where.setdefault((word, host.failure), []).append(host.host)
    for (word, reason), names in where.items():
        yield Line(f"[red]{word}[/] [bold]{_hosts(names, len(summary.hosts))}[/]")
        for line in reason.splitlines():
            yield Line(shown(line), 9)


def _hosts(names: Sequence[str], all_hosts: int) -> str:
    """The names of hosts, for people."""
    if len(names) == all_hosts > 1:
        return "all hosts"
    rest = len(names) - HOSTS_NAMED
    return shown(", ".join(names[:HOSTS_NAMED])) + (f" and {rest} more" if rest > 0 else "")


def _sum(summary: Summary) -> Line:
    plans = _plans(summary)
    count = Counter(one["severity"] for plan in plans.values() for one in plan["findings"])
    parts = [
        f"{number} {severity}" + ("s" if severity in ("error", "warning") and number != 1 else "")
        for severity in SEVERITY_STYLE
        if (number := count[severity])
    ]
    verdict = {0: "clean", 1: "it can be rolled out", 2: "it would be refused"}[summary.plan_exit_code]
    missing = len(summary.hosts) - len(plans)
    if missing:
        verdict = f"{missing} could not be planned"
    assumed = next((plan["assumed_gpus"] for plan in plans.values() if plan.get("assumed_gpus")), "")
    if assumed:
        verdict += f"; assumed {shown(assumed)} and a host that is well, as none was asked"
    hosts = f"{len(summary.hosts)} host" + ("s" if len(summary.hosts) != 1 else "")
    return Line(f"{hosts}: {', '.join(parts) or 'nothing found'}; {verdict}")
