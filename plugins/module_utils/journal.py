"""A service's journal on its host, and the file that says how far a cut-over has come."""

from __future__ import annotations

import contextlib
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
    descriptor = os.open(folder.journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(descriptor, line.encode())
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def enter(folder: ServiceFolder, state: str, **entry: Any) -> None:
    """Record, on disk, that the cut-over is about to enter `state`."""
    write_file(folder.transaction, pretty_json({"state": state, "time": timestamp(), **entry}))


def unfinished(folder: ServiceFolder) -> dict[str, Any] | None:
    """The cut-over that is under way, or that was interrupted; None when there is none."""
    value = read_json(folder.transaction)
    return value if isinstance(value, dict) else None


def finish(folder: ServiceFolder) -> None:
    """The cut-over has ended, one way or the other."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(folder.transaction)
    sync_directory(folder.path)
