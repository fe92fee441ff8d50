"""What one reader gets for one request."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.relay import wire
from ansible_collections.deployer.sglang.plugins.module_utils.relay.files import Served
from ansible_collections.deployer.sglang.plugins.module_utils.relay.rate import Throttle
from ansible_collections.deployer.sglang.plugins.module_utils.relay.stream import SecureStream

BLOCK = 4 * 1024 * 1024  # bytes: what is fetched again where one byte is wrong
BITE = 512 * 1024  # bytes that are read at once for hashing


class Answer:
    """Frames for one request.

    Args:
        secure: the reader's connection.
        served: the file.
        throttle: what all that is sent passes.
        count: called with the bytes of the file in every frame that was sent.
    """

    def __init__(self, secure: SecureStream, served: Served, throttle: Throttle, count: Callable[[int], None]) -> None:
        self._secure = secure
        self._served = served
        self._throttle = throttle
        self._count = count
        self._spoke = 0.0

    def give(self, asked: Mapping[str, object]) -> None:
        """Answer a request, but for its end.

        Raises:
            DeployError: the file cannot be served.
            ValueError: that was no request.
            OSError: the reader has gone.
        """
        size = self._served.entry.size
        offset, length = int(str(asked.get("offset"))), int(str(asked.get("length")))
        if not 0 <= offset <= size or not 0 <= length <= size - offset:
            raise DeployError(f"{self._served.entry.path} has no such range", "run the deployment again")
        if asked.get("ask") == wire.BLOCKS:
            self._blocks()
        elif offset < size:
            self._content(offset, offset + length if length else size)
        self._served.check()

    def _content(self, offset: int, end: int) -> None:
        """Bytes from `offset` to `end`, as they come; a sign of life where none come."""
        self._more(offset)
        portion = self._throttle.portion(wire.FRAME)
        buffer = bytearray(wire.HEADER.size + min(portion, end - offset))
        view = memoryview(buffer)
        with self._opened() as descriptor:
            while offset < end:
                size = min(self._more(offset), end) - offset
                count = os.preadv(descriptor, [view[wire.HEADER.size :][: min(size, portion)]], offset)
                if count == 0:
                    raise DeployError(
                        f"{self._served.entry.path} became shorter while it was read", "run the deployment again"
                    )
                wire.HEADER.pack_into(buffer, 0, wire.DATA, count)
                self._wait_for_turn(count)
                self._secure.sendall(view[: wire.HEADER.size + count])
                offset += count
                self._count(count)

    def _blocks(self) -> None:
        """sha256 of every block; a sign of life while they are computed."""
        size = self._served.entry.size
        self._more(size - 1)
        buffer = memoryview(bytearray(min(BITE, max(size, 1))))
        hashes = []
        with self._opened() as descriptor:
            for start in range(0, size, BLOCK):
                digest = hashlib.sha256()
                for offset in range(start, min(start + BLOCK, size), len(buffer)):
                    piece = buffer[: min(len(buffer), start + BLOCK - offset, size - offset)]
                    digest.update(piece[: os.preadv(descriptor, [piece], offset)])
                hashes.append(digest.hexdigest())
                self._speak(wire.STARVED)
        content = json.dumps(hashes).encode()
        for start in range(0, len(content), wire.FRAME):
            self._secure.sendall(wire.frame(wire.DATA, content[start : start + wire.FRAME]))

    def _more(self, offset: int) -> int:
        """Bytes that are there, once they are more than `offset`.

        Once a second the reader hears that it has all there is: it is not this link that is slow.
        """
        there = self._served.wait(offset, 0.0)
        while there <= offset:
            self._speak(self._served.state)
            there = self._served.wait(offset, wire.HEARTBEAT)
        return there

    def _wait_for_turn(self, size: int) -> None:
        """Wait as the throttle says. Who is held back on purpose is not slow, and hears so."""
        left = self._throttle.reserve(size)
        while left > 0:
            self._speak(wire.STARVED)
            time.sleep(min(left, wire.HEARTBEAT))
            left -= wire.HEARTBEAT

    def _speak(self, state: int) -> None:
        now = time.monotonic()
        if now - self._spoke >= wire.HEARTBEAT:
            self._spoke = now
            self._secure.sendall(wire.frame(state))

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        descriptor = self._served.open()
        try:
            yield descriptor
        finally:
            os.close(descriptor)
