"""How fast something goes, and not faster than asked."""

from __future__ import annotations

import threading
import time
from collections import deque

MOMENT = 0.25  # seconds that count as one
LEAST = 4096  # bytes that pass at once, however low the rate


class Throttle:
    """Lets through so many bytes a second, whoever asks; 0 lets everything through.

    Args:
        rate: bytes a second.
    """

    def __init__(self, rate: int) -> None:
        self.rate = rate
        self._lock = threading.Lock()
        self._free_at = time.monotonic()

    def portion(self, most: int) -> int:
        """Bytes to pass at once, at most `most`: few where few may pass, so that everyone gets a turn."""
        return min(most, max(LEAST, int(self.rate * MOMENT / 2))) if self.rate else most

    def reserve(self, size: int) -> float:
        """Seconds until `size` bytes may pass; who asks next comes after them."""
        if not self.rate:
            return 0.0
        with self._lock:
            now = time.monotonic()
            # What was not used a moment ago is not saved up for longer than a moment.
            begin = max(self._free_at, now - MOMENT)
            self._free_at = begin + size / self.rate
            return max(self._free_at - now, 0.0)

    def take(self, size: int) -> None:
        """Wait until `size` bytes may pass."""
        wait = self.reserve(size)
        if wait > 0:
            time.sleep(wait)


class Meter:
    """Bytes a second over the last seconds.

    Args:
        window: over how many seconds.
    """

    def __init__(self, window: float) -> None:
        self.window = window
        self.restart()

    def restart(self) -> None:
        """Begin anew: nothing can be said for one window."""
        self._since = time.monotonic()
        self._seen: deque[tuple[float, int]] = deque()
        self._sum = 0

    def count(self, size: int) -> None:
        """So many bytes have come."""
        now = time.monotonic()
        self._sum += size
        if self._seen and now - self._seen[-1][0] < MOMENT:
            self._seen[-1] = (self._seen[-1][0], self._seen[-1][1] + size)
        else:
            self._seen.append((now, size))

    @property
    def full(self) -> bool:
        """True once a whole window has been seen."""
        return time.monotonic() - self._since >= self.window

    @property
    def rate(self) -> float:
        """Bytes a second over the window, or since the beginning where that is less."""
        now = time.monotonic()
        while self._seen and self._seen[0][0] < now - self.window:
            self._sum -= self._seen.popleft()[1]
        return self._sum / max(min(self.window, now - self._since), 0.001)
