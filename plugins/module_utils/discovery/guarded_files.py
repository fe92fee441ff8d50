"""Read files that other users wrote, also as root: nothing of theirs blocks, floods or leaks what they may not read."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

BEGINNING = 64 * 1024  # bytes
MOST_ENTRIES = 20_000  # of one folder


@dataclass(frozen=True)
class Owner:
    """Whose folder it is that files are read from."""

    uid: int
    gid: int


def owner_of(path: str) -> Owner:
    """Who owns what is at `path`.

    Raises:
        OSError: nothing is there, or it cannot be reached.
    """
    found = os.stat(path)
    return Owner(found.st_uid, found.st_gid)


def read_beginning(path: str, owner: Owner, limit: int = BEGINNING) -> str:
    """The first `limit` bytes of a regular file, as text; what is not UTF-8 in it is replaced.

    Args:
        path: links are followed, as conda and uv may link the files of packages.
        owner: of the folder that the file was found in. Root reads for others only what they own or everybody may
            read: a link to a private file of somebody else would give that away.
        limit: bytes.
    Raises:
        OSError: there is no such file, it is none that may be read for `owner`, or no regular file.
    """
    # A path descriptor opens nothing: to open a device can set it off, and to open a FIFO blocks.
    handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        found = os.fstat(handle)
        if not stat.S_ISREG(found.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        if os.geteuid() == 0 and not _readable_for(owner, found):
            raise OSError(errno.EACCES, "not readable for the owner of the folder", path)
        if found.st_size == 0:  # files of /proc say so too, and reading some of them blocks
            return ""
        descriptor = os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    finally:
        os.close(handle)
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read(limit).decode("utf-8", errors="replace")


def _readable_for(owner: Owner, found: os.stat_result) -> bool:
    if owner.uid in (0, found.st_uid) or found.st_mode & stat.S_IROTH:
        return True
    return found.st_gid == owner.gid and bool(found.st_mode & stat.S_IRGRP)


def text_or_nothing(path: str, owner: Owner, limit: int = BEGINNING) -> str:
    """The same, and '' for what cannot be read."""
    try:
        return read_beginning(path, owner, limit)
    except (OSError, ValueError):
        return ""


def entries_of(folder: str, most: int = MOST_ENTRIES) -> list[str]:
    """The names in a folder, sorted; of a folder with more than `most` some.

    Raises:
        OSError: it is no folder, or it cannot be read.
    """
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in islice(entries, most))


def entries_or_nothing(folder: str) -> list[str]:
    """The same, and nothing for what cannot be read."""
    try:
        return entries_of(folder)
    except (OSError, ValueError):
        return []


def folders_in(folder: str) -> Iterator[str]:
    """The visible folders in a folder, links to folders too; nothing for what cannot be read."""
    for name in entries_or_nothing(folder):
        path = os.path.join(folder, name)
        if not name.startswith(".") and os.path.isdir(path):
            yield path


def reason_of(error: Exception) -> str:
    """Why a file could not be read, for people."""
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


def printable(text: str) -> str:
    """Text of a host for a result: valid Unicode, and '?' for what is not printable and would reach a terminal."""
    valid = text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return "".join(char if char.isprintable() else "?" for char in valid)
