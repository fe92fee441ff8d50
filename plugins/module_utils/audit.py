"""What was done to a host, by whom: a line in a file of the deployment's root, and one in the host's system log."""

from __future__ import annotations

import contextlib
import json
import os
import syslog
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.journal import timestamp

FILE = "audit.jsonl"
IDENTITY = "sglang-deployer"
LONGEST = 500  # characters of one value


def record(root: str, **fields: Any) -> None:
    """Write one line; it is on disk when this returns. What cannot be written is left: auditing stops no change.

    Args:
        root: the deployment's root folder.
        fields: what was done (`what`), who asked for it (`initiator`), and what else belongs to it.
    """
    line = json.dumps({"time": timestamp(), **{key: _plain(value) for key, value in fields.items()}}, sort_keys=True)
    with contextlib.suppress(OSError):
        _append(os.path.join(root, FILE), f"{line}\n".encode())
    with contextlib.suppress(OSError, ValueError):
        syslog.openlog(IDENTITY, syslog.LOG_PID, syslog.LOG_DAEMON)
        syslog.syslog(syslog.LOG_NOTICE, line)
        syslog.closelog()


def _append(path: str, line: bytes) -> None:
    # A link that somebody put there would be followed by root otherwise.
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
    descriptor = os.open(path, flags, 0o644)
    try:
        end = os.fstat(descriptor).st_size
        if end and os.pread(descriptor, 1, end - 1) != b"\n":  # a full disk or a power cut tore the last line
            line = b"\n" + line
        os.write(descriptor, line)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _plain(value: Any) -> Any:
    """A value as JSON can hold it, without control characters, which reach a terminal that shows the file."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    text = "".join(char if char.isprintable() else "?" for char in str(value))
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"
