"""Asks a server that is about to be adopted whether it answers, and what it serves; with its own key if it has one."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request

from ansible_collections.deployer.sglang.plugins.module_utils import probes
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.recognise import key_of
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.serving import Server
from ansible_collections.deployer.sglang.plugins.module_utils.engines import readiness_of
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

TIMEOUT = 60  # seconds for one answer of a server that may be in the middle of a long prefill
PAUSE = 1.0
# Probes go to this host itself: a proxy in the environment must not see them, and a key goes nowhere else.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def answers(server: Server, tries: int) -> None:
    """The server answers, by its engine's readiness; one that is not known by any HTTP answer.

    Raises:
        DeployError: it does not.
    """
    path = readiness_of(server.recognised.engine)
    seen = ""
    for turn in range(tries):
        if turn:
            time.sleep(PAUSE)
        status, seen = _get(server, path or "/", TIMEOUT)
        if status == 200 or status in probes.ASKS_FOR_A_KEY or (status and not path) or (not path and _accepts(server)):
            return
    where = f"{probes.base_url(server.address, server.port)}{path}"
    raise DeployError(
        f"what listens on port {server.port} does not answer at {where}: {seen}",
        "adopt it once it serves, or end it",
    )


def served_names(server: Server, timeout: float, key: bool = True) -> list[str] | None:
    """The names in /v1/models; None where it is no OpenAI list of models.

    Args:
        server: to ask.
        timeout: seconds for the answer.
        key: ask with the server's own key.
    """
    status, text = _get(server, "/v1/models", timeout, key)
    if status != 200:
        return None
    try:
        rows = json.loads(text)["data"]
        return [str(row["id"]) for row in rows]
    except (ValueError, KeyError, TypeError):
        return None


def _get(server: Server, path: str, timeout: float, with_key: bool = True) -> tuple[int, str]:
    """Status and text of an answer; status 0 and why where there is none."""
    request = urllib.request.Request(probes.base_url(server.address, server.port) + path)
    key = key_of(server.engine_argv, server.engine_environ) or key_of(server.argv, server.environ)
    if key and with_key:
        request.add_unredirected_header("Authorization", f"Bearer {key}")
    try:
        with _OPENER.open(request, timeout=timeout) as answer:
            return answer.status, answer.read(probes.LARGEST_ANSWER).decode(errors="replace")
    except urllib.error.HTTPError as error:
        error.close()
        return error.code, f"status {error.code}"
    except (*probes.BROKEN_ANSWER, ValueError) as error:
        return 0, str(getattr(error, "reason", "") or error) or repr(error)


def _accepts(server: Server) -> bool:
    """True when it accepts a connection."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.address, server.address)
    try:
        socket.create_connection((host, server.port), timeout=TIMEOUT).close()
    except OSError:
        return False
    return True
