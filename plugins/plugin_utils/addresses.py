"""At which addresses a host and this controller see each other."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.plugins.action import ActionBase


def connected_addresses(action: ActionBase, variables: Mapping[str, Any]) -> tuple[str, str]:
    """The addresses of the controller and of the host, as the host's sshd sees them.

    Args:
        action: whose connection is asked.
        variables: of the host.
    Returns:
        The controller's, '' where it cannot be known, and the host's.
    """
    answer = action._low_level_execute_command("echo $SSH_CONNECTION", sudoable=False)
    words = str(answer.get("stdout") or "").split()
    if len(words) == 4:
        return words[0], words[2]
    if action._connection.transport == "local":
        return "127.0.0.1", "127.0.0.1"
    return "", str(variables.get("ansible_host") or variables["inventory_hostname"])
