"""Hashing many files: the largest first, several at once, with progress, and not fooled by what changes meanwhile."""

from __future__ import annotations

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from typing import Union

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import BLOCK

# Seconds within which a file system may give two states of a file the same time (FAT: 2 s; ext4 and XFS: 10 ms).
CLOCK = 2.0

OnProgress = Callable[[int, int], None]  # bytes read so far, bytes to read in all
Hashed = Union[str, DeployError]  # sha256 in hex, or why there is none


def identity_of(found: os.stat_result) -> str:
    """What tells one state of a file from another without reading it: device, inode, size, mtime.

    The ctime is no part of it: hard links and changes of mode or owner would have the file read again.
    """
    return f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}"


def is_settled(found: os.stat_result, now: float) -> bool:
    """Whether a file was last written so long ago that another write would show in its time.

    Args:
        found: the file's state before it was read.
        now: seconds since the epoch, before it was read.
    """
    return found.st_mtime < now - CLOCK


def hash_files(
    files: Mapping[str, os.stat_result],
    on_hashed: Callable[[str, Hashed], None],
    on_progress: OnProgress | None = None,
    follow: bool = True,
) -> None:
    """Hash files, several at a time; sha256 leaves Python's lock to the other threads.

    Args:
        files: path -> its state, as it must be from the first byte to the last.
        on_hashed: called in this thread with every path and its sha256, or why it has none. What it raises ends the
            work on all files.
        on_progress: called under a lock for every block that was read.
        follow: False refuses a symbolic link.
    """
    reader = _Reader(sum(found.st_size for found in files.values()), on_progress, follow)
    pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
    try:
        largest_first = sorted(files, key=lambda path: -files[path].st_size)
        work: dict[Future[Hashed], str] = {pool.submit(reader.hash, path, files[path]): path for path in largest_first}
        for future in as_completed(work):
            on_hashed(work[future], future.result())
    finally:
        reader.stopped.set()  # or an interrupted run would read on to the end of 50 GB
        pool.shutdown(cancel_futures=True)


class _Reader:
    """What the threads share: how much was read, and whether to go on."""

    def __init__(self, total: int, on_progress: OnProgress | None, follow: bool) -> None:
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._total, self._done = total, 0
        self._on_progress = on_progress
        self._flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
        self._follow = follow

    def hash(self, path: str, wanted: os.stat_result) -> Hashed:
        """The sha256 of a file, or why there is none."""
        try:
            descriptor = os.open(path, self._flags)
            with os.fdopen(descriptor, "rb", buffering=0) as stream:
                _refuse_other(path, wanted, os.fstat(descriptor))
                digest = self._read(stream.readinto, min(BLOCK, wanted.st_size + 1))
                _refuse_other(path, wanted, os.fstat(descriptor))
            _refuse_other(path, wanted, os.stat(path, follow_symlinks=self._follow))
            return digest
        except DeployError as error:
            return error
        except OSError as error:
            return unreadable(path, error)

    def _read(self, read_into: Callable[[memoryview], int | None], size: int) -> str:
        digest = hashlib.sha256()
        block = memoryview(bytearray(size))
        while count := read_into(block):
            if self.stopped.is_set():
                raise DeployError("hashing was stopped")
            digest.update(block[:count])
            if self._on_progress is not None:
                with self._lock:
                    self._done += count
                    self._on_progress(self._done, self._total)
        return digest.hexdigest()


def unreadable(path: str, error: OSError) -> DeployError:
    """What to say of a file that could not be read."""
    if isinstance(error, FileNotFoundError):
        return DeployError(f"{path} vanished while it was read", "run again when nobody writes there any more")
    if isinstance(error, PermissionError):
        return DeployError(f"{path} cannot be read: {error.strerror}", "make it readable for the user who runs this")
    return DeployError(f"{path} cannot be read: {error.strerror}", "see the disk that it is on")


def _refuse_other(path: str, wanted: os.stat_result, found: os.stat_result) -> None:
    if identity_of(found) != identity_of(wanted) or not stat.S_ISREG(found.st_mode):
        raise DeployError(f"{path} changed while it was read", "wait until it is complete, then run again")
