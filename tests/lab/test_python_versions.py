"""Modules run on what hosts bring: Python 3.9 (Debian 11) and 3.13 (Debian 13)."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.inputs import default_cache, make_inputs
from tests.lab.conftest import NewLab
from tests.lab.fleet import SERVICE, Fleet

pytestmark = pytest.mark.lab

PLATFORMS = [
    {"name": "gpu1", "base": "bullseye", "groups": ["gpu-nodes"]},
    {"name": "gpu2", "base": "trixie", "groups": ["gpu-nodes"]},
]


def test_hosts_with_the_oldest_and_the_newest_python_are_checked_and_asked(new_lab: NewLab, tmp_path: Path) -> None:
    with new_lab(PLATFORMS) as lab:
        fleet = Fleet(lab, make_inputs(default_cache()), tmp_path / "fleet")
        fleet.describe()
        versions = [lab.hosts[name].ssh("python3 --version", check=True).stdout.split()[1] for name in ("gpu1", "gpu2")]
        assert [version.rsplit(".", 1)[0] for version in versions] == ["3.9", "3.13"]
        assert fleet.ansible("playbooks/preflight.yml").status == 0
        status = fleet.ansible("playbooks/status.yml")
        assert status.status == 0
        assert status.output.count(f"{SERVICE}: absent, release none") == 2
