"""For programs: an event a line, while it happens."""

from __future__ import annotations

from typing import TextIO

from deployer.runs.events import Event


class JsonLines:
    """Writes events as docs/events.md has them, and nothing else.

    Args:
        stream: where to; every line is flushed.
    """

    name = "standard output"

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __call__(self, event: Event) -> None:
        """Write one.

        Raises:
            OSError: nobody reads it any more.
        """
        self._stream.write(event.as_json() + "\n")
        self._stream.flush()
