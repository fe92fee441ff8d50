"""What two relays say to each other over TLS.

The reader sends a request, one line of JSON; the answer is frames: a byte for the kind, four for the length, the
content. A connection takes one request after the other.
"""

from __future__ import annotations

import json
import struct
import time
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.relay.stream import SecureStream

FRAME = 256 * 1024  # bytes: the most that a frame holds, and about what a host lags behind the one before it
HEADER = struct.Struct("!BI")
LONGEST_REQUEST = 16 * 1024  # bytes
REQUEST_TIME = 5.0  # seconds from the first byte of a request to its last
HEARTBEAT = 1.0  # seconds: a server that has nothing to send says so this often
SAID = 8 * 1024  # characters of what went wrong: longer than any that is meant for people

DATA = 0  # bytes of the file
STARVED = 1  # the reader has all there is, and the server gets more as fast as it can, or will from others' doing
BOTTLENECK = 2  # the reader has all there is, and the server gets more too slowly, or looks for another source
FAILED = 3  # the file cannot be served; the content says why
END = 4  # of an answer

# What a request asks for.
CONTENT = "content"  # the bytes of a file from an offset on
BLOCKS = "blocks"  # sha256 of each block of a file, as its JSON list
ALIVE = "alive"  # nothing: the reader may need the server yet, and it is not to end for being asked nothing


class Closed(OSError):
    """The other side ended the connection."""


def frame(kind: int, content: bytes = b"") -> bytes:
    """A frame as it travels."""
    return HEADER.pack(kind, len(content)) + content


def receive_exactly(connection: SecureStream, view: memoryview) -> None:
    """Fill `view`.

    Raises:
        Closed: the connection ended before.
        OSError: it broke, or was silent for its timeout.
    """
    while len(view):
        count = connection.recv_into(view)
        if count == 0:
            raise Closed("the connection was closed")
        view = view[count:]


def read_header(connection: SecureStream) -> tuple[int, int]:
    """Kind and length of the next frame; raises as `receive_exactly`, and ValueError for what is no frame."""
    header = bytearray(HEADER.size)
    receive_exactly(connection, memoryview(header))
    kind, length = HEADER.unpack(header)
    if kind > END or length > FRAME:
        raise ValueError("not a relay's frame")
    return int(kind), int(length)


def read_content(connection: SecureStream, length: int) -> bytes:
    """The content of a frame; raises as `receive_exactly`."""
    content = bytearray(length)
    receive_exactly(connection, memoryview(content))
    return bytes(content)


def request(token: str, ask: str, artifact: str, path: str, offset: int = 0, length: int = 0) -> bytes:
    """A request as it travels.

    Args:
        token: of the run.
        ask: CONTENT, BLOCKS or ALIVE.
        artifact: digest of the model.
        path: of the file in it.
        offset: the first byte wanted.
        length: how many; 0 for all that follow.
    """
    value = {"token": token, "ask": ask, "artifact": artifact, "path": path, "offset": offset, "length": length}
    return json.dumps(value).encode() + b"\n"


def read_request(connection: SecureStream) -> dict[str, Any] | None:
    """The next request; None when the other side has no more.

    Raises:
        ValueError: that is no request.
        OSError: the connection broke, or was silent for its timeout.
    """
    line = b""
    deadline = float("inf")
    while not line.endswith(b"\n"):
        # Nothing is lost by reading what there is: who has asked waits for the answer before it asks again.
        part = connection.recv(LONGEST_REQUEST)
        if not part and not line:
            return None
        if not part:
            raise ValueError("a request broke off")
        if time.monotonic() > deadline:
            raise ValueError("a request took too long")
        deadline = min(deadline, time.monotonic() + REQUEST_TIME)
        line += part
        if len(line) > LONGEST_REQUEST or b"\n" in line[:-1]:
            raise ValueError("a request is too long")
    try:
        value = json.loads(line)
    except RecursionError:
        raise ValueError("a request is too deep") from None
    if not isinstance(value, dict):
        raise ValueError("not a request")
    return value
