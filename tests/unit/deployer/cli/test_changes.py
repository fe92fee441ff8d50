"""The options of rollout and rollback, and what their outcome is called."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from deployer.api import change
from deployer.cli import main as cli
from deployer.cli.changes import rollout_variables
from deployer.runs import asking
from deployer.runs.runner import Invocation, Run

RUNNER = CliRunner()


def test_options_become_variables_and_those_left_out_do_not() -> None:
    assert rollout_variables(None, "", None, False, "") == {}
    assert rollout_variables(["a", "b"], "1, 25%,100%", 0, False, "10%") == {
        "cutover_services": ["a", "b"],
        "rollout_batches": [1, "25%", "100%"],
        "rollout_pause": 0,
        "rollout_max_fail": "10%",
    }
    assert rollout_variables(None, "", None, True, "2", check=True) == {"rollout_confirm": True, "rollout_max_fail": 2}


@pytest.mark.parametrize(("batches", "max_fail", "key"), [("1,x", "", "--batches: "), ("", "-1", "--max-fail: ")])
def test_an_option_that_cannot_work_is_refused(batches: str, max_fail: str, key: str) -> None:
    with pytest.raises(typer.BadParameter, match=key):
        rollout_variables(None, batches, None, False, max_fail)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["rollout", "--confirm"], "there is none"),
        (["rollout", "--batches", "half"], "--batches: "),
        (["rollback", "--to", "staged"], "is what rollout does"),
        (["rollback", "--on-failure", "nothing"], "is not one of"),
        (["rollout", "--pause", "-1"], "greater than or equal to 0"),
    ],
)
def test_nothing_is_started_with_it(
    words: list[str], expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["deployer", *words])
    result = RUNNER.invoke(cli.app, words)
    assert result.exit_code == 2
    assert expected in " ".join(result.output.replace("│", " ").split())
    assert not (tmp_path / ".deployer").exists()


@pytest.mark.parametrize(
    ("words", "look"),
    [
        (["rollout"], "deployer plan"),
        (["stage"], "deployer plan"),
        (["rollback"], "deployer history"),
        (["rollout", "--json"], "deployer plan"),
    ],
)
def test_without_a_terminal_it_does_not_guess(
    words: list[str], look: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["deployer", *words])
    result = RUNNER.invoke(cli.app, words)
    assert result.exit_code == 2 and len(result.output.splitlines()) == 1
    assert "on a guess. Fix: --yes" in result.output and look in result.output
    assert not (tmp_path / ".deployer").exists()


@pytest.mark.parametrize("words", [["--yes"], ["-y"], ["--check"]])
def test_what_was_agreed_to_or_changes_nothing_is_begun(
    words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    ran: list[tuple[str, Invocation]] = []

    def played(name: str, invocation: Invocation, on_event: Any, cancelled: Any = None) -> Run:
        ran.append((name, invocation))
        return Run(0, "")

    for module in (change, asking):
        monkeypatch.setattr(module, "run_playbook", played)
    result = RUNNER.invoke(cli.app, ["rollout", *words, "-i", "a,", "--json", "--batches", "1"])
    assert result.exit_code == 2 and [name for name, _ in ran] == ["deploy"]  # no host was met
    assert ran[0][1].extra_vars["rollout_batches"] == [1] and ran[0][1].check == ("--check" in words)
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [events[0]["event"], events[-1]["event"]] == ["run.started", "run.ended"]
    assert events[0]["options"] == {"batches": [1]} and events[-1]["exit_code"] == 2
