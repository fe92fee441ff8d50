"""Asks whoever started the run, over a socket that it listens at, whether the next batch may be begun."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

LONGEST_ANSWER = 64 * 1024  # bytes


def ask(path: str, question: Mapping[str, Any]) -> dict[str, Any]:
    """Ask, and wait for the answer as long as somebody is there to give one.

    Args:
        path: of the socket.
        question: what the one who is asked has to know.
    Returns:
        What was answered: `go`, and `why` not.
    Raises:
        DeployError: nobody is there any more.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.connect(path)
            connection.sendall(json.dumps(question).encode() + b"\n")
            with connection.makefile("rb") as stream:
                line = stream.readline(LONGEST_ANSWER)
        answer = json.loads(line) if line else None
    except (OSError, ValueError):
        answer = None
    if not isinstance(answer, dict):
        raise DeployError("the command that started this run is gone", "run it again: hosts that are done stay so")
    return answer
