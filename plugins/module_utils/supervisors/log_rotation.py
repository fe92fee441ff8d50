"""Keeps the log of a process that nobody else rotates from filling the disk, for as long as the process lives.

It needs nothing of this package: it is sent to a Python of the host as a program, which goes on after the module that
started the service has ended. Should it be killed, the log grows, and nothing else happens.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import time

LARGEST = 64 * 1024 * 1024  # bytes of a log before it is rotated
KEPT = 4  # rotated logs, PATH.1 the newest
EVERY = 5.0  # seconds between two looks
BLOCK = 1024 * 1024
PART = ".part"


def keep_bounded(
    path: str, pid: int, start_time: int, largest: int = LARGEST, kept: int = KEPT, every: float = EVERY
) -> None:
    """Rotate a log while the process that writes to it lives. Returns when it has ended.

    Args:
        path: of the log, which its process has opened for appending.
        pid: of the process.
        start_time: in clock ticks since boot, which tells it from another one of the same number.
        largest: bytes of the log before it is rotated.
        kept: how many rotated logs stay.
        every: seconds between two looks.
    """
    ends, log = _end_of(pid), -1
    while _start_time(pid) == start_time:
        if log < 0:
            log = _opened(path)
        if log >= 0 and os.fstat(log).st_size > largest:
            _rotate_or_cut(log, path, largest, kept)
        _wait(ends, every)
    for descriptor in (ends, log):
        if descriptor >= 0:
            os.close(descriptor)


def rotate(log: int, path: str, kept: int = KEPT) -> None:
    """Copy a log to PATH.1 and empty it, as logrotate's copytruncate: whoever writes to it goes on writing to it.

    What is written between the end of the copy and the emptying is lost, a matter of microseconds.

    Args:
        log: descriptor of it.
        path: of it.
        kept: how many rotated logs stay.
    Raises:
        OSError: the copy cannot be written; the log is as it was.
    """
    part = path + PART
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part)
    copy = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o640)
    try:
        offset = _copy(log, copy, 0)
        shift(path, kept)
        offset = _copy(log, copy, offset)
        os.replace(part, f"{path}.1")
        _copy(log, copy, offset)
        os.ftruncate(log, 0)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise
    finally:
        os.close(copy)


def shift(path: str, kept: int = KEPT) -> None:
    """PATH.1 becomes PATH.2, and so on; the oldest goes."""
    for number in range(kept - 1, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{path}.{number}", f"{path}.{number + 1}")


def _opened(path: str) -> int:
    """The log; -1 while it is not there. It stays this one, whatever comes to lie at its place."""
    try:
        return os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return -1


def _rotate_or_cut(log: int, path: str, largest: int, kept: int) -> None:
    """Rotate; on a full disk give up the oldest log, and at last the one that grows."""
    try:
        rotate(log, path, kept)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(f"{path}.{kept}")
        if os.fstat(log).st_size > 2 * largest:
            os.ftruncate(log, 0)


def _copy(log: int, copy: int, offset: int) -> int:
    """Copy from `offset` to the end; where that was."""
    while block := os.pread(log, BLOCK, offset):
        offset += len(block)
        while block:
            block = block[os.write(copy, block) :]
    return offset


def _start_time(pid: int) -> int:
    """When a process started; -1 where there is none, or it has ended and nobody has asked how."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            fields = stream.read().rpartition(b")")[2].split()
    except OSError:
        return -1
    return -1 if fields[0] in (b"Z", b"X") else int(fields[19])


def _end_of(pid: int) -> int:
    """A descriptor that is readable once a process has ended; -1 where the kernel has none (before 5.3)."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1


def _wait(ends: int, seconds: float) -> None:
    if ends < 0:
        time.sleep(seconds)
        return
    select.select([ends], [], [], seconds)


if __name__ == "__main__":
    keep_bounded(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), KEPT, float(sys.argv[5]))
