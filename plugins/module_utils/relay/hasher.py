"""Hashes what was received, as it lies in the file."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Callable

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.relay import wire
from ansible_collections.deployer.sglang.plugins.module_utils.relay.files import GrowingFile

BITE = 1024 * 1024  # bytes: each costs a turn of the interpreter, whatever its size


class Hasher:
    """Hashes a file behind what is being written to it, reading back what was written.

    Args:
        file: that grows.
        stopped: True once the transfer is to end.
    """

    def __init__(self, file: GrowingFile, stopped: Callable[[], bool]) -> None:
        self._file = file
        self._stopped = stopped
        self._ended = False
        self._hash = hashlib.sha256()
        self._error: OSError | None = None

    def run(self) -> None:
        """Hash until the end of the file, or until `finish` where it stays incomplete."""
        size, done = self._file.entry.size, 0
        buffer = memoryview(bytearray(min(BITE, size)))
        try:
            while done < size and not self._stopped():
                there = self._file.have
                if there < size and there - done < BITE:
                    if self._ended:
                        return
                    there = self._file.wait(min(done + BITE, size) - 1, wire.HEARTBEAT)
                    if there <= done:
                        continue
                piece = buffer[: min(BITE, there - done)]
                _read(self._file, done, piece)
                self._hash.update(piece)
                done += len(piece)
        except OSError as error:
            self._error = error
        except DeployError:  # who receives the file knows, too
            return

    def finish(self) -> None:
        """Nothing more will come."""
        self._ended = True

    def digest(self) -> str:
        """sha256 in hex.

        Raises:
            OSError: the file could not be read back.
        """
        if self._error is not None:
            raise self._error
        return self._hash.hexdigest()


def hash_range(file: GrowingFile, start: int, end: int) -> str:
    """sha256 of some of a file, in hex; raises OSError where it cannot be read back."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(min(BITE, end - start)))
    for offset in range(start, end, BITE):
        piece = buffer[: min(BITE, end - offset)]
        _read(file, offset, piece)
        digest.update(piece)
    return digest.hexdigest()


def _read(file: GrowingFile, offset: int, view: memoryview) -> None:
    while len(view):
        count = file.read_into(offset, view)
        if count == 0:
            raise OSError(errno.EIO, "it became shorter while it was received", file.path)
        offset += count
        view = view[count:]
