"""Answers a rollout's question whether its next batch may be begun: after a pause, as the operator says."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import sys
import tempfile
import termios
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console

from deployer.runs.interrupts import Interrupts
from deployer.views.console import shown

INTERRUPTED = "interrupted"


class Questions:
    """Listens at a socket that the user alone can reach, while it is entered.

    Args:
        decide: given a question, says why the batch may not be begun; '' where it may.
    """

    def __init__(self, decide: Callable[[Mapping[str, Any]], str]) -> None:
        self._decide = decide
        self._folder = tempfile.TemporaryDirectory(prefix="sglang-deployer-")
        self.path = str(Path(self._folder.name) / "questions")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)

    def __enter__(self) -> Questions:
        self._listener.bind(self.path)
        self._listener.listen()
        threading.Thread(target=self._answer_all, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._folder.cleanup()

    def _answer_all(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            # Who asked may be gone; a question that cannot be read is not answered.
            with connection, contextlib.suppress(OSError, ValueError), connection.makefile("rb") as stream:
                why = self._decide(json.loads(stream.readline()))
                connection.sendall(json.dumps({"go": not why, "why": why}).encode() + b"\n")


class Operator:
    """Decides for the one who sits at the terminal.

    Args:
        console: for what they are told.
        interrupts: who may have asked for an end.
    """

    def __init__(self, console: Console, interrupts: Interrupts) -> None:
        self.console = console
        self.interrupts = interrupts
        self.allowed = 0  # hosts that may be lost, once a batch was asked about

    def decide(self, question: Mapping[str, Any]) -> str:
        """Why the batch may not be begun; '' where it may."""
        self.allowed = int(question.get("allowed") or 0)
        if self.interrupts.requested:
            return INTERRUPTED
        self._say(batch_line(question))
        pause = int(question.get("pause") or 0)
        if pause:
            self._say(f"  it begins in {pause} s")
            if self._wait(float(pause), ()):
                return INTERRUPTED
        return self._confirmed() if question.get("confirm") else ""

    def _confirmed(self) -> str:
        if not sys.stdin.isatty():
            return "there is no terminal to ask at"
        descriptor = sys.stdin.fileno()
        termios.tcflush(descriptor, termios.TCIFLUSH)  # what was typed before the question is no answer to it
        self.console.print("  begin it? \\[yes/no] ", end="", style="bold")
        typed = ""
        while not typed.endswith("\n"):
            if self._wait(None, (descriptor,)):
                return INTERRUPTED
            got = os.read(descriptor, 1024).decode(errors="replace")
            if not got:
                break
            typed += got
        return "" if typed.strip().lower() in ("y", "yes") else "it was not confirmed"

    def _wait(self, seconds: float | None, others: tuple[int, ...]) -> bool:
        """Wait for time to pass or for something to read; True when somebody asked for an end."""
        readable, _, _ = select.select([self.interrupts.descriptor, *others], [], [], seconds)
        return self.interrupts.descriptor in readable

    def _say(self, text: str) -> None:
        self.console.print(shown(text), style="bold", highlight=False, soft_wrap=True)


def batch_line(question: Mapping[str, Any]) -> str:
    """A batch for people: which, how many are done, lost, and left."""
    hosts, lost = (list(question.get(key) or ()) for key in ("hosts", "lost"))
    names = ", ".join(hosts[:8]) + (f" and {len(hosts) - 8} more" if len(hosts) > 8 else "")
    done, later = len(question.get("done") or ()), int(question.get("later") or 0)
    parts = [f"{done} done"] + ([f"{len(lost)} failed"] if lost else []) + ([f"{later} after it"] if later else [])
    return f"batch {question.get('batch')} of {question.get('of')}: {names} ({', '.join(parts)})"
