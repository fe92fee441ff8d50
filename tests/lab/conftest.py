"""The lab for tests that need real hosts.

The same playbooks that Molecule runs create and destroy it. Where that cannot work the tests are skipped, saying what
is missing; in CI they fail instead, so that a run that proved nothing does not look like one that did.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.lab import Lab
from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.requirements import (
    require_lab_machine,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from demo.inputs import default_cache, make_inputs
from tests.lab.booting import booted
from tests.lab.fleet import DoubleFleet
from tests.lab.one_host import HOST, OneHost

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


@pytest.fixture(scope="session")
def furnished_host(new_lab: NewLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OneHost]:
    """One host of its own with a committed release of the double."""
    with new_lab([{"name": HOST, "groups": ["gpu-nodes"]}]) as lab:
        one = OneHost(DoubleFleet(lab, make_inputs(default_cache()), tmp_path_factory.mktemp("one-host")))
        one.furnish()
        yield one


@pytest.fixture
def one(furnished_host: OneHost) -> OneHost:
    """That host as at the start: the committed release serves, whatever the test before did."""
    furnished_host.reset()
    return furnished_host


def _missing() -> str:
    """What this machine lacks to carry a lab, and the fix; empty when it lacks nothing."""
    try:
        require_lab_machine()
    except DeployError as error:
        return str(error)
    return ""


@contextmanager
def _booted(platforms: list[dict[str, Any]]) -> Iterator[Lab]:
    try:
        with booted("pytest", platforms) as lab:
            yield lab
    except DeployError as error:
        pytest.fail(str(error), pytrace=False)
