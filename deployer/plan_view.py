"""What an operator sees of a plan: a table of what would run where, and every finding with its fix."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from rich import box
from rich.console import RenderableType
from rich.markup import escape
from rich.table import Table

from deployer.results import Summary

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


def plan_lines(summary: Summary) -> Iterator[RenderableType]:
    """The plan for people: a table, then the findings of all hosts, each once, then what it comes to."""
    plans = _plans(summary)
    if plans:
        yield _table(plans)
        if any(service["memory"] for plan in plans.values() for service in plan["services"]):
            yield LEGEND
            yield ""
    yield from _findings(plans)
    yield from _unplanned(summary)
    yield _sum(summary)


def doctor_lines(summary: Summary) -> Iterator[RenderableType]:
    """The checks for people: a line each, with the fix of those that did not pass."""
    for name, plan in _plans(summary).items():
        yield f"[bold]{escape(name)}[/]"
        findings = {one["id"]: one for one in plan["findings"]}
        for check in plan["checks"]:
            found = findings.get(check["finding"])
            severity = found["severity"] if found else "ok"
            yield f"  [{CHECK_STYLE[severity]}]{severity:8}[/] {escape(check['name'])}: {escape(check['detail'])}"
            if found and severity != "accepted":
                yield f"           [dim]fix ({found['id']}):[/] {escape(found['fix'])}"
    yield from _unplanned(summary)
    yield _sum(summary)


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
        name = f"[bold]{escape(host)}[/]\n{escape(service['service'])}"
    gpus = ",".join(str(gpu["index"]) for gpu in service["gpus"]) or "none"
    return [name, _change(service), f"{gpus}\n{_degrees(service['parallelism'])}", _memory(service), _kv(service)]


def _degrees(parallelism: Mapping[str, int]) -> str:
    others = (("pipeline", "PP"), ("data", "DP"), ("expert", "EP"), ("attention_data", "ADP"))
    return " ".join(
        [f"TP {parallelism['tensor']}"]
        + [f"{short} {parallelism[degree]}" for degree, short in others if parallelism[degree] > 1]
    )


def _change(service: Mapping[str, Any]) -> str:
    current = service["current"]
    version = f"{service['engine']} {service['version']}".strip()
    if service["role"] == "predecessor":
        return f"[dim]{escape(version)}[/]"
    if current and current["release"] == service["next"]:
        return f"{escape(version)}\n[dim]{current['release']}, stays[/]"
    before = f"{current['engine']} {current['release']}" if current else "nothing"
    return f"{escape(before)}\n→ {escape(version)} {service['next'] or '(new weights)'}"


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


def _findings(plans: Mapping[str, Plan]) -> Iterator[str]:
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
        everywhere = len(names) == len(plans) > 1
        on = "all hosts" if everywhere else ", ".join(names[:HOSTS_NAMED])
        on += f" and {len(names) - HOSTS_NAMED} more" if len(names) > HOSTS_NAMED and not everywhere else ""
        yield f"[{style}]{severity:8}[/] [bold]{identifier}[/] [dim]on {escape(on)}[/]"
        yield f"         {escape(subject)}: {escape(message)}"
        if severity != "accepted":
            yield f"         [dim]fix:[/] {escape(fix)}"


def _unplanned(summary: Summary) -> Iterator[str]:
    for host in summary.hosts.values():
        if not host.plan:
            word = "unreachable" if host.unreachable else "not planned"
            yield f"[red]{word:8}[/] [bold]{escape(host.host)}[/] {escape(host.failure)}"


def _sum(summary: Summary) -> str:
    count = Counter(one["severity"] for plan in _plans(summary).values() for one in plan["findings"])
    hosts = f"{len(summary.hosts)} host" + ("s" if len(summary.hosts) != 1 else "")
    parts = [
        f"{number} {severity}" + ("s" if severity in ("error", "warning") and number != 1 else "")
        for severity in SEVERITY_STYLE
        if (number := count[severity])
    ]
    verdict = {0: "clean", 1: "it can be rolled out", 2: "it would be refused"}[summary.plan_exit_code]
    return f"{hosts}: {', '.join(parts) or 'nothing found'}; {verdict}"
