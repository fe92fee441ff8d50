"""The lab for tests that need real hosts.

The same playbooks that Molecule runs create and destroy it. Where that cannot work the tests are skipped, saying what
is missing; in CI they fail instead, so that a run that proved nothing does not look like one that did.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.lab import Lab, open_lab, state_root
from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.locks import locked
from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.requirements import (
    require_lab_machine,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

REPOSITORY = Path(__file__).parents[2]
PLATFORMS = [{"name": name, "groups": ["gpu-nodes"]} for name in ("gpu1", "gpu2")]

NewLab = Callable[[list[dict[str, Any]]], AbstractContextManager[Lab]]


@pytest.fixture(scope="session")
def new_lab() -> NewLab:
    """Boot a lab for a `with` statement, from Molecule platforms; it is destroyed however the block ends."""
    missing = _missing()
    if missing and os.environ.get("CI") == "true":
        pytest.fail(missing, pytrace=False)
    if missing:
        pytest.skip(missing)
    return _booted


@pytest.fixture(scope="session")
def lab(new_lab: NewLab) -> Iterator[Lab]:
    """Two hosts, gpu1 and gpu2, in the group gpu-nodes, shared by the tests of a session: leave them switched on."""
    with new_lab(PLATFORMS) as booted:
        yield booted


def _missing() -> str:
    """What this machine lacks to carry a lab, and the fix; empty when it lacks nothing."""
    try:
        require_lab_machine()
    except DeployError as error:
        return str(error)
    return ""


@contextmanager
def _booted(platforms: list[dict[str, Any]]) -> Iterator[Lab]:
    with _free_name() as name:
        try:
            _playbook("create", lab_name=name, lab_platforms=platforms)
            yield open_lab(name)
        finally:
            _playbook("destroy", lab_name=name)


@contextmanager
def _free_name() -> Iterator[str]:
    """The first of pytest-1, pytest-2, … that no running session has.

    A killed session leaves its hosts behind but not its lock: the next one takes the same name and thereby cleans up.
    """
    number = 1
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(locked(state_root() / ".locks" / f".pytest-{number}", wait=False))
                break
            except BlockingIOError:
                number += 1
        yield f"pytest-{number}"


def _playbook(name: str, **variables: Any) -> None:
    playbook = REPOSITORY / "molecule" / "resources" / f"{name}.yml"
    done = subprocess.run(
        [sys.executable, "-m", "ansible", "playbook", "-i", "localhost,", "-e", json.dumps(variables), str(playbook)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.fail(f"{playbook.name} failed\n{done.stdout}", pytrace=False)
