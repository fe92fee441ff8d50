"""The exit codes of `status`, for monitors; and going on with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deployer.cli import main as cli
from deployer.cli import status_rounds
from deployer.runs.results import HostResult, Summary
from deployer.runs.runner import Invocation, Run
from deployer.runs.service_states import exit_code, of_services

RUNNER = CliRunner()
GOOD: dict[str, Any] = {"service": "a", "state": "serving", "drift": []}
DRIFTED: dict[str, Any] = {**GOOD, "drift": [{"what": "unit", "detail": "x", "fix": "y"}]}
STOPPED: dict[str, Any] = {**GOOD, "state": "stopped"}


def found(*services: dict[str, Any], **more: Any) -> Summary:
    return Summary({"gpu1": HostResult("gpu1", services=services, **more)})


@pytest.mark.parametrize(
    ("services", "status", "strict", "code"),
    [
        ((GOOD,), 0, False, 0),
        ((GOOD, STOPPED), 0, False, 1),
        ((DRIFTED,), 0, False, 0),
        ((DRIFTED,), 0, True, 1),
        ((GOOD,), 4, False, 2),
        ((STOPPED,), 4, False, 2),
        ((), 0, False, 2),
    ],
)
def test_the_exit_code_says_what_a_monitor_wants_to_know(
    services: tuple[dict[str, Any], ...], status: int, strict: bool, code: int
) -> None:
    assert exit_code(found(*services), status, strict) == code


def test_hosts_without_a_chosen_service_are_left_out_and_lost_ones_are_not() -> None:
    hosts = {
        "has": HostResult("has", services=(GOOD,)),
        "has-not": HostResult("has-not"),
        "lost": HostResult("lost", unreachable=True, failure="no route"),
    }
    assert list(of_services(Summary(hosts), True).hosts) == ["has", "lost"]
    assert list(of_services(Summary(hosts), False).hosts) == ["has", "has-not", "lost"]


class Interrupted:
    """Ctrl-C in the third round."""

    def __init__(self) -> None:
        self.rounds = 0

    def __enter__(self) -> Interrupted:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    @property
    def requested(self) -> bool:
        return self.rounds > 2

    @property
    def descriptor(self) -> Any:
        return self  # never waited at: see `at_once`


@pytest.fixture
def watching(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """`status --watch` of one host that stops serving in the second round."""
    rounds = Interrupted()
    asked: list[Invocation] = []

    def ask(playbook: str, invocation: Invocation, cancelled: Callable[[], bool]) -> tuple[Summary, Run]:
        rounds.rounds += 1
        asked.append(invocation)
        return found(GOOD if rounds.rounds == 1 else STOPPED), Run(0, "")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(status_rounds, "Interrupts", lambda: rounds)
    monkeypatch.setattr(status_rounds, "asked", ask)
    monkeypatch.setattr(status_rounds.select, "select", lambda *given: ([], [], []))
    (tmp_path / "hosts.yml").write_text("")

    def run(*words: str) -> Any:
        result = RUNNER.invoke(cli.app, ["status", "-i", "hosts.yml", "--watch", *words])
        return result, asked

    return run


def test_watching_ends_with_the_code_of_the_last_whole_round(watching: Callable[..., Any]) -> None:
    result, asked = watching("--service", "a")
    assert result.exit_code == 1
    assert len(asked) == 3
    assert asked[0].extra_vars["status_services"] == ["a"]
    # No terminal: one block after the other, each with its time.
    assert result.stdout.count("Services") == 2


def test_watching_as_json_is_one_object_a_round(watching: Callable[..., Any]) -> None:
    result, _ = watching("--json")
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["exit_code"], second["exit_code"]) == (0, 1)
    assert set(first) == {"time", "exit_code", "hosts"}
    assert first["hosts"]["gpu1"] == {"reachable": True, "failure": "", "services": [GOOD]}


def test_how_often_is_refused_where_it_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_rounds, "once", lambda *given: pytest.fail("a host was asked"))
    done = RUNNER.invoke(cli.app, ["status", "--every", "10"])
    assert done.exit_code == 2
    assert "add --watch" in done.output
