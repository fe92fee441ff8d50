"""Labs that tests and benchmarks boot, by the playbooks that Molecule runs, and always destroy."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.lab import Lab, open_lab, state_root
from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.locks import locked
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

REPOSITORY = Path(__file__).parents[2]


@contextmanager
def booted(prefix: str, platforms: Sequence[Mapping[str, Any]]) -> Iterator[Lab]:
    """A lab for a `with` statement; it is destroyed however the block ends.

    Args:
        prefix: of the lab's name: `pytest`, `bench`.
        platforms: as Molecule describes them.
    Raises:
        DeployError: a host does not come up; what Ansible printed is the detail.
    """
    with _free_name(prefix) as name:
        try:
            _playbook("create", lab_name=name, lab_platforms=list(platforms))
            yield open_lab(name)
        finally:
            _playbook("destroy", lab_name=name)


@contextmanager
def _free_name(prefix: str) -> Iterator[str]:
    """The first of PREFIX-1, PREFIX-2, … that nobody who runs has.

    Who is killed leaves hosts behind but not the lock: the next one takes the same name and thereby cleans up.
    """
    number = 1
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(state_root() / ".locks" / f".{prefix}-{number}", wait=False))
                break
            except BlockingIOError:
                number += 1
        yield f"{prefix}-{number}"


def _playbook(name: str, **variables: Any) -> None:
    playbook = REPOSITORY / "molecule" / "resources" / f"{name}.yml"
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-e", json.dumps(variables), str(playbook)],
        cwd=REPOSITORY,
        env={**os.environ, "ANSIBLE_NOCOLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise DeployError(f"{playbook.name} failed", detail=done.stdout)
