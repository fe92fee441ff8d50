"""Services measured on hosts of this machine, with the real playbook: by the API, and by `compare HOST:SERVICE`."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import LoadSettings
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.prompts import Prompts
from deployer import Deployer, DeployError
from deployer.api.measured import variables_of
from tests.doubles.local_fleet import REPOSITORY, SERVICE
from tests.unit.rollout.conftest import MakeFleet

ODD = Prompts("mine {{ nobody }}", (({"role": "user", "content": "{{ nobody }} [\u2028]"},),))


def test_what_serves_is_measured_on_its_host(
    make_fleet: MakeFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_CONFIG", str(REPOSITORY / "ansible.cfg"))
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(REPOSITORY))
    monkeypatch.setenv("OPENAI_API_KEY", "k1-secret")
    monkeypatch.chdir(tmp_path)
    fleet = make_fleet("h1", "h2")
    fleet.describe(lost=["h2"])
    assert fleet.ansible("deploy", "-l", "h1").status == 0

    first, lost = Deployer(fleet.inventory).measure(services=[SERVICE], prompts=ODD, max_tokens=5)
    assert (first.host, first.service, first.problem) == ("h1", SERVICE, "")
    assert first.measurement is not None and first.measurement.answers is not None
    assert first.measurement.answers.prompts == ODD and first.measurement.answers.max_tokens == 5
    assert first.measurement.server.url.endswith(f":{fleet.ports['h1', SERVICE]}")
    assert (lost.host, lost.service, lost.measurement) == ("h2", "", None) and lost.problem
    with pytest.raises(DeployError, match="no host has such a service"):
        Deployer(fleet.inventory, limit="h1").measure(services=["nothing"])

    one, _ = Deployer(fleet.inventory).measure(services=[SERVICE], one_host=True)
    assert one.measurement is None and "2 hosts are named where one was meant" in one.problem
    group = fleet.deployer("compare", "--record", "old.json", f"gpu-nodes:{SERVICE}")
    assert group.status == 2 and "there is more than one such host" in group.output

    recorded = fleet.deployer("compare", "--record", "old.json", f"h1:{SERVICE}")
    assert recorded.status == 0
    assert f"compare -i {fleet.inventory} --against old.json h1:{SERVICE}" in recorded.output
    done = fleet.deployer("compare", "--against", "old.json", "--json", f"h1:{SERVICE}")
    assert done.status == 0
    told = json.loads(done.output[done.output.index("\n{") :])
    assert told["parity"]["same"] and told["old"]["url"] == told["new"]["url"] == first.measurement.server.url
    assert "k1-secret" not in recorded.output + done.output
    gone = fleet.deployer("compare", "--record", "old.json", f"h2:{SERVICE}")
    assert gone.status == 2 and f"compare: h2:{SERVICE}: " in gone.output


def test_a_load_and_prompts_reach_the_playbook_as_they_are() -> None:
    with variables_of((), ODD, 64, False, LoadSettings((0.5, math.inf), 3)) as variables:
        assert variables["measure_load"]["rates"] == ["0.5", "max"]
        assert variables["measure_timeout"] > 7200
        file = Path(variables["measure_prompts_file"])
        assert "{{ nobody }}" in file.read_text() and file.parent.stat().st_mode & 0o77 == 0
    assert not file.exists()
    long = LoadSettings((0.1,), 2000)  # requests that are sent for 20,000 seconds
    with variables_of((SERVICE, "other"), None, 64, False, long) as variables:
        assert variables["measure_timeout"] > 2 * 20_000
    with pytest.raises(DeployError, match="over a day"), variables_of((), None, 64, False, LoadSettings((1e-9,))):
        pass
