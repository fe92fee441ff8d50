"""What an operator sees of hosts' services: a table that fits the terminal, and below it what is to be done."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from deployer.runs.problems import mistakes
from deployer.runs.results import HostResult, Summary
from deployer.views.console import shown
from deployer.wording import counted

Service = Mapping[str, Any]

STATE_STYLE = {"serving": "green", "changing": "yellow", "absent": "dim"}
WIDE = 140  # columns of a terminal from which on a service has one line; below it has two
NOT_MEASURED = "-"  # stands for what is not known, which is not zero
GIB = 2**30
OTHERS = GIB  # bytes that others use of a service's GPU before it is worth a line


def status_table(summary: Summary, width: int = WIDE) -> Table:
    """What every service of every host is at.

    Args:
        summary: of a run of the playbook `status`.
        width: columns that the terminal has.
    """
    return _wide(summary) if width >= WIDE else _narrow(summary)


def print_status(summary: Summary, console: Console) -> None:
    """The table, and what is known beside it."""
    console.print(status_view(summary, console.width))


def status_view(summary: Summary, width: int) -> Group:
    """The table, and what is known beside it, as one thing that can be drawn again."""
    lines = [Text.from_markup(shown(line), overflow="fold") for line in status_details(summary)]
    return Group(status_table(summary, width), *lines)


def status_details(summary: Summary) -> list[str]:
    """What is known beside the states, a line each: too long for a column. As hosts gave it, for `shown`."""
    lines = []
    for host in summary.hosts.values():
        lines += [f"{host.host} {service['service']}: {text}" for service in host.services for text in _said(service)]
        if not host.services and host.failure:
            lines += [f"{host.host}: {line}" for line in mistakes(host.failure, host.host)]
    return lines + list(_not_measured(summary))


def _said(service: Service) -> Iterator[str]:
    """What is to be said of one service."""
    unit = service.get("unit") or {}
    if service.get("detail"):
        yield str(service["detail"])
    if unit.get("healthy") is False and unit.get("name") and service["state"] != "failing":
        yield f"{unit['name']} is {unit['state']}"
    if unit.get("restarts"):
        yield f"{unit['name']} was started again {counted(int(unit['restarts']), 'time')} by systemd: see its log"
    for gpu in service.get("gpu_memory") or ():
        others = int(gpu["used"]) - int(gpu["service"])
        if gpu["service"] and others > OTHERS:
            yield f"{_gib(others)} GiB of GPU {gpu['gpu']} are used by others"
    for one in service.get("drift") or ():
        yield f"drift, {one['what']}: {one['detail']}. Fix: {one['fix']}"


def _not_measured(summary: Summary) -> Iterator[str]:
    """Why there are no numbers, each reason once for all services that share it."""
    reasons: dict[str, list[str]] = {}
    for host in summary.hosts.values():
        for service in host.services:
            note = str((service.get("load") or {}).get("note") or "")
            if note and service.get("pid"):
                reasons.setdefault(note, []).append(f"{host.host} {service['service']}")
            if service.get("gpus") and service.get("gpu_memory") is None and service.get("pid"):
                reasons.setdefault("nvidia-smi says nothing of its GPUs", []).append(
                    f"{host.host} {service['service']}"
                )
    for reason, names in reasons.items():
        several = f" and {len(names) - 3} more" if len(names) > 3 else ""
        yield f"not measured: {reason} ({', '.join(names[:3])}{several})"


def _narrow(summary: Summary) -> Table:
    """Two lines a service, for 80 columns."""
    table = _table()
    table.add_column("host\nservice", overflow="fold", ratio=1)
    for column in ("state\ndrift", "engine\nrelease", "up\nsince (UTC)"):
        table.add_column(column, no_wrap=True)
    for column in ("requests\ntokens/s", "KV\nGPU memory"):
        table.add_column(column, no_wrap=True, justify="right")
    for host, service in _services(summary):
        if service is None:
            table.add_row(shown(host.host), _without(host), *[""] * 4)
            continue
        load = service.get("load") or {}
        port = f" :{shown(service['port'])}" if service.get("port") else ""
        table.add_row(
            f"[bold]{shown(host.host)}[/]\n{shown(service['service'])}{port}",
            f"{_state(service)}\n{_drift(service)}",
            f"{shown(service.get('engine') or '')}\n{shown(service.get('current') or 'none')}",
            f"{_duration(service.get('uptime'))}\n{shown(_moment(service)[5:])}",
            f"{_requests(load)}\n{_number(load.get('tokens_per_second'))}",
            f"{_share(load.get('kv_usage'))}\n{_memory(service)}",
            end_section=True,
        )
    return table


def _wide(summary: Summary) -> Table:
    """One line a service."""
    table = _table()
    for column in ("host", "service"):
        table.add_column(column, overflow="fold")
    for column in ("state", "engine", "release", "previous", "port", "since (UTC)", "up"):
        table.add_column(column, no_wrap=True)
    for column in ("requests", "tok/s", "KV", "GPU memory"):
        table.add_column(column, no_wrap=True, justify="right")
    table.add_column("drift", no_wrap=True)
    for host, service in _services(summary):
        if service is None:
            table.add_row(shown(host.host), "", _without(host), *[""] * 11)
            continue
        load = service.get("load") or {}
        table.add_row(
            shown(host.host),
            shown(service["service"]),
            _state(service),
            shown(service.get("engine") or ""),
            shown(service.get("current") or "none"),
            shown(service.get("previous") or service.get("predecessor") or "none"),
            shown(service.get("port") or ""),
            shown(_moment(service)),
            _duration(service.get("uptime")),
            _requests(load),
            _number(load.get("tokens_per_second")),
            _share(load.get("kv_usage")),
            _memory(service),
            _drift(service),
        )
    return table


def _table() -> Table:
    return Table(title="Services", title_justify="left", padding=(0, 1, 0, 0), box=box.SIMPLE, pad_edge=False)


def _services(summary: Summary) -> Iterator[tuple[HostResult, Service | None]]:
    for host in summary.hosts.values():
        yield from ((host, service) for service in host.services)
        if not host.services:
            yield host, None


def _without(host: HostResult) -> str:
    return "[red]unreachable[/]" if host.unreachable else "[red]failed[/]" if host.failure else "[dim]none[/]"


def _state(service: Service) -> str:
    state = str(service["state"])
    return f"[{STATE_STYLE.get(state, 'red')}]{shown(state)}[/]"


def _drift(service: Service) -> str:
    kinds = list(dict.fromkeys(str(one["what"]) for one in service.get("drift") or ()))
    if not kinds:
        return ""
    return f"[yellow]{shown(kinds[0])}{f' +{len(kinds) - 1}' if len(kinds) > 1 else ''}[/]"


def _moment(service: Service) -> str:
    """Since when, to the minute."""
    return str(service.get("since") or "")[:16].replace("T", " ")


def _duration(seconds: Any) -> str:
    """`45 s`, `12 m 5 s`, `4 h 12 m`, `3 d 4 h`: the two largest units."""
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    parts = [(days, "d"), (hour, "h"), (minute, "m"), (rest, "s")]
    first = next((at for at, (value, _) in enumerate(parts) if value), 3)
    return " ".join(f"{value} {unit}" for value, unit in parts[first : first + 2])


def _requests(load: Mapping[str, Any]) -> str:
    running, queued = load.get("running"), load.get("queued")
    if running is None and queued is None:
        return NOT_MEASURED
    return f"{_count(running)} + {_count(queued)}"


def _count(value: Any) -> str:
    return NOT_MEASURED if value is None else f"{int(value):,}"


def _number(value: Any) -> str:
    return NOT_MEASURED if value is None else f"{float(value):,.0f}"


def _share(value: Any) -> str:
    return NOT_MEASURED if value is None else f"{100 * float(value):.0f}%"


def _memory(service: Service) -> str:
    """What the service uses of its GPUs, of all that they have; all that is used where its part is not told."""
    gpus: Sequence[Mapping[str, Any]] = service.get("gpu_memory") or ()
    if not gpus:
        return NOT_MEASURED if service.get("gpus") else ""
    used = sum(int(gpu["service"] or gpu["used"]) for gpu in gpus)
    return f"{_gib(used)}/{_gib(sum(int(gpu['total']) for gpu in gpus))}G"


def _gib(size: int) -> str:
    value = size / GIB
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}"
