"""The operator is asked between batches: through a real socket, at a real terminal."""

from __future__ import annotations

import io
import os
import pty
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.plugin_utils.operator_channel import ask
from deployer.runs.interrupts import Interrupts
from deployer.runs.questions import Operator, Questions, batch_line

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


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A terminal in place of standard input; what is written to the descriptor is typed."""
    outer, inner = pty.openpty()
    with os.fdopen(inner, "r", closefd=True) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        yield outer
    os.close(outer)


class Said(io.StringIO):
    """What was said, and a wait for the question."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def write(self, text: str) -> int:
        """Note whether it was the question."""
        if "begin it?" in text:
            self.asked.set()
        return super().write(text)


def answered(question: dict[str, Any], typed: bytes, descriptor: int) -> tuple[dict[str, Any], str]:
    said = Said()
    with Interrupts() as interrupts, Questions(Operator(Console(file=said, width=200), interrupts).decide) as questions:
        typist = threading.Thread(target=lambda: said.asked.wait(10) and os.write(descriptor, typed))
        typist.start()
        answer = ask(questions.path, question)
        said.asked.set()
        typist.join()
    return answer, said.getvalue()


def test_a_batch_is_begun_when_nobody_says_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as typing:
        answer, said = answered(QUESTION, b"", typing)
    assert answer == {"go": True, "why": ""}
    assert "batch 2 of 3: h2, h3 (1 done, 5 after it)" in said


@pytest.mark.parametrize(("typed", "go"), [(b"yes\n", True), (b"y\n", True), (b"\n", False), (b"nonsense\n", False)])
def test_a_confirmation_is_typed(monkeypatch: pytest.MonkeyPatch, typed: bytes, go: bool) -> None:
    with terminal(monkeypatch) as typing:
        answer, said = answered({**QUESTION, "confirm": True}, typed, typing)
    assert answer["go"] == go
    assert "begin it? [yes/no]" in said
    assert go or answer["why"] == "it was not confirmed"


def test_what_was_typed_before_the_question_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as typing:
        os.write(typing, b"yes\n")
        answer, _ = answered({**QUESTION, "confirm": True}, b"no\n", typing)
    assert not answer["go"]


def test_ctrl_c_ends_a_pause_and_a_question(monkeypatch: pytest.MonkeyPatch) -> None:
    for question in ({**QUESTION, "pause": 60}, {**QUESTION, "confirm": True}):
        with terminal(monkeypatch):
            said: list[str] = []
            with Interrupts(lambda said=said: said.append("first")) as interrupts:  # type: ignore[misc]
                operator = Operator(Console(file=io.StringIO()), interrupts)
                timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT))
                timer.start()
                assert operator.decide(question) == "interrupted"
                timer.join()
            assert (said, operator.allowed) == (["first"], 1)


def test_without_a_terminal_nothing_is_confirmed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", open(os.devnull))  # noqa: SIM115
    with Interrupts() as interrupts:
        why = Operator(Console(file=io.StringIO()), interrupts).decide({**QUESTION, "confirm": True})
    assert why == "there is no terminal to ask at"


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


def test_ctrl_c_is_counted_and_the_old_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    with Interrupts() as interrupts:
        assert not interrupts.requested
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.requested and not interrupts.at_once
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.at_once
    assert signal.getsignal(signal.SIGINT) == before


def test_many_hosts_are_counted() -> None:
    many = {**QUESTION, "hosts": [f"h{number}" for number in range(10)], "lost": ["h1"], "later": 0}
    assert batch_line(many).endswith("h6, h7 and 2 more (1 done, 1 failed)")
