"""The operator is asked at a real terminal."""

from __future__ import annotations

import io
import os
import pty
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from rich.console import Console

from deployer.runs.interrupts import Interrupts
from deployer.runs.results import HostResult, Summary
from deployer.views.operator import TerminalOperator


class Said(io.StringIO):
    """What was said, and a wait for the question."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def write(self, text: str) -> int:
        """Note whether it was the question."""
        if "[yes/no]" in text:
            self.asked.set()
        return super().write(text)


@contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """A terminal in place of standard input; what is written to the descriptor is typed."""
    outer, inner = pty.openpty()
    with os.fdopen(inner, "r", closefd=True) as stream:
        monkeypatch.setattr(sys, "stdin", stream)
        yield outer
    os.close(outer)


def answered(monkeypatch: pytest.MonkeyPatch, typed: bytes, first: bytes = b"", ask: str = "agrees") -> tuple[Any, str]:
    """What it comes to when `first` is typed before the question and `typed` after it."""
    said = Said()
    foreseen = Summary({"a": HostResult("a")})
    with terminal(monkeypatch) as descriptor, Interrupts() as interrupts:
        operator = TerminalOperator(Console(file=said, width=100), True)
        os.write(descriptor, first)
        typist = threading.Thread(target=lambda: said.asked.wait(10) and os.write(descriptor, typed))
        typist.start()
        answer = getattr(operator, ask)(foreseen if ask == "agrees" else {}, interrupts)
        typist.join()
    return answer, said.getvalue()


@pytest.mark.parametrize(("typed", "yes"), [(b"yes\n", True), (b"Y\n", True), (b"\n", False), (b"nonsense\n", False)])
def test_a_word_is_typed(monkeypatch: pytest.MonkeyPatch, typed: bytes, yes: bool) -> None:
    agreed, said = answered(monkeypatch, typed)
    assert agreed is yes and "Go on? [yes/no]" in said
    why, said = answered(monkeypatch, typed, ask="confirms")
    assert (why == "") == yes and "begin it? [yes/no]" in said
    assert yes or why == "it was not confirmed"


def test_what_was_typed_before_the_question_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    assert answered(monkeypatch, b"no\n", first=b"yes\n")[0] is False


def test_the_end_of_what_is_typed_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    assert answered(monkeypatch, b"\x04")[0] is False


def test_ctrl_c_is_a_no(monkeypatch: pytest.MonkeyPatch) -> None:
    for ask, expected in (("agrees", False), ("confirms", "interrupted")):
        said = Said()
        with terminal(monkeypatch), Interrupts() as interrupts:
            operator = TerminalOperator(Console(file=said), True)
            typist = threading.Thread(target=lambda s=said: s.asked.wait(10) and os.kill(os.getpid(), signal.SIGINT))
            typist.start()
            assert getattr(operator, ask)(Summary() if ask == "agrees" else {}, interrupts) == expected
            typist.join()


def test_of_a_rollback_it_is_shown_what_would_serve(monkeypatch: pytest.MonkeyPatch) -> None:
    one = {"service": "s", "outcome": "planned", "before": "aaa", "after": "bbb"}
    said = Said()
    with terminal(monkeypatch) as descriptor, Interrupts() as interrupts:
        typist = threading.Thread(target=lambda: said.asked.wait(10) and os.write(descriptor, b"yes\n"))
        typist.start()
        foreseen = Summary({"gpu1": HostResult("gpu1", cutovers=(one,))})
        assert TerminalOperator(Console(file=said, width=100), True).agrees(foreseen, interrupts)
        typist.join()
    line = next(line for line in said.getvalue().splitlines() if "gpu1" in line)
    assert line.split() == ["gpu1", "s", "aaa", "bbb", "planned"]
