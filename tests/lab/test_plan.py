"""The plan on real hosts. What nvidia-smi says there is a double; processes, ports, limits and names are real."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.lab import Lab
from demo.inputs import default_cache, make_inputs
from tests.doubles import nvidia_smi, published_models
from tests.lab.conftest import PLATFORMS, NewLab
from tests.lab.fleet import PORT, SERVICE, Fleet

pytestmark = pytest.mark.lab

DOUBLE = """#!/bin/sh
# A test double of nvidia-smi: prints what the test wrote for the query that it is asked.
case "$1" in
    -q) cat /srv/nvidia/query.xml ;;
    topo) cat /srv/nvidia/topology.txt ;;
    --query-gpu=*) cat /srv/nvidia/capabilities.csv ;;
    *) exit 1 ;;
esac
"""
PAIRS = {"0-1": "NV18", "2-3": "NV18", "4-5": "NV18", "6-7": "NV18"}
ON_GPUS = {"tensor_parallel_size": 2, "max_running_requests": 100, "enable_metrics": True}


@pytest.fixture(scope="module")
def planned_lab(new_lab: NewLab) -> Iterator[Lab]:
    """Hosts of this module's own: what a plan finds depends on what else runs there."""
    with new_lab(PLATFORMS) as booted:
        yield booted


@pytest.fixture(scope="module")
def stranger(planned_lab: Lab) -> int:
    """What a colleague left running on gpu2: a process on the service's port and on GPU 7, by its pid."""
    lab = planned_lab
    host = lab.hosts["gpu2"]
    start = f"cd /tmp && (setsid sudo -u nobody python3 -m http.server {PORT} >/dev/null 2>&1 &) && sleep 1"
    host.ssh(start, check=True)
    pid = int(host.ssh(f"pgrep -u nobody -f 'http.server {PORT}'", check=True).stdout)
    texts = {
        "/usr/local/bin/nvidia-smi": DOUBLE,
        "/srv/nvidia/query.xml": nvidia_smi.host(processes=[nvidia_smi.Process(7, pid, 31_000, "python")]),
        "/srv/nvidia/topology.txt": nvidia_smi.topology(link=PAIRS),
        "/srv/nvidia/capabilities.csv": nvidia_smi.capabilities(),
    }
    for path, text in texts.items():
        host.ssh(f"sudo mkdir -p $(dirname {path}) && sudo tee {path} >/dev/null", stdin=text, check=True)
    host.ssh("sudo chmod 755 /usr/local/bin/nvidia-smi", check=True)
    return pid


@pytest.fixture
def fleet(planned_lab: Lab, stranger: int, tmp_path: Path) -> Fleet:
    """A fleet that is to serve a model of 14 billion parameters with two GPUs a host; nothing is deployed yet."""
    fleet = Fleet(planned_lab, make_inputs(default_cache()), tmp_path / "fleet")
    source = published_models.publish(tmp_path / "qwen3-14b-ft", "Qwen/Qwen3-14B")
    model = {"name": SERVICE, "source": str(source)}
    fleet.describe(model=model, gpus=[6, 7], options=ON_GPUS, environment_variables={})
    return fleet


def planned(fleet: Fleet, host: str, *words: str) -> tuple[int, dict[str, Any], dict[str, dict[str, str]]]:
    """Exit code, plan and findings by id of one host."""
    result = fleet.deployer("plan", host, *words)
    plan = result.outcome[host]
    return result.status, plan, {one["id"]: one for one in plan.get("findings", ())}


def test_who_holds_the_port_and_the_gpu_is_named(fleet: Fleet, stranger: int) -> None:
    status, plan, findings = planned(fleet, "gpu2")
    assert status == 2
    named = f"pid {stranger} of nobody: python3 -m http.server"
    assert findings["port-taken"]["message"] == f"is held by {named}"
    assert findings["gpu-busy"]["subject"] == "GPU 7"
    assert findings["gpu-busy"]["message"] == f"is used by {named}, 30.3 GiB"
    assert findings["gpu-memory-uneven"]["severity"] == "error"
    (service,) = plan["services"]
    assert [gpu["index"] for gpu in service["gpus"]] == [6, 7]
    # In MiB: both ends, a layer's four matrices in segments of 2 MiB, norms, the rotary table.
    assert service["memory"]["weights"] == (2 * 742 + 40 * (36 + 26 + 170 + 86) + 2 + 20) * 2**20


def test_a_predecessor_that_somebody_started_by_hand_is_no_stranger(fleet: Fleet, stranger: int) -> None:
    before = {"engine": "llamafactory", "environment": "llamafactory", "gpus": [7], "options": {"template": "qwen"}}
    fleet.describe(model=fleet.service["model"], gpus=[6, 7], options=ON_GPUS, predecessor=before)
    status, plan, findings = planned(fleet, "gpu2")
    assert status == 1, plan["findings"]
    assert f"pid {stranger} of nobody" in findings["predecessor-by-hand"]["message"]
    service = plan["services"][0]
    assert service["memory"]["available"] == min(gpu["memory_free"] for gpu in service["gpus"]) > 75 * 2**30


def test_auto_takes_a_linked_pair_that_nobody_uses(fleet: Fleet) -> None:
    fleet.describe(model=fleet.service["model"], gpus="auto", options=ON_GPUS)
    _, plan, findings = planned(fleet, "gpu2")
    (service,) = plan["services"]
    assert [gpu["index"] for gpu in service["gpus"]] == [0, 1]
    assert not findings.keys() & {"gpu-busy", "gpu-memory-uneven", "gpu-link-slow", "does-not-fit"}
    assert "CUDA_VISIBLE_DEVICES" in service["variables"]
    assert service["variables"]["CUDA_VISIBLE_DEVICES"] == "0,1"


def test_plain_ansible_refuses_what_the_plan_refuses(fleet: Fleet, stranger: int) -> None:
    result = fleet.ansible("playbooks/preflight.yml", "gpu2")
    assert result.status == 2
    output = " ".join(result.output.split())  # Ansible folds long lines
    assert f"pid {stranger} of nobody" in output
    assert "[port-taken]. Fix: end that process" in output


def test_doctor_looks_at_the_host_alone_and_finds_a_name_that_does_not_resolve(fleet: Fleet) -> None:
    fleet.root("gpu2", "hostname nowhere")
    try:
        result = fleet.deployer("doctor", "gpu2")
    finally:
        fleet.root("gpu2", "hostname gpu2")
    assert result.status == 2
    plan = result.outcome["gpu2"]
    assert {one["id"] for one in plan["findings"] if one["severity"] == "error"} == {"host-name", "port-taken"}
    checks = {check["name"]: check["detail"] for check in plan["checks"]}
    assert checks["host name"] == "nowhere does not resolve"
    assert "used by nobody" in checks["GPU 7"]


def test_a_host_without_gpus_is_told_from_one_with(fleet: Fleet) -> None:
    fleet.describe(model=fleet.service["model"], gpus=[6, 7], options=ON_GPUS)
    _, _, findings = planned(fleet, "gpu1")
    assert findings["gpu-driver"]["message"] == "nvidia-smi is not installed"


def test_a_host_that_does_not_answer_is_said_and_not_planned(fleet: Fleet) -> None:
    result = fleet.deployer("plan", "gpu2", "-e", "ansible_host=10.97.255.254", "--", "--timeout", "3")
    assert result.status == 2
    assert result.outcome["gpu2"]["reachable"] is False


def test_gpu_info_gives_the_facts_to_any_playbook(fleet: Fleet, stranger: int) -> None:
    said = "{{ found.gpus | length }} GPUs, driver {{ found.driver }}, {{ found.links['6-7'] }}"
    tasks = [{"deployer.sglang.gpu_info": {}, "register": "found"}, {"ansible.builtin.debug": {"msg": said}}]
    playbook = fleet.folder / "facts.yml"
    playbook.write_text(yaml.safe_dump([{"hosts": "gpu-nodes", "gather_facts": False, "tasks": tasks}]))
    assert "8 GPUs, driver 580.159.04, NV18" in fleet.ansible(str(playbook), "gpu2").output
