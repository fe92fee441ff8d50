"""Ctrl-C: once asks for an end at the next good moment, twice for one at once."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class Interrupts:
    """Counts Ctrl-C while it is entered; only the main thread may enter it. SIGTERM counts as two.

    Args:
        on_first: called at the first one, in the main thread.
    """

    def __init__(self, on_first: Callable[[], None] = lambda: None) -> None:
        self._on_first = on_first
        self._count = 0
        self._before: dict[int, Any] = {}
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def __enter__(self) -> Interrupts:
        for number in (signal.SIGINT, signal.SIGTERM):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._read)
        os.close(self._write)

    @property
    def requested(self) -> bool:
        """True once somebody asked for an end."""
        return self._count > 0

    @property
    def at_once(self) -> bool:
        """True once somebody asked for an end at once."""
        return self._count > 1

    @property
    def descriptor(self) -> int:
        """Readable once somebody asked for an end: for select."""
        return self._read

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._count += 2 if number == signal.SIGTERM else 1
        if self._count == 1:
            os.write(self._write, b"!")
            self._on_first()
        elif self._count == 2:
            os.write(self._write, b"!")
