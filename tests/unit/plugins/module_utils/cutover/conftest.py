"""A host for cut-overs with real processes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import supervisor_for
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import stop
from tests.doubles.released_host import SERVICE, ReleasedHost


@pytest.fixture
def host(tmp_path: Path) -> Iterator[ReleasedHost]:
    host = ReleasedHost(tmp_path)
    yield host
    stop(supervisor_for("process", SERVICE, host.folder), host.port, 0)
