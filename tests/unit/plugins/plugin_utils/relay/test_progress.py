"""What people see of a transfer."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.files import exclusive_lock
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.progress import (
    FleetProgress,
    duration,
    fleet_line,
    size,
)


def report(host: str, received: int, state: str = "receiving", rate: int = 10, **more: Any) -> dict[str, Any]:
    return {"host": host, "total": 1000, "resumed": 0, "received": received, "state": state, "rate": rate, **more}


def test_every_host_and_the_fleet() -> None:
    line = fleet_line([report("a", 500), report("b", 250, resumed=250, rate=20), report("c", 1000, "landed")])
    assert line == "a 50 %, b 50 %, c landed; 2 kB of 3 kB, 30 B/s, 50 s left"


def test_a_large_fleet_shows_its_slowest() -> None:
    reports = [report(f"h{number}", 1000, "landed") for number in range(9)] + [report("last", 100)]
    assert fleet_line(reports).startswith("9 of 10 hosts done, the slowest is last 10 %; 9 kB of 10 kB, 10 B/s")


@pytest.mark.parametrize("reports", [[report("a", 0, rate=0)], [report("a", 0, rate=0), report("b", 5)]])
def test_nothing_is_said_of_the_time_while_somebody_waits(reports: list[dict[str, Any]]) -> None:
    assert "left" not in fleet_line(reports)


def test_hosts_that_have_ended_have_no_time_left() -> None:
    assert "left" not in fleet_line([report("a", 10, "failed", rate=0), report("b", 1000, "landed")])
    assert fleet_line([report("a", 10, "failed", rate=0), report("b", 900)]).endswith(", 10 s left")


def test_a_host_that_misses_nothing() -> None:
    assert fleet_line([report("a", 0, total=0)]).startswith("a 100 %; 0 B of 0 B")


def test_one_line_a_while_whoever_asks(tmp_path: Path) -> None:
    progress = FleetProgress(str(tmp_path))
    assert progress.note("a/../b", report("", 1)) == ""  # not before something has come
    os.utime(tmp_path / "said", (0, 0))
    assert progress.note("a/../b", report("", 1)).startswith("weights: ")
    assert progress.note("b", report("", 2)) == ""
    assert [one["received"] for one in progress.reports()] == [1, 2]
    os.utime(tmp_path / "said", (0, 0))
    assert FleetProgress(str(tmp_path)).note("b", report("", 3)).startswith("weights: ")
    os.utime(tmp_path / "said", (2**33, 2**33))  # the clock was set back
    assert progress.note("b", report("", 3)).startswith("weights: ")
    os.utime(tmp_path / "said", (0, 0))
    with exclusive_lock(str(tmp_path / "said.lock")):
        assert progress.note("b", report("", 4)) == ""


def test_a_report_that_is_being_replaced_is_passed_over(tmp_path: Path) -> None:
    progress = FleetProgress(str(tmp_path))
    progress.note("a", report("", 1))
    (tmp_path / "progress" / "half.json").write_text('{"host": ')
    assert [one["host"] for one in progress.reports()] == ["a"]


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 B"), (999, "999 B"), (1500, "2 kB"), (2_500_000, "2 MB"), (1.5e12, "1500.00 GB")]
)
def test_sizes(number: float, text: str) -> None:
    assert size(number) == text


@pytest.mark.parametrize(("seconds", "text"), [(0.5, "0 s"), (59.9, "59 s"), (185, "3 min 5 s"), (7800, "2 h 10 min")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
