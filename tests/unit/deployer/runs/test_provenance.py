"""What a run was started with."""

from __future__ import annotations

from pathlib import Path

import pytest

from deployer.runs.provenance import inventory_state, options, versions


def test_the_programs_have_their_versions() -> None:
    assert {*versions()} == {"deployer", "ansible-core", "ansible-runner", "python"}
    assert "unknown" not in versions().values()


def test_only_known_options_are_told() -> None:
    given = {"rollout_batches": [1, "100%"], "cutover_to": "@previous", "rollout_socket": "/x", "hub_token": "canary"}
    assert options(given) == {"batches": [1, "100%"], "to": "@previous"}


def test_the_digest_follows_every_file_of_the_inventory(tmp_path: Path) -> None:
    hosts = tmp_path / "hosts.yml"
    hosts.write_text("all: {}\n")
    digests = [inventory_state([str(hosts)])["digest"]]
    for name in ("group_vars/gpu-nodes.yml", "host_vars/gpu1/vault.yml"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).write_text("a: 1\n")
        digests.append(inventory_state([str(hosts)])["digest"])
    (tmp_path / "notes.txt").write_text("of no inventory")
    assert inventory_state([str(hosts)])["digest"] == digests[-1]
    digests.append(inventory_state([str(tmp_path)])["digest"])
    digests.append(inventory_state(["a,b,"])["digest"])
    digests.append(inventory_state([str(tmp_path / "nowhere.yml")])["digest"])
    assert len(set(digests)) == len(digests)


def test_without_one_it_is_what_ansible_is_configured_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ANSIBLE_INVENTORY", "ANSIBLE_CONFIG"):
        monkeypatch.delenv(name, raising=False)
    assert inventory_state([])["sources"] == []
    (tmp_path / "ansible.cfg").write_text("[defaults]\ninventory = fleet/hosts.yml, more.yml\n")
    assert inventory_state([])["sources"] == ["fleet/hosts.yml", "more.yml"]
    monkeypatch.setenv("ANSIBLE_INVENTORY", "other.yml")
    assert inventory_state([])["sources"] == ["other.yml"]
