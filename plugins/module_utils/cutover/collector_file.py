"""Writes a file into a folder that may not answer: a program of its own, which whoever started it can give up.

It needs nothing of this package: it is sent to a Python of the host. What it is to write comes on its standard input;
what went wrong goes to its standard output.
"""

from __future__ import annotations

import contextlib
import os
import stat
import sys

PART = ".part"


def replace(path: str, content: bytes) -> None:
    """Write a file in one step, readable for everybody, where it is not right already.

    Whatever else lies at its place, such as a link, a pipe or a device, is replaced and never read.

    Args:
        path: of the file.
        content: of it.
    Raises:
        OSError: it cannot be written.
    """
    if _read(path, len(content) + 1) == content:
        return
    folder, name = os.path.split(path)
    part = os.path.join(folder, f".{name}{PART}")
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        with open(os.open(part, flags, 0o644), "wb") as stream:
            stream.write(content)
            stream.flush()
            os.fchmod(stream.fileno(), 0o644)
            os.fsync(stream.fileno())
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part)
        raise


def _read(path: str, most: int) -> bytes | None:
    """The first bytes of a file; None where there is none, or something else."""
    try:
        if not stat.S_ISREG(os.lstat(path).st_mode):  # opening a device can mean something to it
            return None
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    with open(descriptor, "rb") as stream:
        return stream.read(most) if stat.S_ISREG(os.fstat(descriptor).st_mode) else None


if __name__ == "__main__":
    try:
        replace(sys.argv[1], sys.stdin.buffer.read())
    except OSError as error:
        print(ascii(str(error))[1:-1])
