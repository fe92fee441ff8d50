"""A team's hosts, on which LLaMA-Factory serves by hand, become an inventory that can be planned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from demo.inputs import default_cache, make_inputs
from tests.lab.by_hand import HOME, MODEL, SECRET, USER, ByHand
from tests.lab.conftest import NewLab
from tests.lab.fleet import PLAIN, PORT, SERVICE, Fleet
from tests.lab.ssh import write_ssh_config

pytestmark = pytest.mark.lab

NAMES = ("gpu1", "gpu2")
RUN_TIMEOUT = 300  # seconds on a busy machine


@dataclass(frozen=True)
class Said:
    """A command that has ended, and what it said to a program and to people."""

    status: int
    out: str
    err: str

    @property
    def value(self) -> dict[str, Any]:
        """What `--json` printed."""
        value: dict[str, Any] = json.loads(self.out)
        return value


@dataclass(frozen=True)
class Team:
    """Two hosts that an operator reaches by their ssh configuration, with the team's service on both."""

    hosts: dict[str, ByHand]

    @property
    def fleet(self) -> Fleet:
        """That furnished them."""
        return self.hosts["gpu1"].fleet

    def ssh_config(self, folder: Path, known: Path | None = None) -> Path:
        """An ssh configuration that has the hosts by alias."""
        return write_ssh_config(self.fleet.lab, NAMES, folder, known)

    def init(self, folder: Path, config: Path, *words: str) -> Said:
        """`python -m deployer init` in an empty folder."""
        command = [sys.executable, "-m", "deployer", "init", "--ssh-config", str(config), *words]
        return self._run(folder, command)

    def plan(self, folder: Path) -> Said:
        """`python -m deployer plan` of what was written there."""
        return self._run(folder, [sys.executable, "-m", "deployer", "plan", "-i", "fleet/hosts.yml", "--json"])

    def _run(self, folder: Path, command: list[str]) -> Said:
        done = subprocess.run(
            command,
            cwd=folder,
            # A connection that is still open would be used again, and no host key looked at.
            env={**os.environ, **PLAIN, "ANSIBLE_SSH_ARGS": "-o ControlMaster=no"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT,
            check=False,
        )
        print(f"$ {' '.join(command)}\n{done.stdout}\n{done.stderr}\n[exit {done.returncode}]")
        return Said(done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def team(new_lab: NewLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Team]:
    """The hosts, with the service on both."""
    with new_lab([{"name": name, "groups": ["gpu-nodes"]} for name in NAMES]) as lab:
        fleet = Fleet(lab, make_inputs(default_cache(), print), tmp_path_factory.mktemp("furnishing"))
        fleet.describe(engine="llamafactory", environment="llamafactory", options={"template": "qwen"})
        team = Team({name: ByHand(fleet, name) for name in NAMES})
        for one in team.hosts.values():
            one.furnish()
            one.start()
        yield team


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A folder with nothing in it."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def hosts_of(folder: Path) -> dict[str, Any]:
    """The hosts of the inventory that was written."""
    value = yaml.safe_load((folder / "fleet" / "hosts.yml").read_text())
    return dict(value["all"]["children"]["gpu-nodes"]["hosts"])


def test_what_serves_by_hand_is_described_and_planned_and_nothing_of_it_is_touched(
    team: Team, empty: Path, tmp_path: Path
) -> None:
    before = {name: one.look().pids for name, one in team.hosts.items()}
    done = team.init(empty, team.ssh_config(tmp_path), *NAMES, "--json")
    text = (empty / "fleet" / "group_vars" / "gpu-nodes.yml").read_text()
    print(text, (empty / "fleet" / "hosts.yml").read_text())

    (service,) = yaml.safe_load(text)["inference_services"]
    assert (service["name"], service["port"], service["engine"]) == (SERVICE, PORT, "sglang")
    assert service["model"]["name"] == SERVICE
    assert service["model"]["source"].endswith(f":{MODEL}")
    assert service["gpus"] == []
    assert yaml.safe_load(text)["ansible_become"] is True
    assert set(hosts_of(empty)) == set(NAMES)
    assert not (empty / "fleet" / "host_vars").exists()  # the two are alike
    for name in NAMES:
        (server,) = done.value["hosts"][name]["found"]["servers"]
        assert (server["engine"], server["options"]["template"]) == ("llamafactory", ["qwen"])
        assert hosts_of(empty)[name]["inference_address"] == team.fleet.lab.hosts[name].address

    planned = team.plan(empty)
    assert done.status == planned.status == done.value["exit_code"]
    for name in NAMES:
        findings = [one["id"] for one in planned.value[name]["findings"]]
        assert "service-adopted" in findings
        assert [one["id"] for one in done.value["plan"][name]["findings"]] == findings

    assert SECRET not in done.out + done.err
    for path in (empty / "fleet").rglob("*"):
        assert path.is_dir() or SECRET not in path.read_text()
    assert {name: one.look().pids for name, one in team.hosts.items()} == before

    again = team.init(empty, team.ssh_config(tmp_path), *NAMES)
    assert again.status == 2
    assert "fleet/environments is there already" in again.err


def test_a_host_whose_key_is_not_known_is_written_as_not_seen_with_what_to_do(
    team: Team, empty: Path, tmp_path: Path
) -> None:
    lab = team.fleet.lab
    known = tmp_path / "known_hosts"
    address = lab.hosts["gpu1"].address
    lines = lab.known_hosts.read_text().splitlines(keepends=True)
    known.write_text("".join(line for line in lines if line.split()[0] == address))
    done = team.init(empty, team.ssh_config(tmp_path, known), "--all", "--no-plan")
    assert done.status == 2
    assert "gpu2 was not seen: its SSH host key is not known" in done.err
    assert "ssh-keyscan" in done.err
    assert set(hosts_of(empty)) == set(NAMES)
    assert "NOT SEEN" in (empty / "fleet" / "hosts.yml").read_text()


def test_who_may_not_become_root_gets_processes_below_the_own_home(team: Team, empty: Path, tmp_path: Path) -> None:
    done = team.init(empty, team.ssh_config(tmp_path), f"{USER}@gpu1", "--no-plan", "--json")
    found = done.value["hosts"]["gpu1"]
    assert found["seen"]
    assert "sudo" in found["problem"]
    variables = yaml.safe_load((empty / "fleet" / "group_vars" / "gpu-nodes.yml").read_text())
    assert variables["inference_root"] == f"{HOME}/inference"
    assert variables["inference_supervisor"] == "process"
    assert "ansible_become" not in variables
    assert variables["inference_services"][0]["port"] == PORT  # it is their own process
    assert hosts_of(empty)["gpu1"]["ansible_user"] == USER


def test_where_no_host_is_seen_nothing_is_written(team: Team, empty: Path, tmp_path: Path) -> None:
    known = tmp_path / "known_hosts"
    known.touch()
    done = team.init(empty, team.ssh_config(tmp_path, known), "--all")
    assert done.status == 2
    assert list(empty.iterdir()) == []
    unasked = team.init(empty, team.ssh_config(tmp_path, known))
    assert unasked.status == 2
    assert "init --all" in unasked.err
