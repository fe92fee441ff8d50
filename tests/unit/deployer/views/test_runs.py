"""The runs of a controller, listed and shown again."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from deployer.cli import main as cli
from deployer.runs.journal import Journal, kept_runs
from deployer.views.runs import print_run, run_summary, runs_table
from tests.unit.deployer.runs.recorded import watched

RECORD = {
    "verb": "rollout",
    "initiator": "mia@ops1",
    "exit_code": 1,
    "seconds": 754.2,
    "meaning": "failed; what served before serves again",
    "hosts": {f"gpu{number}": "committed" for number in range(1, 9)},
    "options": {"batches": [1, "100%"]},
    "versions": {"deployer": "0.1.0"},
    "inventory": {"sources": ["fleet/hosts.yml"], "digest": "0123456789abcdef"},
}


@pytest.fixture(autouse=True)
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Two runs of this folder, the newest of which was killed; the older one's id."""
    monkeypatch.chdir(tmp_path)
    ended = Journal("rollout")
    told, _ = watched()
    for event in told:
        ended(event)
    ended.close(RECORD)
    killed = Journal("rollback")
    killed(next(event for event in told if event.kind == "task"))
    return ended.run


def test_a_row_says_who_where_and_what_came_of_it(runs: str) -> None:
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(runs_table(kept_runs()))
    lines = console.export_text().splitlines()
    row = next(line for line in lines if runs in line)
    for word in ("mia@ops1", "gpu1, gpu2, gpu3 and 5", "failed, restored", "12:34"):
        assert word in row, row
    assert any("end not seen" in line for line in lines)


def test_one_is_shown_with_the_lines_that_it_had(runs: str) -> None:
    console = Console(width=100, file=io.StringIO(), record=True)
    print_run(next(run for run in kept_runs() if run.run == runs), console)
    text = console.export_text()
    for part in ("batches [1, '100%']", "deployer 0.1.0", "fleet/hosts.yml (sha256 0123456789ab)", "gpu1 committed"):
        assert part in text, text


def test_programs_read_the_same(runs: str) -> None:
    listed = CliRunner().invoke(cli.app, ["history", "--runs", "--json"])
    assert listed.exit_code == 0
    found = {one["run"]: one for one in json.loads(listed.output)}
    older = found.pop(runs)
    assert (older["outcome"], older["exit_code"]) == ("failed, restored", 1)
    assert [(one["exit_code"], one["outcome"]) for one in found.values()] == [(None, "end not seen")]
    assert older == json.loads(json.dumps(run_summary(next(run for run in kept_runs() if run.run == runs))))
    shown = CliRunner().invoke(cli.app, ["history", "--run", runs, "--json"])
    events = [json.loads(line)["event"] for line in shown.output.splitlines()]
    assert events == [event.kind for event in watched()[0]]


def test_a_run_that_is_not_there_is_named_with_the_fix() -> None:
    result = CliRunner().invoke(cli.app, ["history", "--run", "2020"])
    assert result.exit_code == 2 and "history --runs" in result.output
