"""The lab itself: its hosts are what the other lab tests take them for, and nothing of it stays behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.host import LabHost
from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.lab import Lab
from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.leftovers import leftovers
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

NewLab = Callable[[list[dict[str, Any]]], AbstractContextManager[Lab]]

REPOSITORY = Path(__file__).parents[2]
CREATE = """\
import json, sys
from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.lab import open_lab
open_lab(sys.argv[1]).create(json.loads(sys.argv[2]))
"""

pytestmark = pytest.mark.lab


@pytest.fixture
def gpu1(lab: Lab) -> LabHost:
    return lab.hosts["gpu1"]


def test_host_has_its_own_name_and_address(lab: Lab) -> None:
    for name, host in lab.hosts.items():
        assert host.ssh("hostname").stdout.strip() == name
        assert f"inet {host.address}/24" in host.ssh("ip -4 address show dev eth0").stdout
        assert host.ssh(f"getent hosts {name}").stdout.split() == [host.address, name]


def test_host_runs_a_whole_system(gpu1: LabHost) -> None:
    assert gpu1.ssh("cat /proc/1/comm").stdout.strip() == "systemd"
    assert gpu1.ssh("systemctl is-system-running --wait").stdout.strip() == "running"
    assert gpu1.ssh("locale charmap").stdout.strip() == "UTF-8"
    assert gpu1.ssh("systemctl --user is-system-running --wait").stdout.strip() == "running"


def test_hosts_differ_in_machine_id(lab: Lab) -> None:
    assert len({host.ssh("cat /etc/machine-id").stdout for host in lab.hosts.values()}) == 2


def test_user_may_become_root_but_root_may_not_log_in(lab: Lab, gpu1: LabHost) -> None:
    assert gpu1.ssh("sudo -n id -u").stdout.strip() == "0"
    # ssh takes the first user that it is given.
    as_root = ["ssh", "-l", "root", *lab.ssh_args[1:], gpu1.address, "true"]
    refused = subprocess.run(as_root, capture_output=True, text=True, check=False)
    assert "Permission denied" in refused.stderr


def test_only_the_key_that_the_lab_made_is_accepted_of_a_host(lab: Lab, gpu1: LabHost, tmp_path: Path) -> None:
    unknown = [word.replace(str(lab.known_hosts), str(tmp_path / "empty")) for word in lab.ssh_args]
    refused = subprocess.run([*unknown, gpu1.address, "true"], capture_output=True, text=True, check=False)
    assert "Host key verification failed" in refused.stderr
    assert gpu1.ssh("true").returncode == 0


def test_ansible_reaches_the_group(lab: Lab) -> None:
    ping = [sys.executable, "-m", "ansible", "adhoc", "-i", str(lab.inventory), "gpu-nodes", "-b", "-m", "ping"]
    done = subprocess.run(ping, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert done.stdout.count("SUCCESS") == 2, done.stdout + done.stderr


def test_reboot_brings_the_host_back_at_its_address(gpu1: LabHost) -> None:
    gpu1.ssh("echo kept > kept", check=True)
    gpu1.reboot()
    assert gpu1.ssh("cat kept").stdout.strip() == "kept"
    assert f"inet {gpu1.address}/24" in gpu1.ssh("ip -4 address show dev eth0").stdout
    assert len(gpu1.ssh("sudo journalctl --list-boots --quiet --no-pager").stdout.splitlines()) >= 2


def test_reboot_by_the_host_itself_brings_it_back(gpu1: LabHost) -> None:
    before = gpu1.boot_id()
    gpu1.ssh("sudo systemd-run --on-active=0.1 systemctl reboot", check=True)
    gpu1.wait_until_up(after=before)


def test_files_survive_a_power_cut(gpu1: LabHost) -> None:
    gpu1.ssh("echo kept > after-power-cut; sync", check=True)
    gpu1.power_cut()
    assert not gpu1.running
    assert gpu1.ssh("true").returncode == 255
    gpu1.boot()
    assert gpu1.ssh("cat after-power-cut").stdout.strip() == "kept"
    assert gpu1.ssh("systemctl is-system-running --wait").stdout.strip() == "running"


def test_cable_out_and_in_again(gpu1: LabHost) -> None:
    gpu1.link(up=False)
    try:
        assert gpu1.ssh("true").returncode == 255
    finally:
        gpu1.link(up=True)
    gpu1.wait_until_up()


@pytest.mark.slow
def test_a_second_lab_lives_beside_the_first_and_leaves_nothing(lab: Lab, new_lab: NewLab, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("from the controller")
    described = {
        "name": "gpu1",
        "groups": ["gpu-nodes"],
        "bandwidth": "160mbit",
        "binds": [f"{tmp_path}:/opt/shared:ro"],
    }
    with new_lab([described]) as other:
        host = other.hosts["gpu1"]
        assert host.address != lab.hosts["gpu1"].address
        assert host.ssh("sudo cat /opt/shared/file").stdout == "from the controller"
        assert host.ssh("sudo touch /opt/shared/file").returncode != 0
        shaped = ["tc", "-json", "qdisc", "show", "dev", host.network.link]
        assert json.loads(subprocess.run(shaped, capture_output=True, check=True).stdout)[0]["kind"] == "tbf"
        assert leftovers(other, ["gpu1"])
    assert leftovers(other, ["gpu1"]) == []
    assert all(host.ssh("true").returncode == 0 for host in lab.hosts.values())


@pytest.mark.slow
def test_create_cleans_up_after_a_killed_one_and_a_forgotten_one(new_lab: NewLab) -> None:
    platforms = [{"name": "gpu1"}, {"name": "gpu2"}]
    hosts = ["gpu1", "gpu2"]
    with new_lab(platforms) as lab:
        lab.destroy()
        create = [sys.executable, "-c", CREATE, lab.name, json.dumps(platforms)]
        killed = subprocess.Popen(create, cwd=REPOSITORY)
        while "process" not in {entry.kind for entry in lab.ledger.entries()}:
            assert killed.poll() is None, "create ended before it could be killed"
            time.sleep(0.01)
        killed.kill()
        killed.wait()
        assert leftovers(lab, hosts)
        for _ in range(2):
            subprocess.run(create, cwd=REPOSITORY, check=True)
            assert all(host.ssh("true").returncode == 0 for host in lab.hosts.values())
    assert leftovers(lab, hosts) == []


def test_a_create_that_fails_leaves_nothing(new_lab: NewLab) -> None:
    with new_lab([{"name": "gpu1"}]) as lab:
        with pytest.raises(DeployError, match="tc qdisc replace"):
            lab.create([{"name": "gpu1", "bandwidth": "much"}])
        assert leftovers(lab, ["gpu1"]) == []


def test_molecule_creates_verifies_and_destroys(new_lab: NewLab, tmp_path: Path) -> None:
    # A folder of its own for Molecule's state is a lab of its own: one that a developer has open stays untouched.
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))  # Molecule looks for Ansible there
    done = subprocess.run(
        [sys.executable, "-m", "molecule", "test", "--scenario-name", "default"],
        cwd=REPOSITORY,
        env={**os.environ, "MOLECULE_EPHEMERAL_DIRECTORY": str(tmp_path), "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert "gpu2" in done.stdout
