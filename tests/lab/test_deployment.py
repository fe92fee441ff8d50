"""The whole of it on real hosts: real SGLang and real LLaMA-Factory on the CPU, behind real SSH and systemd.

Each test brings the hosts to where it starts from; where they are there already, that costs one deployment that changes
nothing. `test_the_second_deployment_changes_nothing` proves that this is what it does.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.lab import Lab
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import build_manifest
from demo.inputs import default_cache, make_inputs
from tests.lab.fleet import FOLDER, PORT, REPOSITORY, ROOT, SERVICE, SGLANG_ON_CPU, Finished, Fleet

pytestmark = pytest.mark.lab

# SGLang refuses it while it loads, long after its parser took it: the release starts and never passes.
NEVER_PASSES = {
    "options": {**SGLANG_ON_CPU, "context_length": 999_999},
    "findings": {"context-too-long": "accepted"},  # the plan knows it, too
}


@pytest.fixture(scope="module")
def empty_fleet(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """The lab's hosts with nothing on them, and a description of what is to be there."""
    fleet = Fleet(lab, make_inputs(default_cache(), print), tmp_path_factory.mktemp("fleet"))
    fleet.describe()
    return fleet


@pytest.fixture(scope="module")
def first_deployment(empty_fleet: Fleet) -> Finished:
    """What the very first deployment to gpu1 said, by plain Ansible from the repository's root."""
    return empty_fleet.ansible("playbooks/deploy.yml", "gpu1")


@pytest.fixture
def fleet(empty_fleet: Fleet, first_deployment: Finished) -> Fleet:
    """gpu1 serves the baseline: SGLang with the model of seed 0."""
    empty_fleet.describe()
    result = empty_fleet.deployer("rollout", "gpu1")
    assert result.status == 0, result.output
    return empty_fleet


def test_an_empty_host_serves_after_one_command(empty_fleet: Fleet, first_deployment: Finished) -> None:
    assert first_deployment.status == 0, first_deployment.output
    fleet = empty_fleet
    empty_fleet.describe()
    assert fleet.deployer("rollout", "gpu1").status == 0
    assert fleet.models("gpu1") == [SERVICE]
    assert fleet.chat("gpu1") > 0
    assert fleet.is_sglang("gpu1")


def test_the_service_runs_as_a_user_without_shell_or_rights(fleet: Fleet) -> None:
    assert fleet.root("gpu1", f"ps -o user= -p {fleet.pid('gpu1')}") == "inference"
    assert fleet.root("gpu1", "getent passwd inference").endswith(":/usr/sbin/nologin")
    assert "NoNewPrivs:\t1" in fleet.root("gpu1", f"cat /proc/{fleet.pid('gpu1')}/status")
    writable = fleet.root("gpu1", f"find {ROOT} -not -type l -writable -user inference -type d")
    assert set(writable.splitlines()) >= {f"{FOLDER}/state"}
    assert not fleet.root("gpu1", f"find {ROOT} -perm -o+w -not -type l")


def test_after_a_reboot_the_service_answers_again(fleet: Fleet) -> None:
    fleet.lab.hosts["gpu1"].reboot()
    assert fleet.answers_within("gpu1", 300)
    assert fleet.chat("gpu1") > 0


def test_the_second_deployment_changes_nothing(fleet: Fleet) -> None:
    pid = fleet.pid("gpu1")
    result = fleet.ansible("deploy.yml", "gpu1", folder=REPOSITORY / "playbooks")
    assert result.status == 0
    assert re.search(r"gpu1 +: ok=\d+ +changed=0 ", result.output)
    assert fleet.pid("gpu1") == pid


def test_the_plan_knows_the_release_that_serves_and_the_size_of_its_kv_cache(fleet: Fleet) -> None:
    result = fleet.deployer("plan", "gpu1")
    service, way_back = result.outcome["gpu1"]["services"]
    assert result.status == 1, result.output  # warnings alone
    assert service["next"] == service["current"]["release"] == fleet.link("gpu1", "current")
    assert way_back["engine"] == "llamafactory"
    log = fleet.root("gpu1", f"journalctl -o cat -u inference-{SERVICE} | grep 'KV Cache is allocated' | tail -1")
    logged = re.search(r"#tokens: (\d+), K size: ([\d.]+) GB, V size: ([\d.]+) GB", log)
    assert logged is not None, log
    assert service["kv_tokens"] == int(logged.group(1))
    gib = service["kv_tokens"] * service["kv_bytes_per_token"] / 2**30
    assert gib == pytest.approx(float(logged.group(2)) + float(logged.group(3)), abs=0.011)


def test_check_mode_says_what_would_change_and_changes_nothing(fleet: Fleet) -> None:
    pid, current = fleet.pid("gpu1"), fleet.link("gpu1", "current")
    before = fleet.root("gpu1", f"find {ROOT} | sort | sha256sum")
    same = fleet.ansible("playbooks/deploy.yml", "gpu1", "--check", "--diff")
    assert re.search(r"gpu1 +: ok=\d+ +changed=0 ", same.output)
    fleet.describe(seed=1)
    other = fleet.ansible("playbooks/deploy.yml", "gpu1", "--check", "--diff")
    assert other.status == 0
    assert f"-{SERVICE}: {current}" in other.output
    assert "+++ after: " in other.output
    assert (fleet.pid("gpu1"), fleet.link("gpu1", "current")) == (pid, current)
    assert fleet.root("gpu1", f"find {ROOT} | sort | sha256sum") == before


@pytest.mark.slow
def test_a_new_model_is_cut_over_to_and_rolled_back_from(fleet: Fleet) -> None:
    first = fleet.release("gpu1")
    fleet.describe(seed=1)
    assert fleet.deployer("rollout", "gpu1").status == 0
    second = fleet.release("gpu1")
    assert second["model"]["digest"] != first["model"]["digest"]
    assert fleet.link("gpu1", "previous") == first["id"]
    assert fleet.chat("gpu1") > 0
    assert fleet.ansible("playbooks/rollback.yml", "gpu1").status == 0
    assert fleet.link("gpu1", "current") == first["id"]
    assert fleet.chat("gpu1") > 0


def test_an_unknown_flag_is_refused_while_the_old_service_runs_on(fleet: Fleet) -> None:
    options = {**SGLANG_ON_CPU, "max_runing_requests": 3}
    fleet.describe(options=options)
    assert_refused(fleet, "options.max_runing_requests: sglang 0.5.23 has no such option")
    # Whoever overrules the plan still has the installed engine's own parser to convince.
    fleet.describe(options=options, findings={"option-unknown": "accepted"})
    assert_refused(fleet, "unrecognized arguments: --max-runing-requests")
    checked = fleet.deployer("rollout", "gpu1", "--check")
    assert checked.status == 2
    assert "unrecognized arguments: --max-runing-requests" in checked.output


def test_missing_weights_are_refused_while_the_old_service_runs_on(fleet: Fleet, tmp_path: Path) -> None:
    source = shutil.copytree(fleet.inputs.models[1], tmp_path / "model")
    (source / "model.safetensors").unlink()
    fleet.describe(model={"name": SERVICE, "source": str(source)})
    assert_refused(fleet, "holds no weights")


def test_a_flipped_byte_in_the_weights_on_the_host_is_refused(fleet: Fleet) -> None:
    weights = f"{fleet.release('gpu1')['model']['path']}/model.safetensors"
    flip = f"printf '\\\\001' | dd of={weights} bs=1 seek=40000 conv=notrunc status=none"
    saved = f"cp -p {weights} /srv/saved && {flip}"
    fleet.root("gpu1", saved)
    try:
        fleet.describe(options={**SGLANG_ON_CPU, "max_running_requests": 7})
        assert_refused(fleet, "model.safetensors was changed after it was verified: sha256 wanted")
    finally:
        fleet.root("gpu1", f"cp -p /srv/saved {weights} && rm /srv/saved")


@pytest.mark.slow
def test_bytes_that_an_earlier_run_left_damaged_are_sent_again(fleet: Fleet, tmp_path: Path) -> None:
    source = shutil.copytree(fleet.inputs.models[1], tmp_path / "model")
    weights = source / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-2] ^= 1  # the least of a weight: a model that no host has yet
    weights.write_bytes(data)
    fleet.describe(model={"name": SERVICE, "source": str(source)})
    digest = build_manifest(str(source)).digest
    arriving = f"{ROOT}/incoming/{digest}"
    data[-1] ^= 1
    fleet.root("gpu1", f"mkdir -p {arriving}")
    receive = f"base64 -d | sudo tee {arriving}/model.safetensors >/dev/null"
    fleet.lab.hosts["gpu1"].ssh(receive, stdin=base64.b64encode(data).decode(), check=True)
    assert fleet.deployer("rollout", "gpu1").status == 0
    model = fleet.release("gpu1")["model"]
    assert model["digest"] == digest
    found = fleet.root("gpu1", f"sha256sum {model['path']}/model.safetensors").split()[0]
    assert found == hashlib.sha256(weights.read_bytes()).hexdigest()


@pytest.mark.slow
def test_a_release_that_never_passes_gives_way_to_the_old_one(fleet: Fleet) -> None:
    before = fleet.link("gpu1", "current")
    fleet.describe(**NEVER_PASSES)
    result = fleet.deployer("rollout", "gpu1")
    assert result.status == 1
    (cutover,) = result.outcome["hosts"][0]["services"]
    assert (cutover["outcome"], cutover["probe"], cutover["after"]) == ("restored", "process", before)
    failure = result.outcome["hosts"][0]["failure"]
    assert "exit status" in failure
    assert "context" in failure.partition("last lines of its log:")[2]
    assert fleet.link("gpu1", "current") == before
    assert fleet.chat("gpu1") > 0


@pytest.mark.slow
def test_a_release_whose_files_were_changed_is_refused_while_the_other_serves_on(fleet: Fleet) -> None:
    first = fleet.link("gpu1", "current")
    fleet.describe(options={**SGLANG_ON_CPU, "max_running_requests": 6})
    assert fleet.deployer("rollout", "gpu1").status == 0
    pid = fleet.pid("gpu1")
    script = f"{FOLDER}/releases/{first}/launch.sh"
    fleet.root("gpu1", f"sed -i.saved 's/--served-model-name code2sql/--served-model-name impostor/' {script}")
    try:
        result = fleet.deployer("rollback", "gpu1")
        assert result.status == 2
        assert "launch.sh was changed after it was staged" in result.output
        assert fleet.pid("gpu1") == pid
        assert fleet.models("gpu1") == [SERVICE]
    finally:
        fleet.root("gpu1", f"mv {script}.saved {script}")


def test_rollback_without_an_earlier_release_restores_llamafactory(fleet: Fleet) -> None:
    fleet.root("gpu1", f"rm -f {FOLDER}/previous")
    result = fleet.deployer("rollback", "gpu1")
    assert result.status == 0, result.output
    assert fleet.release("gpu1")["engine"] == "llamafactory"
    assert fleet.models("gpu1") == [SERVICE]
    assert fleet.chat("gpu1") > 0
    assert not fleet.is_sglang("gpu1")
    assert fleet.deployer("rollout", "gpu1").status == 0
    assert fleet.is_sglang("gpu1")


@pytest.mark.slow
def test_a_rollout_stops_at_the_batch_that_fails(fleet: Fleet) -> None:
    fleet.describe()
    both = fleet.deployer("rollout")
    assert both.status == 0, both.output
    old = {name: fleet.link(name, "current") for name in ("gpu1", "gpu2")}
    fleet.describe(seed=1, hosts={"gpu2": NEVER_PASSES})
    result = fleet.deployer("rollout")
    assert result.status == 1
    outcomes = {host["host"]: host["services"][0]["outcome"] for host in result.outcome["hosts"]}
    assert outcomes == {"gpu1": "committed", "gpu2": "restored"}
    assert fleet.link("gpu1", "current") != old["gpu1"]
    assert fleet.link("gpu2", "current") == old["gpu2"]
    for host in ("gpu1", "gpu2"):
        assert re.search(rf"{host} +{SERVICE} +serving +sglang +{fleet.link(host, 'current')}", result.output)
        assert fleet.chat(host) > 0


def test_a_mistake_in_the_description_reaches_no_host(fleet: Fleet) -> None:
    fleet.describe(port=99_999)
    result = fleet.deployer("rollout", "gpu1")
    assert result.status == 2
    assert "inference_services[code2sql].port: is 99999. Fix: give a whole number from 1 to 65535" in result.output
    assert fleet.chat("gpu1") > 0


def test_what_is_not_there_is_found_before_anything_is_sent(fleet: Fleet) -> None:
    fleet.describe(model={"name": SERVICE, "source": "/nowhere"})
    assert_refused(fleet, "/nowhere is not a folder [model-unreadable]. Fix: correct the path")
    fleet.describe(gpus=[6])
    assert_refused(fleet, "GPUs: nvidia-smi is not installed [gpu-driver]")


def test_a_port_held_by_a_stranger_is_found_before_anything_is_staged(fleet: Fleet) -> None:
    fleet.root("gpu1", "systemd-run --unit=stranger python3 -m http.server 8055")
    try:
        fleet.describe(port=8055)
        assert_refused(fleet, "port 8055: is held by pid")
    finally:
        fleet.root("gpu1", "systemctl stop stranger")


@pytest.fixture(autouse=True)
def hosts_are_on(lab: Lab) -> Iterator[None]:
    """Every test leaves its hosts switched on."""
    yield
    assert all(host.running for host in lab.hosts.values())


def assert_refused(fleet: Fleet, reason: str) -> None:
    """The rollout is refused with exit code 2 for `reason`, and what served before serves on, the same process."""
    pid = fleet.pid("gpu1")
    result = fleet.deployer("rollout", "gpu1")
    assert result.status == 2
    assert reason in result.output
    assert fleet.pid("gpu1") == pid
    assert httpx.get(f"{fleet.url('gpu1')}/health", timeout=60, trust_env=False).status_code == 200
    assert str(PORT) in fleet.url("gpu1")
