"""How much of the disk environments take, each inode counted once.

Standard library only, Python 3.9+: it runs inside Ansible modules.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

BLOCK = 512  # bytes; st_blocks counts in them, whatever the filesystem (stat(2))
CHECK_EVERY = 4096  # entries between two looks at the clock
# Beside the environment in a root prefix lie all others, and the packages that they were made from.
NO_PART = ("envs", "pkgs")


@dataclass(frozen=True)
class Size:
    """Bytes of the disk, as `du` has them.

    Attributes:
        size: of everything in the environment.
        shared: part of it whose inodes are linked into other measured environments as well.
        unreadable: how many folders could not be read, and are missing in it.
    """

    size: int
    shared: int = 0
    unreadable: int = 0


@dataclass(frozen=True)
class Sizes:
    """The sizes by prefix, without those that the time did not suffice for, and what all take together."""

    by_prefix: dict[str, Size]
    total: int


class _OutOfTime(Exception):
    pass


class _Ledger:
    """What each of several prefixes takes, and which inodes were counted for which of them."""

    def __init__(self, prefixes: int) -> None:
        self.sizes = [0] * prefixes
        self.shared = [0] * prefixes
        self.unreadable = [0] * prefixes
        self.total = 0  # each inode once, however many prefixes have it
        # device -> inode -> the last prefix that has it: its index, or the complement of that once several have it.
        self.inodes: dict[int, dict[int, int]] = {}

    def enter(self, index: int, found: os.stat_result) -> None:
        """Count something that was found in a prefix."""
        taken = found.st_blocks * BLOCK
        if found.st_nlink > 1 and not stat.S_ISDIR(found.st_mode):
            inodes = self.inodes.setdefault(found.st_dev, {})
            last = inodes.get(found.st_ino)
            if last in (index, ~index):
                return
            inodes[found.st_ino] = index if last is None else ~index
            if last is not None:
                self.shared[index] += taken
                self.total -= taken
                if last >= 0:
                    self.shared[last] += taken
        self.sizes[index] += taken
        self.total += taken


def measure(prefixes: Sequence[str], deadline: float) -> Sizes:
    """The size of each prefix, in the order given, until the time is up.

    Args:
        prefixes: real paths of environments; one that lies in another is no part of that.
        deadline: in the time of `time.monotonic`.
    """
    others = frozenset(prefixes)
    ledger = _Ledger(len(prefixes))
    measured = {}
    for index, prefix in enumerate(prefixes):
        try:
            for found in _walk(prefix, others, deadline):
                if found is None:
                    ledger.unreadable[index] += 1
                else:
                    ledger.enter(index, found)
        except _OutOfTime:
            break
        measured[prefix] = index
    sizes = {
        prefix: Size(ledger.sizes[index], ledger.shared[index], ledger.unreadable[index])
        for prefix, index in measured.items()
    }
    return Sizes(sizes, ledger.total)


def _walk(prefix: str, others: Collection[str], deadline: float) -> Iterator[os.stat_result | None]:
    """The state of everything in a prefix on its filesystem, links not followed; None for a folder not readable."""
    try:
        top = os.lstat(prefix)
    except (OSError, ValueError):
        yield None
        return
    yield top
    stack = [prefix]
    seen = 0
    while stack:
        folder = stack.pop()
        if time.monotonic() > deadline:
            raise _OutOfTime
        try:
            with os.scandir(folder) as entries:
                for entry in entries:
                    seen += 1
                    if seen % CHECK_EVERY == 0 and time.monotonic() > deadline:
                        raise _OutOfTime
                    try:
                        found = entry.stat(follow_symlinks=False)
                    except OSError:  # removed meanwhile
                        continue
                    if stat.S_ISDIR(found.st_mode):
                        apart = entry.path in others or (folder == prefix and entry.name in NO_PART)
                        if apart or found.st_dev != top.st_dev:
                            continue
                        stack.append(entry.path)
                    yield found
        except OSError:
            yield None
