"""How long a release may load: longer for more weights, and longer still while its log shows progress."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence

# A cold disk over the network reads about 100 MB a second; weights in the page cache are there at once.
BYTES_A_SECOND = 100_000_000
# Progress extends a deadline to this many times the first one: an engine that loads in circles ends, too.
LONGEST = 6
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".gguf")


class Deadline:
    """When to give up on an engine that loads; fed with its log, it moves while there is something new to see.

    Args:
        started: when the engine was started, as `now` below: seconds of any clock that does not jump.
        timeout: seconds until the first deadline.
        progress_timeout: seconds that each new line of progress grants from when it was seen.
        progress: regular expressions of lines that an engine logs on its way.
    """

    def __init__(self, started: float, timeout: float, progress_timeout: float, progress: Iterable[str]) -> None:
        self.started = started
        self.at = started + timeout
        self.latest = started + LONGEST * timeout
        self.progress_timeout = progress_timeout
        self.last = ""
        self._pattern = re.compile("|".join(f"(?:{pattern})" for pattern in progress) or r"(?!)")
        self._seen: set[str] = set()

    def feed(self, now: float, log: str) -> None:
        """Look at the end of the log: each line of progress counts once, however often it is shown."""
        new = [line for line in progress_lines(log, self._pattern) if line not in self._seen]
        if new:
            self._seen.update(new)
            self.last = new[-1]
            self.at = min(self.latest, max(self.at, now + self.progress_timeout))

    def over(self, now: float) -> bool:
        """True when it is time to give up."""
        return now >= self.at

    def waited(self, now: float) -> int:
        """Seconds since the start."""
        return round(now - self.started)


def progress_lines(log: str, pattern: re.Pattern[str]) -> list[str]:
    """The lines of a log that show progress; a bar that is drawn over itself is as many lines (`\\r`)."""
    return [line.strip() for line in log.splitlines() if pattern.search(line)]


def first_timeout(ready_timeout: int, weight_bytes: int) -> int:
    """Seconds until the first deadline: what the description gives, and the time to read the weights."""
    return ready_timeout + weight_bytes // BYTES_A_SECOND


def weight_bytes(folder: str, suffixes: Sequence[str] = WEIGHT_SUFFIXES) -> int:
    """Bytes of the weights in a model's folder, links followed; 0 where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            return sum(entry.stat().st_size for entry in entries if entry.name.endswith(tuple(suffixes)))
    except OSError:
        return 0
