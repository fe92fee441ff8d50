"""The live region: a line a host, at any width, for any number of hosts; failures stand above it at once."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from deployer.runs.events import Event
from deployer.runs.expected import Expected
from deployer.views.board import ACTIVE, DONE, LOST, WAITING, Board, to_show
from deployer.views.live import LiveView, clock_text, drawn
from tests.unit.deployer.runs.recorded import watched

BYTES = {"phase": "model", "service": "", "unit": "bytes", "text": "", "done": 4_000_000_000, "total": 16_000_000_000}


def board(*events: Event, at: float = 0.0, start: Board | None = None) -> Board:
    found = start or Board()
    for event in events:
        found = found.after(event, at)
    return found


def happens(kind: str, /, **data: Any) -> Event:
    return Event(kind, data)


def fleet(count: int) -> Board:
    hosts = {
        f"gpu{number}": {"services": [{"service": "s", "current": {"release": "x", "runs": True}}]}
        for number in range(count)
    }
    return board(happens("run.started", verb="rollout", check=False), happens("plan", hosts=hosts))


def drawn_text(
    found: Board, width: int = 80, height: int = 24, now: float = 0.0, expected: Expected | None = None
) -> str:
    console = Console(width=width, height=height, file=io.StringIO(), record=True, force_terminal=True)
    console.print(drawn(found, width, height, now, expected))
    return console.export_text()


@pytest.mark.parametrize("width", [80, 200])
def test_a_line_has_phase_bar_time_and_what_serves(width: int) -> None:
    found = board(
        happens("task", phase="model", task="Wait until the weights are there"),
        happens("progress", host="gpu0", **BYTES, rate=1_000_000_000),
        start=fleet(2),
    )
    lines = drawn_text(found, width, now=65, expected=Expected(phases={("gpu0", "model"): 120})).splitlines()
    assert max(map(len, lines)) <= width and len(lines) == 3
    assert "rollout · 1:05 · Wait until the weights" in lines[0]
    assert lines[1].startswith("gpu0 model") and "━" in lines[1] and "1:05/2:00" in lines[1]
    assert ("4.0 GB of 16.0 GB 1.0 GB/s 0:12 left" if width == 200 else "25% of 16.0 GB") in lines[1]
    assert all("serves old" in line for line in lines[1:])


def test_a_cut_over_shows_its_state_and_what_a_client_sees() -> None:
    started = happens("batch", batch=1, of=2, hosts=["gpu0"], done=[], lost=[], later=1)
    gate = {"host": "gpu0", "service": "s", "state": "gate", "seconds": 30.0, "expected": 90.0, "serving": "none"}
    shards = {"host": "gpu0", "service": "s", "phase": "cutover", "done": 3, "total": 12, "unit": "shards", "text": ""}
    found = board(started, happens("state", **gate), happens("progress", **shards), start=fleet(2))
    head, first, second = drawn_text(found, now=10).splitlines()
    assert "batch 1 of 2 · 1 later" in head
    assert (
        first.startswith("gpu0 gate") and "3 of 12 shards" in first and "0:40/1:30" in first and "serves none" in first
    )
    assert "serves old" in second and "gate" not in second
    committed = happens("cutover", host="gpu0", service="s", outcome="committed", serving="new")
    assert "committed" in drawn_text(board(committed, start=found)) and found.hosts["gpu0"].status == ACTIVE


def test_every_service_of_a_host_has_its_own_client() -> None:
    services = [{"service": name, "current": {"release": "x", "runs": True}} for name in ("chat", "embed")]
    found = board(
        happens("plan", hosts={"a": {"services": [*services, {"service": "chat", "role": "predecessor"}]}}),
        happens("cutover", host="a", service="chat", outcome="committed", serving="new"),
    )
    assert "chat new embed old" in drawn_text(found)


def test_what_failed_stays_failed_and_says_why() -> None:
    failed = happens("step", host="gpu1", phase="model", task="t", kind="failed", changed=False, message="no disk")
    ends = happens("step", host="gpu1", phase="model", task="t", kind="failed", changed=False, phase_seconds=1.0)
    found = board(failed, ends, happens("task", phase="release", task="Stage"), start=fleet(2))
    assert found.hosts["gpu1"].status == LOST and found.hosts["gpu0"].status == ACTIVE
    assert "no disk" in drawn_text(found) and "1 of 2 failed" in drawn_text(found)
    restored = happens("cutover", host="gpu0", service="s", outcome="restored", serving="old")
    ended = happens("step", host="gpu0", phase="cutover", task="t", kind="failed", changed=False, phase_seconds=1.0)
    assert board(restored, ended, start=found).hosts["gpu0"].outcome == "restored"


def test_phases_that_ended_wait_for_the_next() -> None:
    ends = [
        happens("step", host="gpu0", phase=phase, task="t", kind="ok", changed=False, phase_seconds=1.0)
        for phase in ("preflight", "release", "cutover")
    ]
    found = fleet(1)
    words = []
    for end in ends:
        found = board(end, start=found)
        words.append((found.hosts["gpu0"].status, found.hosts["gpu0"].phase))
    assert words == [(WAITING, "preflight done"), (WAITING, "staged"), (DONE, "staged")]


@pytest.mark.parametrize("count", [50, 120])
def test_more_hosts_than_lines_show_what_is_under_way_or_failed_and_count_the_rest(count: int) -> None:
    started = happens("batch", batch=2, of=2, hosts=["gpu40", "gpu41"], done=[], lost=[], later=0)
    failed = happens("step", host="gpu45", phase="model", task="t", kind="failed", changed=False, message="no disk")
    done = [happens("cutover", host=f"gpu{n}", service="s", outcome="committed", serving="new") for n in range(30)]
    found = board(started, failed, *done, start=fleet(count))
    lines = drawn_text(found, height=12).splitlines()
    assert len(lines) <= 12
    shown = [line.split()[0] for line in lines[1:-1]]
    assert {"gpu40", "gpu41", "gpu45"} <= {*shown} and len(shown) == 7
    assert lines[-1] == f"and {count - 7} more: {count - 37} waiting, 30 done"
    assert [host.name for host in to_show(found, 8)[0]] == sorted(shown, key=lambda name: int(name[3:]))


def test_a_host_that_is_named_and_says_what_it_likes_keeps_the_line() -> None:
    name = "a-host-with-a-very-long-name.example.com"
    failed = {"phase": "model", "task": "t", "kind": "failed", "changed": False, "message": "x\x1b[2J[red]" + "y" * 300}
    text = drawn_text(board(happens("step", host=name, **failed)))
    assert max(map(len, text.splitlines())) <= 80 and "x?[2J[red]yyy" in text and "\x1b" not in text


def live(width: int = 80) -> tuple[LiveView, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, width=width, height=24, force_terminal=True, color_system=None, legacy_windows=False)
    return LiveView(console, clock=lambda: 0.0), out


@pytest.mark.parametrize("width", [80, 200])
def test_a_recorded_run_is_shown_with_what_failed_above_the_region(width: int) -> None:
    view, out = live(width)
    told, _ = watched()
    with view:
        for event in told:
            view(event)
            if event.kind == "cutover" and event.data["host"] == "gpu2":
                assert "exit status 7" in out.getvalue()  # at once
    text = out.getvalue()
    assert "gpu3 unreachable" in text and "gpu1 committed" in text and "now → next" in text
    assert "gpu1 changed" not in text  # the region shows that


def test_a_question_has_the_terminal_for_itself_and_what_was_said_stays() -> None:
    view, out = live()
    with view:
        view(happens("run.started", verb="rollout", check=False))
        with view.paused():
            before = len(out.getvalue())
            view(happens("message", level="info", text="meanwhile"))
            assert "\x1b[1A" not in out.getvalue()[before:]
        begun = len(out.getvalue())
        view(happens("message", level="info", text="afterwards"))
        # The new region begins where the cursor stands: nothing above it is overwritten.
        assert "\x1b[1A" not in out.getvalue()[begun : out.getvalue().index("afterwards")]


def test_durations_are_read_at_a_glance() -> None:
    assert [clock_text(seconds) for seconds in (-1, 7.9, 754, 3723)] == ["0:00", "0:07", "12:34", "1:02:03"]
