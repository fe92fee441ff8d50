"""Modules run on what hosts bring: Python 3.9 (Debian 11) and 3.13 (Debian 13)."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.inputs import default_cache, make_inputs
from tests.lab.conftest import NewLab
from tests.lab.fleet import SERVICE, Fleet

pytestmark = [pytest.mark.lab, pytest.mark.slow]

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
        plans = fleet.deployer("plan").outcome
        errors = {host: [f["id"] for f in plan["findings"] if f["severity"] == "error"] for host, plan in plans.items()}
        # The locked SGLang is built for glibc 2.34; Debian 11 has 2.31.
        assert errors == {"gpu1": ["glibc-too-old"], "gpu2": []}
        assert fleet.ansible("playbooks/preflight.yml", "gpu2").status == 0
        status = fleet.ansible("playbooks/status.yml")
        assert status.status == 0
        assert status.output.count(f"{SERVICE}: absent, release none") == 2
