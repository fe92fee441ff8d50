"""Opening a run: who is told what, and where its secrets are."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import build_manifest
from ansible_collections.deployer.sglang.plugins.module_utils.procfs import Process, lives
from ansible_collections.deployer.sglang.plugins.module_utils.relay.order import PORT, RelayOrder
from ansible_collections.deployer.sglang.plugins.plugin_utils.manifests import remember_manifest
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.opening import (
    checked_limits,
    close_run,
    controller_address,
    open_run,
    order_for,
)

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def model(tmp_path: Path) -> dict[str, Any]:
    """A model that a host misses, as the module `model` says it."""
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    manifest = build_manifest(str(folder))
    remember_manifest(manifest)
    origin = {"host": "", "folder": str(folder), "exclude": [], "include": []}
    return {"name": "m", "digest": manifest.digest, "missing": ["config.json"], "origin": origin}


def result(address: str, *models: dict[str, Any], **relay: str) -> dict[str, Any]:
    return {
        "root": "/opt/inference",
        "models": list(models),
        "relay": {"address": address, "rack": "", "controller": "127.0.0.1", **relay},
    }


@pytest.fixture
def opened() -> Iterator[list[str]]:
    """Folders of runs, which are closed in the end."""
    folders: list[str] = []
    yield folders
    for folder in folders:
        close_run(folder)


def test_every_host_is_told_its_sources_and_nobody_else_the_secrets(model: dict[str, Any], opened: list[str]) -> None:
    hosts = {"gpu1": result("10.0.0.1", model), "gpu2": result("10.0.0.2"), "gpu3": result("10.0.0.3", model)}
    run = open_run(hosts, {}, "", PORT)
    opened.append(run["folder"])

    assert run["hosts"] == ["gpu1", "gpu3"] and run["seeds"] == []
    first, last = (RelayOrder.from_dict(order_for(run["folder"], host)["order"]) for host in ("gpu1", "gpu3"))
    assert [source.name for source in first.wanted[0].sources] == ["the controller"]
    assert [source.name for source in last.wanted[0].sources] == ["gpu1", "the controller"]
    assert (last.listen, last.ports, last.root) == ("10.0.0.3", (PORT,), "/opt/inference")
    assert first.token == last.token and "PRIVATE KEY" in first.key
    with pytest.raises(DeployError, match="was closed"):
        order_for(run["folder"], "gpu2")
    for path in Path(run["folder"]).rglob("*"):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077 or path.is_dir()
    assert not stat.S_IMODE(os.stat(run["folder"]).st_mode) & 0o077


def test_the_seed_ends_with_the_run(model: dict[str, Any]) -> None:
    run = open_run({"gpu1": result("10.0.0.1", model)}, {}, "", PORT)
    seed = json.loads(Path(run["folder"], "seed.json").read_text())
    process = Process(seed["pid"], 0, 0, "", seed["start_time"])
    assert lives(process)
    arguments = Path(f"/proc/{seed['pid']}/cmdline").read_text() + Path(f"/proc/{seed['pid']}/environ").read_text()
    order = RelayOrder.from_dict(order_for(run["folder"], "gpu1")["order"])
    assert order.token not in arguments and "PRIVATE" not in arguments
    close_run(run["folder"])
    assert not lives(process)
    assert not os.path.exists(run["folder"])
    close_run(run["folder"])  # once more is no error


def test_a_host_that_has_the_folder_serves_it(model: dict[str, Any], opened: list[str]) -> None:
    model["origin"] = {**model["origin"], "host": "gpu9", "address": "10.0.0.9"}
    run = open_run({"gpu1": result("10.0.0.1", model)}, {"rate": 10**6}, "", PORT)
    opened.append(run["folder"])

    assert run["seeds"] == ["gpu9"] and not Path(run["folder"], "seed.json").exists()
    told = order_for(run["folder"], "gpu9", seed=True)
    assert told["folders"][0]["folder"] == model["origin"]["folder"]
    assert RelayOrder.from_dict(told["order"]).limits.rate == 10**6
    (source,) = RelayOrder.from_dict(order_for(run["folder"], "gpu1")["order"]).wanted[0].sources
    assert (source.name, source.address, source.port) == ("the seed on gpu9", "10.0.0.9", PORT + 1)


def test_a_folder_that_changed_since_it_was_hashed_opens_nothing(model: dict[str, Any], tmp_path: Path) -> None:
    Path(model["origin"]["folder"], "more.json").write_text("{}")
    with pytest.raises(DeployError, match="changed after it was hashed"):
        open_run({"gpu1": result("10.0.0.1", model)}, {}, "", PORT)


@pytest.mark.parametrize(
    ("seen", "expected"),
    [(["192.0.2.7"], "not an address of its own"), (["127.0.0.1", "127.0.0.2"], "at several addresses"), ([""], "not")],
)
def test_a_controller_that_hosts_cannot_reach_is_named_with_the_setting(seen: list[str], expected: str) -> None:
    results = {f"gpu{number}": result("10.0.0.1", controller=address) for number, address in enumerate(seen)}
    with pytest.raises(DeployError, match=expected) as caught:
        controller_address(results)
    assert "model_relay_controller_address" in caught.value.fix


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("0.0.0.0", "10.0.0.2", "gpu1: 0.0.0.0 is not one at which other hosts reach it"),
        ("10.0.0.1", "::", "gpu2: :: is not one"),
        ("", "10.0.0.2", "gpu1: no address"),
        ("10.0.0.1", "10.0.0.1", "gpu1 and gpu2 would both serve at"),
    ],
)
def test_a_host_does_not_meet_itself(model: dict[str, Any], first: str, second: str, expected: str) -> None:
    with pytest.raises(DeployError, match=expected) as caught:
        open_run({"gpu1": result(first, model), "gpu2": result(second, model)}, {}, "", PORT)
    assert "model_relay_address" in caught.value.fix


def test_a_host_that_was_served_another_way_takes_no_part(model: dict[str, Any], opened: list[str]) -> None:
    pushed = {"root": "/opt/inference", "models": [model]}
    run = open_run({"gpu1": pushed, "gpu2": result("10.0.0.2", model)}, {}, "", PORT)
    opened.append(run["folder"])
    assert run["hosts"] == ["gpu2"]


def test_what_a_killed_run_left_is_swept_by_the_next(
    model: dict[str, Any], opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    left = open_run({"gpu1": result("10.0.0.1", model)}, {}, "", PORT)["folder"]
    opened.append(left)
    Path(left, "owner.json").write_text("[999999999, 1]")
    opened.append(open_run({"gpu1": result("10.0.0.1", model)}, {}, "", PORT)["folder"])
    assert not os.path.exists(left)


@pytest.mark.parametrize(
    ("name", "value"), [("streams", 0), ("rate", "50M"), ("floor", -1), ("patience", None), ("streams", 65)]
)
def test_a_wrong_setting_is_named(name: str, value: Any) -> None:
    if value is None:
        assert checked_limits({name: value}) == checked_limits({})
        return
    with pytest.raises(DeployError, match=f"model_relay_{name} is"):
        checked_limits({name: value})
