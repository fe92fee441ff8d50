"""Speaks with the command that started the run, over a socket that it listens at: asks it, and tells it things.

Without such a command - plain ansible-playbook - there is no socket, and nothing to say.
"""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Mapping
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

SOCKET_VARIABLE = "rollout_socket"  # the extra variable with its path
LONGEST_ANSWER = 64 * 1024  # bytes
PATIENCE = 2.0  # seconds that telling may take: what is told is only of use while it is new


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


def tell(path: str, kind: str, message: Mapping[str, Any]) -> None:
    """Tell something that nobody answers. That nobody listens any more is no failure.

    Args:
        path: of the socket; '' where there is none.
        kind: what is told: `progress`, `state`, `log`.
        message: what the kind says (docs/events.md).
    """
    if not path:
        return
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(PATIENCE)
        connection.connect(path)
        connection.sendall(json.dumps({"tell": kind, **message}).encode() + b"\n")
