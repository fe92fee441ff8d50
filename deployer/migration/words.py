"""What is to be typed next."""

from __future__ import annotations

import shlex

from deployer.migration.state import State


def command_line(state: State, *words: str) -> str:
    """`python -m deployer migrate` for the hosts of a migration.

    Args:
        state: of it.
        words: behind inventory and limit.
    """
    inventory = [word for path in state.given for word in ("-i", path)]
    limit = ["-l", state.limit] if state.limit else []
    return shlex.join(["python", "-m", "deployer", "migrate", *inventory, *limit, *words])
