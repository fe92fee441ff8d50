"""Hands what happens in a run to all who listen, one event at a time, from whichever thread it comes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from deployer.runs.events import Event, Listener


class Broadcast:
    """Makes events and hands them on.

    A listener that fails - the disk is full, nobody reads the pipe, it has a defect - is left out from then on, and the
    others are told: what is under way on the hosts is not ended by it.

    Args:
        run: id of the run.
        listeners: in the order in which they are told.
        redacted: takes the secrets out of an event's data.
    """

    def __init__(self, run: str, listeners: Sequence[Listener], redacted: Callable[[Any], Any]) -> None:
        self._run = run
        self._listeners = list(listeners)
        self._redacted = redacted
        self._lock = threading.RLock()
        self.lost: list[str] = []  # who was left out, and why

    def __call__(self, kind: str, /, **data: Any) -> None:
        """Tell everybody what happens now.

        Args:
            kind: of the event.
            data: what the kind says.
        """
        self.tell(kind, data, time.time())

    def tell(self, kind: str, data: Mapping[str, Any], moment: float) -> None:
        """Tell everybody what happened a while ago.

        Args:
            kind: of the event.
            data: what the kind says.
            moment: when it happened, in seconds since the epoch.
        """
        with self._lock:
            event = Event(kind, self._redacted(data), moment, self._run)
            lost: list[str] = []
            for listener in tuple(self._listeners):
                try:
                    listener(event)
                except (Exception, SystemExit) as error:  # a library may want to leave when nobody reads its output
                    self._listeners.remove(listener)
                    why = str(error) if isinstance(error, OSError) else repr(error)
                    name = getattr(listener, "name", "a listener")
                    lost.append(f"{name} takes no events any more ({why}); the run went on without it")
            self.lost += lost
            for text in lost:
                self("message", level="error", text=text)
