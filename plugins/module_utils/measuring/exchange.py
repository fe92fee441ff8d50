"""One exchange with a server that may be anything: bounded in bytes and in time, and its JSON without surprises."""

from __future__ import annotations

import contextlib
import http.client
import json
import math
import queue
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, urlsplit

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.wording import printable

CONNECTING = 10  # seconds
LARGEST_ANSWER = 16 * 1024 * 1024  # bytes
BLOCK = 64 * 1024  # bytes read at once
MOST_DIGITS = 20
FIX = "see what the server logs; deployer logs"


@dataclass(frozen=True)
class Response:
    """What a server answered; a redirection is an answer, too, and is not followed.

    Args:
        status: of HTTP.
        content: all of it.
    """

    status: int
    content: bytes

    @property
    def text(self) -> str:
        """The content as text, with a replacement for what is none."""
        return self.content.decode(errors="replace")


@dataclass(frozen=True)
class Client:
    """Asks servers of one's own: no proxy of the environment stands before them.

    Args:
        key: that servers want; '' for none.
    """

    key: str = field(default="", repr=False)

    def exchange(self, url: str, seconds: float, body: Mapping[str, Any] | None = None) -> Response:
        """What a server answers.

        Args:
            url: that is asked.
            seconds: in which all of the answer has to be there; a timeout of a socket is one of each read.
            body: that is posted, as JSON; None to get.

        Raises:
            DeployError: it does not answer, not in full in that time, or with too much.
        """
        outcome: queue.Queue[Response | Exception] = queue.Queue()

        def ask() -> None:
            try:
                outcome.put(self.answer(url, seconds, body))
            except Exception as error:
                outcome.put(error)

        threading.Thread(target=ask, daemon=True).start()
        try:
            answer = outcome.get(timeout=seconds)
        except queue.Empty:
            raise _late(url, seconds) from None
        if isinstance(answer, DeployError):
            raise answer
        if isinstance(answer, (OSError, http.client.HTTPException, ValueError)):
            raise _unreachable(url, answer) from answer
        if isinstance(answer, Exception):
            raise answer
        return answer

    def answer(self, url: str, seconds: float, body: Mapping[str, Any] | None) -> Response:
        """As `exchange`, with the errors of the connection as they are."""
        until = time.monotonic() + seconds
        parts = urlsplit(url)
        connection = _connection(parts, min(CONNECTING, seconds))
        try:
            connection.connect()
            connection.sock.settimeout(seconds)
            data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
            path = parts.path + (f"?{parts.query}" if parts.query else "")
            connection.request("GET" if data is None else "POST", path or "/", data, self._headers(data is not None))
            # Of a server that closes, the answer has the connection.
            with contextlib.closing(connection.getresponse()) as answer:
                return Response(answer.status, self._read(answer, url, seconds, until))
        finally:
            connection.close()

    def _read(self, answer: http.client.HTTPResponse, url: str, seconds: float, until: float) -> bytes:
        content = bytearray()
        # Of a trickle, `read` would wait for a whole block.
        while block := answer.read1(BLOCK):
            content += block
            if len(content) > LARGEST_ANSWER:
                raise DeployError(f"{url} answers with more than {LARGEST_ANSWER // 2**20} MiB", FIX)
            if time.monotonic() > until:
                raise _late(url, seconds)
        if answer.length:
            raise http.client.IncompleteRead(b"", answer.length)
        return bytes(content)

    def _headers(self, posts: bool) -> dict[str, str]:
        headers = {"Accept": "application/json"}
        if posts:
            headers["Content-Type"] = "application/json"
        if self.key:
            headers["Authorization"] = f"Bearer {self.key}"
        return headers


def parsed(content: bytes) -> Any:
    """The value of a JSON text, with a question mark for what no file and no terminal takes: half a surrogate pair.

    A whole number of more digits than any count has is infinity.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return _writable(json.loads(content, parse_int=_whole))
    except RecursionError:
        raise ValueError("JSON that is nested too deep") from None


def _whole(digits: str) -> float:
    """A whole number; infinity for what no count is, and what Python would take minutes for."""
    return int(digits) if len(digits) <= MOST_DIGITS else math.inf


def _connection(parts: SplitResult, timeout: float) -> http.client.HTTPConnection:
    kind = http.client.HTTPSConnection if parts.scheme == "https" else http.client.HTTPConnection
    return kind(parts.hostname or "", parts.port, timeout=timeout)


def _writable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, list):
        return [_writable(one) for one in value]
    if isinstance(value, dict):
        return {_writable(key): _writable(one) for key, one in value.items()}
    return value


def _late(url: str, seconds: float) -> DeployError:
    return DeployError(f"{url} has not answered in full in {seconds:g} s", FIX)


def _unreachable(url: str, error: Exception) -> DeployError:
    # What is said of a request that is malformed quotes its headers.
    said = "" if isinstance(error, ValueError) else printable(str(getattr(error, "strerror", None) or error))
    return DeployError(f"{url} does not answer: {said or type(error).__name__}", FIX)
