"""Following a host's logs from the controller."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from ansible.errors import AnsibleConnectionFailure

from ansible_collections.deployer.sglang.plugins.action import service_log
from ansible_collections.deployer.sglang.plugins.action.service_log import ActionModule, Teller, Unheard, portions
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

Message = dict[str, Any]


class Command:
    """The command that started the run: hears what it is told, until it goes away."""

    def __init__(self) -> None:
        self.heard: list[Message] = []
        self.gone = False

    def ask(self, path: str, question: Mapping[str, Any]) -> dict[str, Any]:
        if self.gone:
            raise DeployError("the command that started this run is gone")
        self.heard.append(dict(question["log"]))
        return {"go": True}


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    one = Command()
    monkeypatch.setattr(service_log, "ask", one.ask)
    return one


class Gone(Exception):
    """The host has no more answers."""


class Followed(ActionModule):
    """The action with a host that answers what the test says."""

    def __init__(self, answers: Sequence[Any], looked_again: Mapping[str, Any]) -> None:
        self.answers = list(answers)
        self.looked_again = looked_again
        self.programs: list[bool] = []
        self.cursors: list[Any] = []

    def _ask(self, interpreter: str, known: Any, given: Any, secrets: bool) -> list[Message]:
        if not self.answers:
            raise Gone
        self.programs.append(secrets)
        self.cursors.append(known["code2sql"]["cursor"])
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return list(answer)

    def _module(self, given: Any, cursors: Any, variables: Any) -> Message:
        return dict(self.looked_again)


def seen(text: str, at: int, current: str = "aaa", problem: str = "") -> Message:
    lines = [{"time": "", "level": "info", "text": text}] if text else []
    own = {"service": "code2sql", "lines": lines, "left_out": 0, "problem": problem}
    return {**own, "cursor": {"at": at}, "current": current, "source": {"service": "code2sql"}}


def follow(answers: Sequence[Any], looked_again: Mapping[str, Any] | None = None) -> Followed:
    action = Followed(answers, looked_again or {})
    action._connection = object()
    first = {"interpreter": "/usr/bin/python3", "logs": [seen("first", 1)]}
    teller = Teller("/a/socket", "gpu1")
    teller.tell(first["logs"])  # type: ignore[arg-type]
    with pytest.raises(Gone):
        action._follow({}, {}, first, teller)
    return action


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_log, "RETRY", 0)


def texts(command: Command) -> list[str]:
    return [line["text"] for message in command.heard for line in message["lines"]]


def test_lines_are_told_as_they_come_and_asked_for_once(command: Command) -> None:
    action = follow([[seen("2", 2)], [seen("", 2)], [seen("3", 3)]])
    assert texts(command) == ["first", "2", "3"]
    assert action.cursors == [{"at": 1}, {"at": 2}, {"at": 2}]
    assert command.heard[0] == {
        "host": "gpu1",
        "service": "code2sql",
        "lines": [{"time": "", "level": "info", "text": "first"}],
        "left_out": 0,
        "problem": "",
    }


def test_a_host_that_is_lost_is_said_once_and_asked_again(command: Command) -> None:
    lost = AnsibleConnectionFailure("ssh: connection timed out")
    follow([lost, lost, [], [seen("2", 2)], [seen("", 2)]])
    problems = [message["problem"] for message in command.heard if message["problem"]]
    assert problems == ["lost, and tried again: ssh: connection timed out", "answers again"]
    assert texts(command) == ["first", "2"]


def test_another_release_may_log_elsewhere(command: Command) -> None:
    moved = seen("of the new one", 7, "bbb")
    action = follow([[seen("2", 2, "bbb")], [seen("", 7, "bbb")]], {"logs": [moved]})
    assert texts(command) == ["first", "2", "of the new one"]
    assert action.cursors == [{"at": 1}, {"at": 7}]


def test_a_service_with_secrets_is_asked_by_the_program_that_hides_them(command: Command) -> None:
    refused = {"service": "code2sql", "secrets": True, "current": "aaa"}
    action = follow([[refused], [seen("2", 2)], [seen("", 2)]])
    assert action.programs == [False, True, True]
    assert texts(command) == ["first", "2"]


def test_a_problem_that_stays_is_said_once(command: Command) -> None:
    follow([[seen("", 1, problem="no journal")], [seen("", 1, problem="no journal")], [seen("", 1)]])
    assert [message["problem"] for message in command.heard if message["problem"]] == ["no journal"]


def test_without_a_command_there_is_ansibles_output(capsys: pytest.CaptureFixture[str]) -> None:
    teller = Teller("", "gpu1")
    teller.tell([seen("\x1b[2Jready", 1)])
    assert "gpu1 code2sql: ?[2Jready" in capsys.readouterr().out


def test_a_command_that_is_gone_ends_it(command: Command) -> None:
    command.gone = True
    with pytest.raises(Unheard):
        Teller("/a/socket", "gpu1").tell([seen("1", 1)])


def test_a_message_is_never_large() -> None:
    lines = [{"text": "\x00" * 100} for _ in range(10)]
    found = list(portions(lines, most=1300))
    assert [len(one) for one in found] == [2, 2, 2, 2, 2]
    assert [line for one in found for line in one] == lines
    assert list(portions([])) == []
