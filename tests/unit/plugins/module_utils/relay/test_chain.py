"""A run where nothing goes wrong: everyone gets everything, once."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import read_json
from ansible_collections.deployer.sglang.plugins.module_utils.relay.order import Peer
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.seed import start_seed
from tests.doubles.relay_fleet import MB, Fleet, Relay, free_port, noise, until


def test_a_chain_of_four_receives_everything_and_the_seed_sends_it_once(fleet: Fleet) -> None:
    model = fleet.model(
        files={"model.safetensors": noise(5 * MB), "config.json": b"{}", "sub/deep/vocab.txt": b"words"}
    )
    seed = fleet.seed(model)
    hosts: list[Relay] = []
    for number in range(4):
        hosts.append(fleet.host(f"h{number}", [model], [*reversed(hosts), seed]))
    for number, host in enumerate(hosts):
        report = host.until("landed")
        assert host.has(model)
        assert (report["received"], report["resumed"], report["lost"]) == (model.size, 0, {})
        if number:
            until(lambda: hosts[number - 1].report()["sent"] == model.size, "what was sent to be counted")  # noqa: B023
        record = read_json(str(host.folder(model) / "manifest.json"))
        assert record["digest"] == model.manifest.digest
        assert set(record["verified"]) == {one.path for one in model.manifest.files}


def test_a_host_that_comes_first_waits_for_those_before_it(fleet: Fleet) -> None:
    model = fleet.model(size=MB)
    seed = fleet.seed(model)
    port = free_port("127.0.0.20")
    behind = fleet.host("behind", [model], [Peer("before", "127.0.0.20", port), seed])
    before = fleet.host("before", [model], [seed], address="127.0.0.20", port=port)
    behind.until("landed")
    before.until("landed")
    until(lambda: before.report()["sent"] == model.size, "the host before to have sent it")


def test_files_of_other_models_are_linked_and_served_from_there(fleet: Fleet) -> None:
    old = fleet.model("old", {"model.safetensors": noise(3 * MB), "config.json": b"{}"})
    new = fleet.model("new", {"model.safetensors": noise(3 * MB), "config.json": b'{"new": 1}', "sub/x": b""})
    seed = fleet.seed(old, new)
    host = fleet.host("h0", [old], [seed])
    host.until("landed")
    host.kill()
    host = fleet.host("h0", [new], [seed])
    behind = fleet.host("h1", [new], [host])  # has no other source: what h0 linked, it serves
    report = host.until("landed")
    assert report["received"] == len(b'{"new": 1}')
    assert report["linked"] == 1
    assert host.has(new)
    assert os.path.samefile(host.folder(old) / "model.safetensors", host.folder(new) / "model.safetensors")
    behind.until("landed")
    assert behind.has(new)


def test_everything_linked_needs_no_byte_and_no_room(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    old = fleet.model("old", {"a": noise(MB), "b": noise(MB, 2)})
    new = fleet.model("new", {"c": noise(MB), "sub/d": noise(MB, 2)})
    seed = fleet.seed(old, new)
    host = fleet.host("h0", [old], [seed])
    host.until("landed")
    host.kill()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(2 * MB, 2 * MB, 0))
    host = fleet.host("h0", [new], [seed])
    assert host.until("landed")["received"] == 0
    assert host.has(new)


def test_two_models_that_share_a_file_get_it_once(fleet: Fleet) -> None:
    one = fleet.model("one", {"a": noise(2 * MB), "again": noise(2 * MB), "z": b"1"})
    two = fleet.model("two", {"b": noise(2 * MB), "z": b"2"})
    seed = fleet.seed(one, two)
    host = fleet.host("h0", [one, two], [seed])
    behind = fleet.host("h1", [two, one], [host, seed])
    for each in (host, behind):
        report = each.until("landed")
        assert report["received"] == 2 * MB + 2
        assert each.has(one)
        assert each.has(two)
        assert os.path.samefile(each.folder(one) / "a", each.folder(two) / "b")


def test_a_file_that_is_lost_from_a_model_is_put_back(fleet: Fleet) -> None:
    model = fleet.model(files={"a": noise(MB), "b": noise(MB, 2), "same as b": noise(MB, 2)})
    seed = fleet.seed(model)
    host = fleet.host("h0", [model], [seed])
    host.until("landed")
    host.kill()
    os.unlink(host.folder(model) / "a")
    os.unlink(host.folder(model) / "b")
    host = fleet.host("h0", [model], [seed])
    report = host.until("landed")
    assert (report["received"], report["linked"]) == (MB, 1)
    assert host.has(model)


def test_empty_files_and_many_small_ones(fleet: Fleet) -> None:
    files = {f"part{number % 7}/{number}.json": b"%d" % number for number in range(1000)}
    model = fleet.model(files={**files, "empty": b"", "other/empty": b""})
    seed = fleet.seed(model)
    first = fleet.host("h0", [model], [seed], limits={"streams": 4})
    second = fleet.host("h1", [model], [first, seed], limits={"streams": 4})
    for host in (first, second):
        assert host.until("landed")["files_done"] == len(files) + 1
        assert host.has(model)
        descriptors = len(os.listdir(f"/proc/{host.pid}/fd"))
        assert descriptors < 100


def test_a_host_serves_what_it_has_landed(fleet: Fleet) -> None:
    model = fleet.model(files={"a": noise(2 * MB), "sub/b": b"b"})
    seed = fleet.seed(model)
    first = fleet.host("h0", [model], [seed])
    first.until("landed")
    seed.kill()
    second = fleet.host("h1", [model], [first])
    second.until("landed")
    assert second.has(model)


def test_ipv6(fleet: Fleet) -> None:
    try:
        port = free_port("::1")
    except OSError:
        pytest.skip("this machine has no IPv6")
    model = fleet.model(size=MB)
    seed = fleet.seed(model)
    first = fleet.host("h0", [model], [seed], address="::1", port=port)
    second = fleet.host("h1", [model], [first])
    second.until("landed")
    assert second.has(model)


def test_the_disk_is_looked_at_before_the_first_byte(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fleet.model(size=MB)
    seed = fleet.seed(model)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(MB, 1, MB - 1))
    with pytest.raises(DeployError, match="the transfer needs"):
        fleet.host("h0", [model], [seed])
    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(MB, 0, MB))
    fleet.host("h0", [model], [seed]).until("landed")


def test_the_rate_is_kept_and_nobody_is_blamed_for_it(fleet: Fleet) -> None:
    model = fleet.model(size=2 * MB)
    # Two hosts share what the seed may send: each gets less than its floor.
    seed = fleet.seed(model, limits={"rate": 2 * MB})
    hosts = [fleet.host(f"h{number}", [model], [seed], limits={"floor": 8 * MB}) for number in range(2)]
    for host in hosts:
        report = host.until("landed")
        assert report["lost"] == {}
        assert report["received"] == model.size
    took = max(host.report()["landed"] for host in hosts) - min(host.report()["started"] for host in hosts)
    assert took > 1.0


def test_memory_does_not_depend_on_the_size(fleet: Fleet, tmp_path: Path) -> None:
    folder = tmp_path / "source" / "large"
    folder.mkdir(parents=True)
    with open(folder / "model.safetensors", "wb") as stream:
        stream.truncate(512 * MB)
    fleet.start = start_seed  # in processes that hold nothing of the test's
    model = fleet.model("large", {"config.json": b"{}"})
    seed = fleet.seed(model)
    first = fleet.host("h0", [model], [seed])
    second = fleet.host("h1", [model], [first, seed])
    for host in (first, second):
        assert host.until("landed")["peak_memory"] < 100 * MB
    status = Path(f"/proc/{seed.pid}/status").read_text()
    assert int(status.split("VmHWM:")[1].split()[0]) * 1024 < 100 * MB
    for host in (first, second):
        shutil.rmtree(host.root)


def test_a_landing_that_was_cut_off_is_gone_on_with(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    old = fleet.model("old", {"shared": noise(MB, 3)})
    model = fleet.model(files={"a": noise(MB), "sub/b": noise(MB, 2), "shared": noise(MB, 3)})
    seed = fleet.seed(old, model)
    host = fleet.host("h0", [old], [seed])
    host.until("landed")
    host.kill()
    rename = os.rename

    def cut_off(source: str, target: str) -> None:
        if source.endswith("sub/b"):
            os._exit(1)
        rename(source, target)

    monkeypatch.setattr(os, "rename", cut_off)
    host = fleet.host("h0", [model], [seed])
    until(lambda: not host.alive, "the landing to be cut off")
    monkeypatch.undo()
    assert not host.folder(model).exists()
    host = fleet.host("h0", [model], [seed])
    report = host.until("landed")
    assert (report["received"], report["resumed"], report["linked"]) == (0, 2 * MB, 1)
    assert host.has(model)
    assert not list((host.root / "incoming").glob("*.landing"))
