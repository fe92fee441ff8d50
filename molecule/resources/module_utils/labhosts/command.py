"""Run a program of the lab's machine, or say in one line why that did not work."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError


def run(argv: Sequence[str], stdin: str | None = None) -> str:
    """Standard output of `argv`.

    Raises:
        DeployError: the program ended with an error; its own words are the detail.
    """
    done = subprocess.run(list(argv), input=stdin, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DeployError(
            f"The lab could not run `{' '.join(argv)}` (exit status {done.returncode})",
            detail=(done.stderr or done.stdout).strip(),
        )
    return done.stdout
