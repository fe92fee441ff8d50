"""Ctrl-C: once asks for an end at the next good moment, twice for one at once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

from deployer.runs.runner import end_signals

AT_ONCE, NO_MORE = 2, 3  # how often it was typed


class Interrupts:
    """Counts Ctrl-C while it is entered. SIGTERM counts as two, and so does a terminal that is gone.

    Outside of the main thread there is none to count.

    Args:
        on_interrupt: called with the count at the first one and at the second, in a thread of its own: what a signal
            interrupts may hold any lock.
    """

    def __init__(self, on_interrupt: Callable[[int], None] = lambda count: None) -> None:
        self._on_interrupt = on_interrupt
        self._count = 0
        self._before: dict[int, Any] = {}
        self._woken_before = -1
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._heard, self._say = os.pipe2(os.O_CLOEXEC)
        self._teller = threading.Thread(target=self._tell, daemon=True)

    def __enter__(self) -> Interrupts:
        self._teller.start()
        if threading.current_thread() is threading.main_thread():
            for number in end_signals():
                self._before[number] = signal.signal(number, self._note)
            # Python calls a handler only between two of its own steps: a select that has just begun would not notice.
            self._woken_before = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before:
            signal.set_wakeup_fd(self._woken_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._say)
        self._teller.join()
        for descriptor in (self._heard, self._read, self._write):
            os.close(descriptor)

    @property
    def requested(self) -> bool:
        """True once somebody asked for an end."""
        return self._count > 0

    @property
    def at_once(self) -> bool:
        """True once somebody asked for an end at once."""
        return self._count >= AT_ONCE

    @property
    def no_more(self) -> bool:
        """True once somebody asked for an end of what follows an end at once, too."""
        return self._count >= NO_MORE

    @property
    def descriptor(self) -> int:
        """Readable once somebody asked for an end: for select."""
        return self._read

    def _note(self, number: int, frame: FrameType | None) -> None:
        before, self._count = self._count, self._count + (1 if number == signal.SIGINT else AT_ONCE)
        if before < AT_ONCE:
            os.write(self._say, bytes([min(self._count, AT_ONCE)]))

    def _tell(self) -> None:
        while said := os.read(self._heard, 1):
            self._on_interrupt(said[0])
