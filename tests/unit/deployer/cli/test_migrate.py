"""The options of migrate: what is refused before anything is begun, and what is written down."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployer.cli import main as cli
from deployer.migration import kept
from deployer.migration.state import State, StepState, Switched

RUNNER = CliRunner()


def typed(monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str]:
    monkeypatch.setattr(sys, "argv", ["deployer", *words])
    done = RUNNER.invoke(cli.app, words)
    return done.exit_code, " ".join(done.output.replace("│", " ").split())


@pytest.fixture(autouse=True)
def somewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A folder without anything."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "--yes; or first what touches nothing that serves: python -m deployer migrate -i a, --until measure"),
        (["--until", "canary"], "nothing is switched on a guess"),
        (["--until", "cutover"], "there is no step 'cutover'"),
        (["--json"], "--json answers programs"),
        (["--back"], "migrate -i a, --status"),
        (["--back", "--status"], "--back and --status each go alone"),
        (["--back", "--until", "plan"], "--back and --status each go alone"),
        (["--status"], "there is no migration of these hosts in this folder"),
        (["--yes", "--until", "cutover"], "there is no step 'cutover'"),
        (["--yes", "--rates", "x"], "--rates 'x'"),
        (["--yes", "--batches", "half"], "--batches"),
        (["--yes", "--no-worse", "1.2"], "--no-worse is about a load, and none is made. Fix: give --load"),
        (["--yes", "--prompts", "nowhere.txt"], "nowhere.txt cannot be read"),
        (["--check", "--until", "canary"], "--check ends after stage"),
        (["--back", "--yes"], "there is no migration of these hosts to go back on"),
    ],
)
def test_nothing_is_begun_with_it(
    words: list[str], said: str, somewhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code, text = typed(monkeypatch, "migrate", "-i", "a,", *words)
    assert code == 2 and said in text
    assert not [*somewhere.glob(".deployer/migrations/2*")]


def test_the_state_is_said_for_people_and_for_programs(somewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = State("", 0.0, given=("a,",), sources=("a,",), steps={"doctor": StepState("done", 1.0, 2.0, "1 host")})
    kept.begun(state)
    code, text = typed(monkeypatch, "migrate", "-i", "a,", "--status")
    assert code == 0 and "1 host" in text and "go on: python -m deployer migrate -i a," in text
    code, text = typed(monkeypatch, "migrate", "-i", "a,", "--status", "--json")
    assert code == 0 and json.loads(text)["next"] == "adopt"
    assert typed(monkeypatch, "migrate", "-i", "b,", "--status")[0] == 2


def test_a_migration_that_has_switched_hosts_is_not_forgotten(somewhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hosts = {"a": {"s": Switched("old", "", "new", "committed")}}
    kept.begun(State("", 0.0, given=("a,",), sources=("a,",), hosts=hosts))
    code, text = typed(monkeypatch, "migrate", "-i", "a,", "--yes", "--restart")
    assert code == 2 and "a was switched by 2" in text and "migrate --back" in text
    code, text = typed(monkeypatch, "migrate", "-i", "a,", "--yes", "--canary", "b")
    assert code == 2 and "--canary was not given when the canary was measured, and is b now" in text


def test_rates_are_numbers_or_all_at_once() -> None:
    from deployer.cli.compare import rates_of

    assert rates_of("0.5,max") == (0.5, math.inf)
