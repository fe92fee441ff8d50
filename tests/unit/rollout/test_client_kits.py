"""Kits on hosts of this machine, with the real playbooks: staged with their release, and fetched."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.client_kit import GUIDE, KIT_FILES
from deployer import Deployer
from tests.doubles.local_fleet import REPOSITORY, SERVICE, LocalFleet
from tests.unit.rollout.conftest import MakeFleet


def kit_of(fleet: LocalFleet, host: str) -> Path:
    return fleet.root(host) / "services" / SERVICE / "current" / "client"


def changed(output: str) -> list[str]:
    """How many tasks have changed something, a host."""
    return re.findall(r"changed=(\d+)", output)


def test_a_kit_is_staged_with_its_release_corrected_without_a_restart_and_fetched(
    make_fleet: MakeFleet, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANSIBLE_CONFIG", str(REPOSITORY / "ansible.cfg"))
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(REPOSITORY))
    monkeypatch.chdir(tmp_path)
    fleet = make_fleet("h1")
    fleet.describe()
    nothing = Deployer(fleet.inventory).client()
    assert nothing.exit_code == 1
    assert "no release that serves" in nothing.hosts["h1"].kits[0].problem

    assert fleet.ansible("deploy").status == 0
    assert {path.name for path in kit_of(fleet, "h1").iterdir()} == set(KIT_FILES)

    (kit_of(fleet, "h1") / GUIDE).write_text("changed\n")
    looked = fleet.ansible("deploy", "--check", "--diff", "--skip-tags", "cutover")
    assert f"client/{GUIDE}" in looked.output and "-changed" in looked.output
    assert (kit_of(fleet, "h1") / GUIDE).read_text() == "changed\n"
    assert changed(fleet.ansible("deploy", "--skip-tags", "cutover").output) == ["1"]
    assert fleet.deployer("status", "--strict").status == 0

    client = Deployer(fleet.inventory).client(services=[SERVICE])
    assert client.exit_code == 0
    for host, answer in client.hosts.items():
        (kit,) = answer.kits
        assert (kit.release, kit.engine, set(kit.files)) == (fleet.link(host, "current"), "sglang", set(KIT_FILES))
        assert Path(kit.folder) == Path("client") / host / SERVICE
        guide = (tmp_path / kit.folder / GUIDE).read_text()
        assert f"`http://127.0.0.1:{fleet.ports[host, SERVICE]}`" in guide and "4,096 tokens" in guide
    said = fleet.deployer("client", "--into", str(tmp_path / "client"))
    assert said.status == 0 and "unchanged" in said.output
