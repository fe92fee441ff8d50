"""Telling whoever started this program how far it is."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from typing import IO, Any

from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.protocol import Listing, Progress


class Reporter:
    """Says once a second how far it is, and ends with whoever started this program."""

    def __init__(self, out: IO[str]) -> None:
        self.out = out
        self.measure: Callable[[], tuple[int, int]] = lambda: (0, 0)
        self._lock = threading.Lock()
        self._listing: Listing | None = None
        self._parent = os.getppid()
        threading.Thread(target=self._run, daemon=True).start()

    def start(self, listing: Listing) -> None:
        """From now on there is something to measure."""
        self._listing = listing
        self.report()

    def report(self) -> None:
        """Say it now."""
        if self._listing is not None:
            size, files = self.measure()
            progress = Progress(size, self._listing.size, files, len(self._listing.files))
            self.say({"progress": dataclasses.asdict(progress)})

    def say(self, line: Mapping[str, Any]) -> None:
        """Write one line."""
        with self._lock:
            self.out.write(json.dumps(line) + "\n")
            self.out.flush()

    def _run(self) -> None:
        while True:
            time.sleep(1)
            try:
                if os.getppid() != self._parent:
                    raise BrokenPipeError
                self.report()
            except (BrokenPipeError, ValueError):
                if os.getpgrp() == os.getpid():
                    os.killpg(0, signal.SIGKILL)
                os._exit(1)
            except OSError:  # a folder that cannot be read just now
                continue
