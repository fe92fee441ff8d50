"""A host that loses power in the middle of a cut-over. The engine is a light double: only the transaction matters."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import wait_until
from demo.inputs import default_cache, make_inputs
from tests.lab.conftest import NewLab
from tests.lab.fleet import FOLDER, DoubleFleet

pytestmark = pytest.mark.lab


def test_a_host_that_loses_power_at_the_gate_comes_up_with_what_was_committed(new_lab: NewLab, tmp_path: Path) -> None:
    with new_lab([{"name": "gpu1", "groups": ["gpu-nodes"]}]) as lab:
        fleet = DoubleFleet(lab, make_inputs(default_cache()), tmp_path / "fleet")
        fleet.install("gpu1")
        fleet.describe()
        assert fleet.deployer("rollout", "gpu1").status == 0
        committed = fleet.link("gpu1", "current")

        fleet.describe(options={"device": "cpu", "fault": "hang"})
        rollout = fleet.start("rollout", "gpu1")
        at_gate = f'grep -l \'"state": "gate"\' {FOLDER}/transaction.json 2>/dev/null || true'
        assert wait_until(lambda: "transaction" in fleet.root("gpu1", at_gate), 60)
        lab.hosts["gpu1"].power_cut()
        lab.hosts["gpu1"].boot()

        assert fleet.answers_within("gpu1", 60)
        assert fleet.link("gpu1", "current") == committed
        assert fleet.state("gpu1") == "interrupted"
        assert rollout.wait(timeout=300) == 3

        pid = fleet.pid("gpu1")
        fleet.describe()
        assert fleet.deployer("rollout", "gpu1").status == 0
        assert fleet.state("gpu1") == "serving"
        assert fleet.pid("gpu1") == pid
