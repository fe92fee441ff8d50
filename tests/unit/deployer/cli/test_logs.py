"""The command that shows logs."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from deployer.cli import main as cli
from deployer.runs import service_logs
from deployer.runs.runner import Invocation, Run
from deployer.runs.service_logs import MODULE, Gathered
from deployer.views.logs import LogPrinter

RUNNER = CliRunner()


def answered(host: str, *lines: tuple[str, str], **more: Any) -> dict[str, Any]:
    """An event of a host that has answered."""
    texts = [{"time": time, "level": "info", "text": text} for time, text in lines]
    result = {"logs": [{"service": "code2sql", "lines": texts, "left_out": 0, "problem": "", **more}]}
    data = {"host": host, "task": "Read", "resolved_action": MODULE, "res": result}
    return {"event": "runner_on_ok", "event_data": data}


def unreachable(host: str) -> dict[str, Any]:
    data = {"host": host, "task": "Read", "resolved_action": MODULE, "res": {"msg": "it broke"}}
    return {"event": "runner_on_unreachable", "event_data": data}


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., Any]:
    """The command with a playbook that makes these events."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hosts.yml").write_text("")
    orders: list[Invocation] = []

    def run(events: list[dict[str, Any]], *words: str, status: int = 0) -> Any:
        def playbook(name: str, order: Invocation, on_event: Callable[[Any], None], *more: Any) -> Run:
            orders.append(order)
            for event in events:
                on_event(event)
            return Run(status, "")

        monkeypatch.setattr(service_logs, "run_playbook", playbook)
        return RUNNER.invoke(cli.app, ["logs", "-i", "hosts.yml", *words]), orders[-1] if orders else None

    return run


def test_lines_of_all_hosts_are_shown_by_time(ran: Callable[..., Any]) -> None:
    events = [answered("gpu1", ("02", "b"), ("04", "d")), answered("gpu2", ("01", "a"), ("03", "c"))]
    result, order = ran(events, "--service", "code2sql", "--since", "10m", "--level", "warning", "-n", "7")
    assert result.exit_code == 0
    assert result.stdout.splitlines() == ["gpu2 | a", "gpu1 | b", "gpu2 | c", "gpu1 | d"]
    assert order.extra_vars["logs_services"] == ["code2sql"]
    assert (order.extra_vars["logs_since"], order.extra_vars["logs_level"]) == ("10m", "warning")
    assert (order.extra_vars["logs_lines"], order.extra_vars["logs_follow"]) == (7, False)


def test_a_host_that_is_lost_is_named_and_the_exit_code_says_so(ran: Callable[..., Any]) -> None:
    result, _ = ran([answered("gpu1", ("", "a")), unreachable("gpu2")], status=4)
    assert result.exit_code == 2
    assert "gpu1 code2sql | a" in result.stdout
    assert "gpu2 it broke" in result.stderr


def test_what_could_not_be_read_or_did_not_fit_is_said(ran: Callable[..., Any]) -> None:
    result, _ = ran([answered("gpu1", ("", "a"), problem="journalctl is not on this host", left_out=3)])
    assert "gpu1 code2sql journalctl is not on this host" in result.stderr
    assert "3 older lines left out" in result.stderr


def test_a_service_that_no_host_has_is_said(ran: Callable[..., Any]) -> None:
    event = answered("gpu1")
    event["event_data"]["res"]["logs"] = []
    result, _ = ran([event], "--service", "other")
    assert result.exit_code == 2
    assert "no host has a service other. Fix:" in result.stderr


@pytest.mark.parametrize(("words", "said"), [(["--since", "soon"], "10m"), (["--level", "bad"], "warning")])
def test_what_no_host_would_understand_is_refused(ran: Callable[..., Any], words: list[str], said: str) -> None:
    result, order = ran([], *words)
    assert result.exit_code == 2
    assert order is None
    assert said in result.output


def test_following_waits_for_every_host_at_once(ran: Callable[..., Any]) -> None:
    _, order = ran([answered("gpu1")], "--follow")
    assert order.arguments[:2] == ["--forks", "500"]
    assert order.extra_vars["logs_follow"] is True
    assert order.extra_vars["rollout_socket"]


def test_what_is_told_is_printed_before_it_is_acknowledged() -> None:
    out = io.StringIO()
    gathered = Gathered(LogPrinter(Console(file=out), Console(file=out), True, True), at_once=True)
    lines = [{"time": "", "level": "info", "text": "ready"}]
    message = {"host": "gpu1", "service": "code2sql", "lines": lines, "left_out": 0, "problem": "x"}
    assert gathered.told({"log": message}) == ""
    first, second = map(json.loads, out.getvalue().splitlines())
    assert first["text"] == "ready"
    assert second["problem"] == "x"
