"""HTTP probes of an OpenAI-compatible server: each returns nothing, or raises with what it saw."""

from __future__ import annotations

import http.client
import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.engines import engine_named
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
# SGLang's /health is a generation of its own with a timeout of 20 s (sglang PR 8115): wait longer than that.
READINESS_TIMEOUT = 25
# An engine that dies in the middle of an answer, or something that does not speak HTTP.
BROKEN_ANSWER = (http.client.HTTPException, OSError)
ASKS_FOR_A_KEY = (401, 403)
LARGEST_ANSWER = 16 * 1024 * 1024  # bytes
LOAD_TIMEOUT = 5  # seconds
# Probes go to this host itself: a proxy in the environment must not see them.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class ProbeError(Exception):
    """A probe did not see what it should: `probe` is its name, the text says what it saw."""

    def __init__(self, probe: str, seen: str) -> None:
        self.probe = probe
        super().__init__(f"{probe}: {seen}")


class Missing(ProbeError):
    """The server has no such path."""


def base_url(host: str, port: int) -> str:
    """The URL by which this host reaches a server that listens on `host`."""
    return f"http://{ANY_ADDRESS.get(host, f'[{host}]' if ':' in host else host)}:{port}"


def ready(url: str, path: str, timeout: float = READINESS_TIMEOUT) -> None:
    """The readiness path answers 200, or asks for a key; where an engine has none (''), any answer at all will do.

    An adopted server may want a key that only its clients have: that it asks says that it is there.

    Raises:
        ProbeError: it does not, within `timeout` seconds.
    """
    try:
        _OPENER.open(url + path, timeout=timeout).close()
    except urllib.error.HTTPError as error:
        start = _body_start(error)
        if path and error.code not in ASKS_FOR_A_KEY:
            raise ProbeError("readiness", f"{url + path} answered {error.code} {start}".strip()) from None
    except http.client.HTTPException as error:  # somebody answered, and does not speak HTTP
        if path:
            raise ProbeError("readiness", f"{url + path}: {_reason(error, timeout)}") from None
    except OSError as error:
        raise ProbeError("readiness", f"{url + path}: {_reason(error, timeout)}") from None


def serves_model(url: str, name: str, timeout: float) -> None:
    """`/v1/models` lists `name`. SGLang answers a chat with any name (sglang issues 7035, 9294): the list tells.

    Raises:
        ProbeError: it does not.
    """
    answer = _json("served name", _request("served name", url + "/v1/models", None, timeout))
    names = [str(entry.get("id")) for entry in _list(answer, "data")]
    if name not in names:
        raise ProbeError("served name", f"/v1/models lists {', '.join(names) or 'nothing'}, promised was {name}")


def identity(url: str, paths: Sequence[str], key: str, timeout: float) -> str | None:
    """What a server says it is, by the first of the paths that it has; None where it has none of them.

    Args:
        url: of the server.
        paths: that answer with a JSON object.
        key: in that object.
        timeout: seconds for each.
    Raises:
        ProbeError: it has the path and the answer cannot be read.
    """
    for path in paths:
        try:
            answer = _json("identity", _request("identity", url + path, None, timeout))
        except Missing:
            continue
        value = answer.get(key)
        return value if isinstance(value, str) else None
    return None


def running_requests(url: str, engine: str, timeout: float = LOAD_TIMEOUT) -> int | None:
    """How many requests run or wait in a server; None where it does not say.

    Args:
        url: of the server.
        engine: that it is of; one that is not known here does not say either.
        timeout: seconds.
    """
    try:
        found = engine_named(engine)
    except DeployError:
        return None
    for path in found.load_paths:
        try:
            return found.read_load(_parsed("load", _request("load", url + path, None, timeout)))
        except Missing:
            continue
        except ProbeError:
            return None
    return None


def chat(url: str, name: str, prompt: str, max_tokens: int, timeout: float) -> str:
    """A chat completion generates at least one token.

    Returns:
        The generated text, an empty one where all of it was reasoning that the server took out.
    Raises:
        ProbeError: no answer, or none with a generated token.
    """
    body = _chat_body(name, prompt, max_tokens, stream=False)
    answer = _json("chat completion", _request("chat completion", url + "/v1/chat/completions", body, timeout))
    choices = _list(answer, "choices")
    message = choices[0].get("message") if choices else None
    if not isinstance(message, dict):
        raise ProbeError("chat completion", f"no message in the answer {str(answer)[:200]}")
    text = str(message.get("content") or "")
    usage = answer.get("usage")
    if not text and not (isinstance(usage, dict) and usage.get("completion_tokens")):
        raise ProbeError("chat completion", "the answer holds no generated token")
    return text


def chat_stream(url: str, name: str, prompt: str, max_tokens: int, timeout: float) -> None:
    """A streamed chat completion brings chunks and ends in `data: [DONE]`.

    Raises:
        ProbeError: it does not.
    """
    body = _chat_body(name, prompt, max_tokens, stream=True)
    chunks = 0
    deadline = time.monotonic() + timeout
    for data in _events(_request("stream", url + "/v1/chat/completions", body, timeout)):
        if time.monotonic() > deadline:
            raise ProbeError("stream", f"not ended after {timeout:g} s and {chunks} chunks")
        if data == "[DONE]":
            if chunks == 0:
                raise ProbeError("stream", "[DONE] came without a chunk before it")
            return
        chunks += 1
    raise ProbeError("stream", f"ended without [DONE] after {chunks} chunks")


def _chat_body(name: str, prompt: str, max_tokens: int, stream: bool) -> dict[str, Any]:
    messages = [{"role": "user", "content": prompt}]
    return {"model": name, "messages": messages, "max_tokens": max_tokens, "temperature": 0, "stream": stream}


def _request(probe: str, url: str, body: dict[str, Any] | None, timeout: float) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, headers={"Content-Type": "application/json"})
    try:
        return _OPENER.open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        kind = Missing if error.code in (404, 405) else ProbeError
        raise kind(probe, f"{url} answered {error.code} {_body_start(error)}".strip()) from None
    except BROKEN_ANSWER as error:
        raise ProbeError(probe, f"{url}: {_reason(error, timeout)}") from None


def _body_start(response: Any) -> str:
    """The first characters of an answer, as far as they come."""
    try:
        with response:
            return str(response.read(300).decode(errors="replace").strip())
    except BROKEN_ANSWER:
        return ""


def _events(response: Any) -> Iterator[str]:
    try:
        with response:
            for line in response:
                text = line.decode(errors="replace").strip()
                if text.startswith("data:"):
                    yield text[len("data:") :].strip()
    except BROKEN_ANSWER as error:
        raise ProbeError("stream", f"broke off: {error!r}") from None


def _json(probe: str, response: Any) -> dict[str, Any]:
    value = _parsed(probe, response)
    if not isinstance(value, dict):
        raise ProbeError(probe, f"the answer is no JSON object: {str(value)[:200]}")
    return value


def _parsed(probe: str, response: Any) -> Any:
    try:
        with response:
            return json.loads(response.read(LARGEST_ANSWER))
    except (ValueError, RecursionError) as error:
        raise ProbeError(probe, f"the answer is not JSON: {error}") from None
    except BROKEN_ANSWER as error:
        raise ProbeError(probe, f"the answer broke off: {error!r}") from None


def _list(answer: dict[str, Any], key: str) -> list[dict[str, Any]]:
    value = answer.get(key)
    return [entry for entry in value if isinstance(entry, dict)] if isinstance(value, list) else []


def _reason(error: Exception, timeout: float) -> str:
    reason = getattr(error, "reason", error)
    if isinstance(reason, (TimeoutError, socket.timeout)):
        return f"no answer within {timeout:g} s"
    return str(reason) or repr(reason)
