"""One exchange with a server that may be anything: bounded in bytes and in time, and its JSON without surprises."""

from __future__ import annotations

import json
import queue
import threading
import time
from collections.abc import Mapping
from typing import Any

import httpx

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.wording import printable

CONNECTING = 10  # seconds
LARGEST_ANSWER = 16 * 1024 * 1024  # bytes
FIX = "see what the server logs; deployer logs"


def exchange(http: httpx.Client, url: str, seconds: float, body: Mapping[str, Any] | None = None) -> httpx.Response:
    """What a server answers.

    Args:
        http: asks.
        url: that is asked.
        seconds: in which all of the answer has to be there; a timeout of httpx is one of each read.
        body: that is posted, as JSON; None to get.

    Raises:
        DeployError: it does not answer, not in full in that time, or with too much.
    """
    outcome: queue.Queue[httpx.Response | Exception] = queue.Queue()

    def ask() -> None:
        try:
            outcome.put(_bounded(http, url, seconds, body))
        except Exception as error:
            outcome.put(error)

    threading.Thread(target=ask, daemon=True).start()
    try:
        answer = outcome.get(timeout=seconds)
    except queue.Empty:
        raise _late(url, seconds) from None
    if isinstance(answer, httpx.HTTPError):
        raise _unreachable(url, answer) from answer
    if isinstance(answer, Exception):
        raise answer
    return answer


def parsed(content: bytes) -> Any:
    """The value of a JSON text, with a question mark for what no file and no terminal takes: half a surrogate pair.

    Raises:
        ValueError: it is not JSON.
    """
    try:
        return _writable(json.loads(content))
    except RecursionError:
        raise ValueError("JSON that is nested too deep") from None


def _bounded(http: httpx.Client, url: str, seconds: float, body: Mapping[str, Any] | None) -> httpx.Response:
    until = time.monotonic() + seconds
    content = bytearray()
    timeout = httpx.Timeout(seconds, connect=CONNECTING)
    with http.stream("GET" if body is None else "POST", url, json=body, timeout=timeout) as answer:
        for block in answer.iter_bytes():
            content += block
            if len(content) > LARGEST_ANSWER:
                raise DeployError(f"{url} answers with more than {LARGEST_ANSWER // 2**20} MiB", FIX)
            if time.monotonic() > until:
                raise _late(url, seconds)
    return httpx.Response(answer.status_code, content=bytes(content))


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


def _unreachable(url: str, error: httpx.HTTPError) -> DeployError:
    # What httpx says of a request of its own that is malformed quotes its headers.
    said = "" if isinstance(error, httpx.LocalProtocolError) else printable(str(error))
    return DeployError(f"{url} does not answer: {said or type(error).__name__}", FIX)
