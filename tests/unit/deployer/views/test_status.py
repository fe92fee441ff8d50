"""What an operator sees of hosts' services."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from deployer.runs.results import HostResult, Summary
from deployer.views.status import print_status, status_details

GIB = 2**30
LONG = "inference-node-with-a-long-name-0001.rack-12.example.com"


def service(**changes: Any) -> dict[str, Any]:
    value: dict[str, Any] = {
        "service": "code2sql",
        "state": "serving",
        "detail": "",
        "engine": "sglang",
        "current": "0123456789ab",
        "previous": "ba9876543210",
        "port": 8001,
        "gpus": ["6", "7"],
        "pid": 4711,
        "uptime": 3 * 86400 + 4 * 3600 + 59,
        "since": "2026-11-26T08:00:12Z",
        "gate": {"passes": True, "detail": ""},
        "unit": {"kind": "systemd", "name": "inference-code2sql.service", "healthy": True, "state": "", "restarts": 0},
        "load": {"running": 12, "queued": 3, "tokens_per_second": 812.4, "kv_usage": 0.473, "note": ""},
        "gpu_memory": [{"gpu": gpu, "total": 80 * GIB, "used": 70 * GIB, "service": 70 * GIB} for gpu in ("6", "7")],
        "drift": [],
    }
    return {**value, **changes}


def summary(*services: dict[str, Any], host: str = "gpu1") -> Summary:
    return Summary({host: HostResult(host, services=services)})


def printed(found: Summary, width: int) -> str:
    console = Console(width=width, record=True, force_terminal=False, file=io.StringIO())
    print_status(found, console)
    return console.export_text()


@pytest.mark.parametrize("width", [80, 100, 140, 160, 200])
def test_everything_fits_the_terminal(width: int) -> None:
    drift = [{"what": "unit", "detail": "x.conf changes the unit", "fix": "remove it"}]
    text = printed(summary(service(drift=drift), host=LONG), width)
    assert all(len(line) <= width for line in text.splitlines())
    for shown in ("serving", "sglang", "0123456789ab", "3 d 4 h", "11-26 08:00", "12 + 3", "812", "47%", "140/160G"):
        assert shown in text
    assert "drift, unit: x.conf changes the unit. Fix: remove it" in " ".join(text.split())


@pytest.mark.parametrize("width", [80, 160])
def test_a_long_name_of_a_host_is_folded_and_not_cut_off(width: int) -> None:
    text = printed(summary(service(), host=LONG), width)
    assert "…" not in text
    column = [line[1:].split("  ")[0] for line in text.splitlines()]
    assert LONG in "".join(part.strip() for part in column)


def test_what_is_not_measured_is_no_zero() -> None:
    nothing = {"running": None, "queued": None, "tokens_per_second": None, "kv_usage": None}
    found = service(load={**nothing, "note": "llamafactory has no metrics"}, gpus=[], gpu_memory=[])
    text = printed(summary(found), 80)
    assert "0 + 0" not in text
    assert "0%" not in text
    assert "not measured: llamafactory has no metrics (gpu1 code2sql)" in text


def test_a_reason_that_many_services_share_is_said_once() -> None:
    note = {"note": "/metrics is not there: set enable_metrics: true in the service's options"}
    hosts = {f"gpu{at}": HostResult(f"gpu{at}", services=(service(load=note),)) for at in range(6)}
    (line,) = status_details(Summary(hosts))
    assert line.endswith("(gpu0 code2sql, gpu1 code2sql, gpu2 code2sql and 3 more)")


def test_gpus_that_cannot_be_read_are_said_so() -> None:
    assert "not measured: nvidia-smi says nothing of its GPUs (gpu1 code2sql)" in status_details(
        summary(service(gpu_memory=None))
    )


def test_memory_that_others_use_is_said() -> None:
    memory = [{"gpu": "6", "total": 80 * GIB, "used": 70 * GIB, "service": 50 * GIB}]
    assert status_details(summary(service(gpu_memory=memory))) == [
        "gpu1 code2sql: 20.0 GiB of GPU 6 are used by others"
    ]


def test_a_service_that_systemd_had_to_start_again_is_said() -> None:
    unit = {"kind": "systemd", "name": "inference-code2sql.service", "healthy": True, "state": "", "restarts": 2}
    (line,) = status_details(summary(service(unit=unit)))
    assert "was started again 2 times by systemd" in line


def test_what_is_long_stands_below_the_table() -> None:
    stopped = {"service": "code2sql", "state": "stopped", "detail": "exit status 9"}
    hosts = {
        "a": HostResult("a", services=(stopped,)),
        "b": HostResult("b", unreachable=True, failure="it broke\n" + "x" * 900),
    }
    details = status_details(Summary(hosts))
    assert details == ["a code2sql: exit status 9", "b: it broke"]
    assert "unreachable" in printed(Summary(hosts), 80)


def test_what_a_host_says_is_shown_and_not_obeyed() -> None:
    found = service(detail="[bold]\x1b[2Jgone[/bold]", state="failing")
    for width in (80, 160):
        text = printed(summary(found), width)
        assert "[bold]?[2Jgone[/bold]" in text
        assert "\x1b[2J" not in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59, "59 s"), (61, "1 m 1 s"), (3600, "1 h 0 m"), (90_000, "1 d 1 h")]
)
def test_durations_have_two_units(seconds: int, text: str) -> None:
    assert text in printed(summary(service(uptime=seconds)), 80)
