"""A service's journal on its host, and the file that says how far a cut-over has come."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import time
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.files import (
    pretty_json,
    read_json,
    sync_directory,
    write_file,
)
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder


def timestamp() -> str:
    """The time now in UTC, ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def append(folder: ServiceFolder, **entry: Any) -> None:
    """Add one line to the journal; it is on disk when this returns."""
    line = json.dumps({"time": timestamp(), **entry}, sort_keys=True) + "\n"
    descriptor = os.open(folder.journal, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        size = os.fstat(descriptor).st_size
        torn = (
            size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        )  # by a power cut: it must not take this one along
        content = ("\n" if torn else "") + line
        written = os.write(descriptor, content.encode())
        if written < len(content.encode()):
            os.ftruncate(descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), folder.journal)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def entries(folder: ServiceFolder) -> list[dict[str, Any]]:
    """The journal, oldest first; a line that a power cut tore is passed over."""
    try:
        with open(folder.journal, encoding="utf-8", errors="replace") as stream:
            lines = stream.read().splitlines()
    except FileNotFoundError:
        return []
    found = []
    for line in lines:
        with contextlib.suppress(ValueError, RecursionError):
            entry = json.loads(line)
            if isinstance(entry, dict):
                found.append(entry)
    return found


def enter(folder: ServiceFolder, state: str, **entry: Any) -> None:
    """Record, on disk, that the cut-over is about to enter `state`."""
    write_file(folder.transaction, pretty_json({"state": state, "time": timestamp(), **entry}))


def unfinished(folder: ServiceFolder) -> dict[str, Any] | None:
    """The cut-over that is under way, or that was interrupted; None when there is none."""
    value = read_json(folder.transaction)
    return value if isinstance(value, dict) else None


def finish(folder: ServiceFolder) -> None:
    """The cut-over has ended, one way or the other."""
    for path in (folder.loading, folder.transaction):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
    sync_directory(folder.path)
