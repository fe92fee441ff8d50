"""The files of a relay: one that is whole, and one that grows while others read it."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Sequence
from typing import Protocol

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.incoming import SYNCED_ALONE
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import ManifestFile, identity
from ansible_collections.deployer.sglang.plugins.module_utils.relay.wire import STARVED
from ansible_collections.deployer.sglang.plugins.module_utils.weights.hashing import identity_of

WRITE_BACK = 32 * 1024 * 1024  # bytes after which the kernel is asked to begin writing: less is left for the end
SYNC_FILE_RANGE_WRITE = 2  # <linux/fs.h>


class Served(Protocol):
    """A file that others may read."""

    entry: ManifestFile

    @property
    def state(self) -> int:
        """STARVED or BOTTLENECK: why there is nothing more, where there is nothing more."""

    def wait(self, offset: int, timeout: float) -> int:
        """Bytes that are there; returns when they are more than `offset`, or after `timeout` seconds.

        Raises:
            DeployError: the file cannot be served any more.
        """

    def open(self) -> int:
        """A descriptor for reading it, the caller's to close. Something of it has to be there.

        Raises:
            DeployError: it is not any more what it was.
        """

    def check(self) -> None:
        """Refuse a file that is not any more what was hashed.

        Raises:
            DeployError: it was changed.
        """


class WholeFile:
    """A file that is there: of a seed's folder, or of a model that the host has already.

    Args:
        entry: what the manifest says of it.
        path: where it lies.
        known: `manifest.identity` of the file when it was hashed.
    """

    state = STARVED

    def __init__(self, entry: ManifestFile, path: str, known: str) -> None:
        self.entry = entry
        self.path = path
        self.known = known

    def wait(self, offset: int, timeout: float) -> int:
        """All of it is there."""
        return self.entry.size

    def open(self) -> int:
        """Open it, and see that it is what was hashed."""
        try:
            # A pipe that was put in its place would let open() wait for ever.
            descriptor = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        except OSError as error:
            raise DeployError(f"{self.path} cannot be read: {error.strerror}", "restore it at its source") from None
        if identity_of(os.fstat(descriptor)) != self.known:
            os.close(descriptor)
            raise self._changed()
        return descriptor

    def check(self) -> None:
        """Compare size, time and inode."""
        try:
            now = identity(self.path)
        except OSError:
            now = ""
        if now != self.known:
            raise self._changed()

    def _changed(self) -> DeployError:
        return DeployError(
            f"{self.path} changed after it was hashed", "wait until the folder is complete, then run again"
        )


class GrowingFile:
    """A file that is being received; what has arrived of it can be read at once. Threads share it.

    It has a descriptor only from `begin` to `finish`: a model may have more files than a process descriptors.

    Args:
        entry: what the manifest says of it.
        path: where it grows. What an earlier run left there counts as arrived, and is hashed with the rest.
        later: where it is moved to afterwards, in that order.
    """

    def __init__(self, entry: ManifestFile, path: str, later: Sequence[str] = ()) -> None:
        self.entry = entry
        self.path = path
        self.state = STARVED
        self._places = (path, *later)
        self._condition = threading.Condition()
        self._failure: DeployError | None = None
        self._descriptor = -1
        self._known = ""  # its identity, once it is whole
        self.resumed = self._have = min(_size(path), entry.size)
        self._written_back = self._have

    @property
    def have(self) -> int:
        """Bytes that have arrived, from the beginning of the file."""
        return self._have

    def begin(self) -> None:
        """Open it for writing.

        Raises:
            OSError: the disk is full, or fails.
        """
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        if os.fstat(descriptor).st_size > self.entry.size:
            os.ftruncate(descriptor, self.entry.size)
        with self._condition:
            self._descriptor = descriptor

    def append(self, content: memoryview) -> None:
        """Write what has arrived next, and let readers have it.

        Raises:
            OSError: the disk is full, or fails.
        """
        self.overwrite(self._have, content)
        with self._condition:
            self._have += len(content)
            self._condition.notify_all()
        if self._have - self._written_back >= WRITE_BACK:
            _start_writing(self._descriptor, self._written_back, self._have - self._written_back)
            self._written_back = self._have

    def overwrite(self, offset: int, content: memoryview) -> None:
        """Write bytes at a place that has arrived before: the repair of a damaged block."""
        while len(content):
            count = os.pwrite(self._descriptor, content, offset)
            offset += count
            content = content[count:]

    def read_into(self, offset: int, view: memoryview) -> int:
        """Read back what was written; the number of bytes read."""
        return os.preadv(self._descriptor, [view], offset)

    def finish(self) -> None:
        """It is whole and verified: wait until it is on the disk, and close it.

        Raises:
            OSError: the disk is full, or fails.
        """
        if self.entry.size >= SYNCED_ALONE:
            os.fdatasync(self._descriptor)
        with self._condition:
            self._known = identity_of(os.fstat(self._descriptor))
            os.close(self._descriptor)
            self._descriptor = -1

    def wait(self, offset: int, timeout: float) -> int:
        """See `Served.wait`."""
        with self._condition:
            self._condition.wait_for(lambda: self._have > offset or self._failure is not None, timeout)
            if self._failure is not None:
                raise self._failure
            return self._have

    def open(self) -> int:
        """See `Served.open`."""
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        with self._condition:
            if self._descriptor >= 0:
                return os.open(f"/proc/self/fd/{self._descriptor}", os.O_RDONLY | os.O_CLOEXEC)
        for path in self._places:  # it may be moved on meanwhile, but never back
            try:
                descriptor = os.open(path, flags)
            except OSError:
                continue
            if self._known in ("", identity_of(os.fstat(descriptor))):
                return descriptor
            os.close(descriptor)
        raise DeployError(f"{self._places[-1]} is not any more what was received", "run again")

    def check(self) -> None:
        """What is received is hashed by who receives it."""

    def tell(self, state: int) -> None:
        """What those hear who have all there is: STARVED or BOTTLENECK."""
        self.state = state

    def fail(self, error: DeployError) -> None:
        """Nothing more will come: tell who waits for it."""
        with self._condition:
            self._failure = error
            self._condition.notify_all()


def _size(path: str) -> int:
    try:
        return os.lstat(path).st_size
    except FileNotFoundError:
        return 0


def _start_writing(descriptor: int, offset: int, size: int) -> None:
    """Ask the kernel to begin writing, without waiting; where it does not know how, the end takes longer."""
    call = getattr(ctypes.CDLL(None), "sync_file_range", None)
    if call is not None:
        call(descriptor, ctypes.c_int64(offset), ctypes.c_int64(size), SYNC_FILE_RANGE_WRITE)
