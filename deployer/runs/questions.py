"""Listens to the playbook: answers whether a batch may be begun, and takes what is told of how far hosts are."""

from __future__ import annotations

import contextlib
import json
import os
import select
import socket
import tempfile
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from deployer.runs.broadcast import Broadcast
from deployer.runs.interrupts import Interrupts
from deployer.runs.results import Summary

INTERRUPTED = "interrupted"
PATIENCE = 5.0  # seconds for a line to arrive on this very machine
LONGEST = 1024 * 1024  # bytes of a line
LONGEST_FOLDER = 60  # bytes; the path of a socket has 107, and this is what comes before its own folder

Message = Mapping[str, Any]


class Operator(Protocol):
    """Who decides: somebody at a terminal, or nobody."""

    @property
    def asks_first(self) -> bool:
        """True when they are to agree to the plan before anything is changed."""

    @property
    def has_terminal(self) -> bool:
        """True when a batch can be confirmed."""

    def agrees(self, foreseen: Summary, interrupts: Interrupts) -> bool:
        """Whether what is foreseen may be done.

        Args:
            foreseen: the plan of every host, or for a rollback what check mode says.
            interrupts: who may have asked for an end.
        """

    def confirms(self, question: Message, interrupts: Interrupts) -> str:
        """Why a batch may not be begun; '' where it may.

        Args:
            question: as the action `rollout` asks it.
            interrupts: who may have asked for an end.
        """


class Unattended:
    """Nobody sits there: what was ordered is done."""

    asks_first = False
    has_terminal = False

    def agrees(self, foreseen: Summary, interrupts: Interrupts) -> bool:
        """It was ordered."""
        return True

    def confirms(self, question: Message, interrupts: Interrupts) -> str:
        """Nobody can."""
        return "there is no terminal to ask at"


class Batches:
    """Decides whether a batch may be begun: after a pause, as the operator says, and not after Ctrl-C."""

    def __init__(self, operator: Operator, interrupts: Interrupts, emit: Broadcast) -> None:
        self._operator = operator
        self._interrupts = interrupts
        self._emit = emit
        self.allowed = 0  # hosts that may be lost, once a batch was asked about

    def decide(self, question: Message) -> str:
        """Why the batch may not be begun; '' where it may."""
        self.allowed = int(question.get("allowed") or 0)
        if self._interrupts.requested:
            return INTERRUPTED
        self._emit("batch", **{key: question.get(key) for key in ("batch", "of", "hosts", "done", "lost", "later")})
        pause = int(question.get("pause") or 0)
        if pause:
            self._emit("message", level="info", text=f"the batch begins in {pause} s")
            if select.select([self._interrupts.descriptor], [], [], float(pause))[0]:
                return INTERRUPTED
        return self._operator.confirms(question, self._interrupts) if question.get("confirm") else ""


def _short_folder() -> str | None:
    """Where a socket's path is short enough for the kernel; None for the usual place."""
    usual = tempfile.gettempdir()
    return None if len(os.fsencode(usual)) <= LONGEST_FOLDER else "/tmp"


class Questions:
    """Listens at a socket that the user alone can reach, while it is entered.

    Args:
        decide: given a question, says why the batch may not be begun; '' where it may.
        told: takes what is told and not answered: its kind, and what it says.
    """

    def __init__(
        self,
        decide: Callable[[Message], str],
        told: Callable[[str, Message], None] = lambda kind, message: None,
    ) -> None:
        self._decide = decide
        self._told = told
        self._folder = tempfile.TemporaryDirectory(prefix="sglang-deployer-", dir=_short_folder())
        self.path = str(Path(self._folder.name) / "questions")
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._thread = threading.Thread(target=self._hear_all, daemon=True)

    def __enter__(self) -> Questions:
        self._listener.bind(self.path)
        self._listener.listen(socket.SOMAXCONN)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(PATIENCE)
        self._folder.cleanup()

    def _hear_all(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:  # closed
                return
            try:
                connection.settimeout(PATIENCE)
                with connection.makefile("rb") as stream:
                    message = json.loads(stream.readline(LONGEST))
                if not isinstance(message, dict):
                    raise ValueError("no JSON object")
                if "tell" in message:
                    self._told(str(message.pop("tell")), message)
                else:
                    # It may take until the operator has answered; what other hosts tell meanwhile is not kept waiting.
                    threading.Thread(target=self._answer, args=(connection, message), daemon=True).start()
                    continue
            except Exception:  # who spoke is gone, or makes no sense: others have something to say as well
                pass
            connection.close()

    def _answer(self, connection: socket.socket, question: Message) -> None:
        # Who asked may be gone; a question that cannot be decided is not answered.
        with connection, contextlib.suppress(Exception):
            why = self._decide(question)
            connection.sendall(json.dumps({"go": not why, "why": why}).encode() + b"\n")
