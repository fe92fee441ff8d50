"""A run as lines for a log."""

from __future__ import annotations

import io
from typing import Any

import pytest
from rich.console import Console

from deployer.runs.events import Event
from deployer.views.lines import batch_line
from deployer.views.plain import PlainView
from tests.unit.deployer.report.runs import restored
from tests.unit.deployer.runs.recorded import Ticks, watched


def shown(*events: Event, verbose: bool = False, clock: Any = None) -> str:
    console = Console(width=80, file=io.StringIO(), record=True)
    view = PlainView(console, verbose, clock or Ticks())
    for event in events:
        view(event)
    return console.export_text()


def test_a_recorded_run_says_what_happened_on_every_host() -> None:
    text = shown(*watched()[0])
    lines = text.splitlines()
    assert "gpu1 changed Ensure the releases are staged" in lines
    assert any(line.startswith("gpu1 committed code2sql: ") for line in lines)
    assert any(line.startswith("gpu2 restored code2sql: ") for line in lines)
    assert any("exit status 7" in line and line.endswith("[crash]") for line in lines)
    assert any(line.startswith("gpu3 unreachable ") for line in lines)
    assert "… Ensure the releases are staged" in lines and "Validating arguments" not in text
    assert "3 hosts: " in text and "now → next" in text  # the plan


def test_verbose_says_all() -> None:
    told, _ = watched(everything=True)
    text = shown(*told, verbose=True)
    assert "Validating arguments" in text and "gpu1 ok " in text


def test_a_failure_keeps_all_of_its_lines() -> None:
    data = {"host": "a", "phase": "preflight", "task": "t", "kind": "failed", "changed": False, "seconds": 1}
    text = shown(Event("step", {**data, "message": "first [red]", "detail": "second\nthird\x1b[2J"}))
    assert text.splitlines() == ["a failed t", "  first [red]", "  second", "  third?[2J"]


def test_what_is_to_be_done_by_hand_is_said_where_nothing_serves() -> None:
    (event,) = [
        one for one in restored(0, "gpu1", outcome="not_restored", by_hand="/x/launch.sh") if one.kind == "cutover"
    ]
    assert shown(event).splitlines()[-1] == "  by hand on gpu1: /x/launch.sh"


def test_how_far_an_engine_loads_is_said_now_and_then() -> None:
    data = {"host": "a", "phase": "cutover", "service": "s", "done": 1, "total": 4, "unit": "shards"}
    events = [Event("progress", {**data, "text": f"{number} of 100 shards"}) for number in range(25)]
    assert [line.split()[1] for line in shown(*events).splitlines()] == ["0", "10", "20"]
    transfer = {**data, "phase": "model", "text": "1 GB"}
    assert shown(Event("progress", transfer)) == ""


@pytest.mark.parametrize(
    ("kind", "data", "expected"),
    [
        ("message", {"level": "error", "text": "one\ntwo"}, "one\ntwo\n"),
        ("interrupted", {"count": 2, "text": "leaving", "hosts": {"a": "restores"}}, "leaving\n  a restores\n"),
        ("diff", {"host": "a", "task": "t", "lines": ["-x", "+[y]"]}, "  -x\n  +[y]\n"),
        (
            "state",
            {"host": "a", "service": "s", "state": "gate", "seconds": 12.4, "expected": 60.0, "serving": "none"},
            "a s: gate, nothing serves, 12 of about 60 s\n",
        ),
        ("run.started", {"verb": "rollout"}, ""),
    ],
)
def test_each_kind_has_its_line(kind: str, data: dict[str, Any], expected: str) -> None:
    assert shown(Event(kind, data)) == expected


def test_many_hosts_of_a_batch_are_counted() -> None:
    hosts = [f"h{number}" for number in range(10)]
    batch = {"batch": 2, "of": 3, "hosts": hosts, "done": ["x"], "lost": ["h1"], "later": 0}
    assert batch_line(batch) == "batch 2 of 3: h0, h1, h2, h3, h4, h5, h6, h7 and 2 more (1 done, 1 failed)"
    assert batch_line({**batch, "hosts": ["h"], "lost": [], "later": 5}).endswith("h (1 done, 5 after it)")
