"""The playbook is answered, and heard, through a real socket."""

from __future__ import annotations

import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.plugin_utils.operator_channel import ask, tell
from deployer.runs.events import Event
from deployer.runs.interrupts import Interrupts
from deployer.runs.questions import Batches, Questions, Unattended
from tests.unit.deployer.runs.recorded import broadcast

QUESTION: dict[str, Any] = {
    "batch": 2,
    "of": 3,
    "hosts": ["h2", "h3"],
    "done": ["h1"],
    "lost": [],
    "later": 5,
    "allowed": 1,
    "pause": 0,
    "confirm": False,
}


def test_a_batch_is_begun_and_told_of_when_nobody_says_otherwise() -> None:
    told: list[Event] = []
    with Interrupts() as interrupts:
        batches = Batches(Unattended(), interrupts, broadcast(told))
        with Questions(batches.decide) as questions:
            assert ask(questions.path, QUESTION) == {"go": True, "why": ""}
        assert batches.allowed == 1
    (event,) = told
    assert event.kind == "batch" and {*event.data} == {"batch", "of", "hosts", "done", "lost", "later"}


def test_where_nobody_sits_nothing_is_confirmed() -> None:
    with Interrupts() as interrupts:
        why = Batches(Unattended(), interrupts, broadcast([])).decide({**QUESTION, "confirm": True})
    assert why == "there is no terminal to ask at"


def test_ctrl_c_ends_a_pause_and_no_batch_is_begun_after_it() -> None:
    told: list[Event] = []
    with Interrupts() as interrupts:
        batches = Batches(Unattended(), interrupts, broadcast(told))
        timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
        assert batches.decide({**QUESTION, "pause": 60}) == "interrupted"
        timer.join()
        assert batches.decide(QUESTION) == "interrupted"
    assert [event.kind for event in told] == ["batch", "message"]


def test_what_is_told_is_heard_also_while_a_question_waits() -> None:
    heard: list[tuple[str, dict[str, Any]]] = []
    asked, may_answer, got = threading.Event(), threading.Event(), threading.Event()

    def decide(question: Any) -> str:
        asked.set()
        assert may_answer.wait(10)
        return ""

    def told(kind: str, message: Any) -> None:
        heard.append((kind, dict(message)))
        got.set()

    with Questions(decide, told) as questions:
        answers: list[Any] = []
        thread = threading.Thread(target=lambda: answers.append(ask(questions.path, QUESTION)))
        thread.start()
        assert asked.wait(10)
        tell(questions.path, "state", {"host": "gpu1", "state": "gate"})
        assert got.wait(10)
        may_answer.set()
        thread.join(10)
    assert heard == [("state", {"host": "gpu1", "state": "gate"})]
    assert answers == [{"go": True, "why": ""}]


def test_what_makes_no_sense_is_not_answered_and_the_next_is() -> None:
    with Questions(lambda question: "") as questions:
        for nonsense in (b"\n", b"[]\n", b"{half", b"\xff\n"):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(questions.path)
                client.sendall(nonsense)
                client.shutdown(socket.SHUT_WR)
                assert client.recv(10) == b""
        assert ask(questions.path, QUESTION)["go"]


def test_where_nobody_listens_any_more_no_batch_is_begun(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="is gone"):
        ask(str(tmp_path / "nothing"), QUESTION)

    def fails(question: Any) -> str:
        raise ValueError("it dies")

    with Questions(fails) as questions, pytest.raises(DeployError, match="is gone"):
        ask(questions.path, QUESTION)


def test_the_socket_is_the_users_alone_and_goes() -> None:
    with Questions(lambda question: "") as questions:
        path = Path(questions.path)
        assert path.parent.stat().st_mode & 0o777 == 0o700
    assert not path.parent.exists()


def test_a_long_folder_for_temporary_files_does_not_make_the_path_too_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = tmp_path / ("x" * 120)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    with Questions(lambda question: "no") as questions:
        assert ask(questions.path, {"batch": 1})["why"] == "no"


def test_who_cannot_decide_leaves_nobody_waiting() -> None:
    def fails(question: Any) -> str:
        raise KeyError("a defect")

    with Questions(fails) as questions, pytest.raises(DeployError):
        ask(questions.path, {"batch": 1})
