"""Lines that say how far something long is, from whichever process of Ansible does it."""

from __future__ import annotations

import threading
import time

from ansible.utils.display import Display

from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.progress import LINE_EVERY, PREFIX, duration, size


class ProgressLines:
    """Shows a line every few seconds; nothing where it is done before the first is due. Any thread may call it.

    Args:
        doing: what is done, as `hashing /data/models/x`.
    """

    def __init__(self, doing: str) -> None:
        self._doing = doing
        self._began = self._said = time.monotonic()
        self._lock = threading.Lock()

    def __call__(self, done: int, total: int) -> None:
        """So many bytes of so many are done."""
        now = time.monotonic()
        with self._lock:
            if now - self._said < LINE_EVERY:
                return
            self._said = now
        rate = done / max(now - self._began, 0.001)
        left = f", {duration((total - done) / rate)} left" if done else ""
        Display().display(f"{PREFIX}{self._doing}: {size(done)} of {size(total)}, {size(rate)}/s{left}")
