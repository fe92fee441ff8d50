"""The options of rollout and rollback, and what their outcome is called."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from deployer.cli import main as cli
from deployer.cli.changes import rollout_variables
from deployer.runs.change import meaning
from deployer.runs.restore import Restored
from deployer.runs.results import NOT_RESTORED, REFUSED, RESTORED, STOPPED, HostResult, Summary

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


@pytest.mark.parametrize(("batches", "max_fail", "key"), [("1,x", "", "rollout_batches"), ("", "-1", "max_fail")])
def test_an_option_that_cannot_work_is_refused(batches: str, max_fail: str, key: str) -> None:
    with pytest.raises(typer.BadParameter, match=key):
        rollout_variables(None, batches, None, False, max_fail)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["rollout", "--confirm"], "there is none"),
        (["rollout", "--batches", "half"], "rollout_batches"),
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


def test_an_outcome_is_called_what_it_is() -> None:
    done = HostResult("a", cutovers=({"outcome": "committed", "service": "s"},))
    idle = HostResult("b")
    assert "after 1 of 2 hosts" in meaning(Summary({"a": done, "b": idle}), STOPPED)
    assert "nothing that serves was changed" in meaning(Summary({"b": idle}), STOPPED)
    assert meaning(Summary(), REFUSED).startswith("refused")
    unseen = HostResult("a", cutover_unknown=True)
    assert meaning(Summary({"a": unseen}), NOT_RESTORED).startswith("OUTCOME NOT KNOWN")
    settled = HostResult("a", cutover_settled=True)
    assert "was not seen on a" in meaning(Summary({"a": settled}), STOPPED)
    back = Restored({}, {"c": ["s"]})
    assert "had nothing before" in meaning(Summary(), RESTORED, back)
    assert "NOT ALL HOSTS" in meaning(Summary(), NOT_RESTORED, Restored({"a": {"s": "1"}}, {}))
