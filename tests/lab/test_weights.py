"""Weights on their way to five hosts: one copy from the seed, and what happens when something breaks meanwhile."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.lab import Lab
from tests.benchmarks.weights.inputs import write_checkpoint
from tests.doubles.tcp_proxy import Proxy
from tests.lab.conftest import NewLab
from tests.lab.transfer import MODEL, ROOT, Transfer

pytestmark = pytest.mark.lab

NAMES = ("gpu1", "gpu2", "gpu3", "gpu4", "gpu5")
MODEL_SIZE = 48 * 2**20
BLOCK = 4 * 2**20  # what may have to be sent again after a fault, a stream
STREAMS = 2
PORT = 18515


@pytest.fixture(scope="module")
def five(new_lab: NewLab) -> Iterator[Lab]:
    """Five hosts on links of 8 MB/s."""
    with new_lab([{"name": name, "groups": ["gpu-nodes"], "bandwidth": "64mbit"} for name in NAMES]) as lab:
        yield lab


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of four shards, complete to whoever looks at it, and random."""
    return write_checkpoint(tmp_path_factory.mktemp("weights") / "checkpoint", MODEL_SIZE)


@pytest.fixture
def transfer(five: Lab, checkpoint: Path, tmp_path: Path) -> Iterator[Transfer]:
    """The role over hosts that have nothing."""
    one = Transfer(five, tmp_path, str(checkpoint), {"model_relay_patience": 30})
    for name in NAMES:
        five.hosts[name].shape("64mbit")
    one.forget(*NAMES)
    yield one


def size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


def content(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir()}


def assert_verified(transfer: Transfer, host: str, folder: Path) -> None:
    found = transfer.digests(host)
    assert {path.partition("/")[2]: digest for path, digest in found.items()} == content(folder), host


def assert_nothing_runs(transfer: Transfer, *hosts: str) -> None:
    for host in hosts:
        assert str(PORT) not in transfer.listeners(host), host


def test_one_copy_leaves_the_seed_and_a_second_run_sends_nothing(transfer: Transfer, checkpoint: Path) -> None:
    first = transfer.run()

    assert first.status == 0
    size = size_of(checkpoint)
    received = first.received()
    assert {host: one["received"] for host, one in received.items()} == dict.fromkeys(NAMES, size)
    # All but the seed's one copy came from hosts; a host may have landed while the one behind it takes its last bytes.
    assert sum(one["sent"] for one in received.values()) > size * (len(NAMES) - 1.5)
    assert all(one["lost"] == {} for one in received.values())
    assert max(one["peak_memory"] for one in received.values()) < 200 * 2**20
    assert "weights: " in first.output and "/s" in first.output
    for host in NAMES:
        assert_verified(transfer, host, checkpoint)
    assert_nothing_runs(transfer, *NAMES)

    transfer.settings["ansible_python_interpreter"] = "/usr/bin/python3"  # or Ansible looks for one, first
    second = transfer.run("-vvv")

    assert second.status == 0
    assert second.received() == {}
    assert "changed=1" not in second.output and "changed=2" not in second.output
    for host in NAMES:
        address = transfer.lab.hosts[host].address
        assert second.output.count(f"<{address}> SSH: EXEC") == 1, host


def test_a_fine_tune_that_changes_one_shard_moves_one_shard(
    transfer: Transfer, checkpoint: Path, tmp_path: Path
) -> None:
    assert transfer.run("-l", "gpu1,gpu2").status == 0
    tuned = tmp_path / "tuned"
    subprocess.run(["cp", "-r", str(checkpoint), str(tuned)], check=True)
    shard = max(tuned.glob("*.safetensors"))
    with shard.open("r+b") as stream:
        stream.seek(-4096, os.SEEK_END)
        stream.write(os.urandom(4096))
    transfer.source = str(tuned)

    run = transfer.run("-l", "gpu1,gpu2")

    assert run.status == 0
    for host in ("gpu1", "gpu2"):
        assert run.received()[host]["received"] == shard.stat().st_size
        assert run.received()[host]["linked"] == len(list(tuned.iterdir())) - 1
        names = transfer.lab.hosts[host].ssh(f"sudo find {ROOT}/artifacts/models -name config.json -links 2").stdout
        assert len(names.splitlines()) == 2


@pytest.mark.slow
def test_a_host_that_loses_power_is_named_and_the_others_are_complete(transfer: Transfer, checkpoint: Path) -> None:
    process = transfer.start()
    transfer.wait_until_received("gpu5", MODEL_SIZE // 4, process)
    try:
        transfer.lab.hosts["gpu2"].power_cut()
        run = transfer.finish(process)
    finally:
        transfer.lab.hosts["gpu2"].boot()

    assert run.status != 0
    assert "gpu2" in run.failures()
    alive = [name for name in NAMES if name != "gpu2"]
    received, size = run.received(), size_of(checkpoint)
    for host in alive:
        assert_verified(transfer, host, checkpoint)
        assert received[host]["received"] <= size + STREAMS * BLOCK
    assert "gpu2" in received["gpu3"]["lost"]
    assert received["gpu4"]["lost"] == received["gpu5"]["lost"] == {}  # only who stood behind it had to move
    assert_nothing_runs(transfer, *alive)


@pytest.mark.slow
def test_a_link_that_goes_down_and_up_costs_no_byte_twice(transfer: Transfer, checkpoint: Path) -> None:
    process = transfer.start()
    transfer.wait_until_received("gpu5", MODEL_SIZE // 4, process)
    host = transfer.lab.hosts["gpu3"]
    host.link(up=False)
    time.sleep(5)  # a cable that is out for a while, not something to wait for
    host.link(up=True)
    run = transfer.finish(process)

    assert run.status == 0
    for name in NAMES:
        assert_verified(transfer, name, checkpoint)
        assert run.received()[name]["received"] <= size_of(checkpoint) + STREAMS * BLOCK


@pytest.mark.slow
def test_a_controller_that_dies_is_no_loss(transfer: Transfer, checkpoint: Path) -> None:
    process = transfer.start()
    transfer.wait_until_received("gpu5", MODEL_SIZE // 4, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    had = {name: transfer.report(name)["received"] for name in NAMES}

    run = transfer.run()

    assert run.status == 0
    for name in NAMES:
        assert_verified(transfer, name, checkpoint)
        one = run.received()[name]
        assert one["resumed"] >= had[name]
        assert one["received"] == size_of(checkpoint) - one["resumed"]


def test_a_bit_that_flips_on_the_wire_is_sent_again(transfer: Transfer, checkpoint: Path) -> None:
    lab = transfer.lab
    source = lab.hosts["gpu1"].address
    controller = source.rpartition(".")[0] + ".1"
    with contextlib.closing(Proxy(source, PORT, flip_at=MODEL_SIZE // 3, listen=controller)) as wire:
        rules = (
            "add table ip wire; add chain ip wire out { type nat hook output priority -100; };"
            f"add rule ip wire out ip daddr {source} tcp dport {PORT} dnat to {controller}:{wire.port}"
        )
        nft = ["ip", "netns", "exec", lab.hosts["gpu2"].network.namespace, "nft"]
        subprocess.run([*nft, rules], check=True)
        try:
            run = transfer.run()
        finally:
            subprocess.run([*nft, "delete table ip wire"], check=True)
        assert wire.flipped

    assert run.status == 0
    assert "TLS" in run.received()["gpu2"]["lost"]["gpu1"]
    for name in NAMES:
        assert_verified(transfer, name, checkpoint)
        assert run.received()[name]["received"] <= size_of(checkpoint) + STREAMS * BLOCK


@pytest.mark.slow
def test_a_disk_that_fills_up_fails_that_host_alone(transfer: Transfer, checkpoint: Path) -> None:
    host = transfer.lab.hosts["gpu2"]
    host.ssh(f"sudo mkdir -p {ROOT} && sudo mount -t tmpfs -o size=80m tmpfs {ROOT}", check=True)
    try:
        process = transfer.start()
        transfer.wait_until_received("gpu2", MODEL_SIZE // 4, process)
        host.ssh(f"sudo sh -c 'head -c 80m /dev/zero > {ROOT}/somebody-elses' || true")
        run = transfer.finish(process)
        assert run.status != 0
        assert "No space left" in run.failures()["gpu2"] and ROOT in run.failures()["gpu2"]
        assert transfer.digests("gpu2") == {}
        for name in ("gpu1", "gpu3", "gpu4", "gpu5"):
            assert_verified(transfer, name, checkpoint)
        host.ssh(f"sudo rm {ROOT}/somebody-elses", check=True)

        again = transfer.run()

        assert again.status == 0
        assert again.received()["gpu2"]["resumed"] > 0
        assert_verified(transfer, "gpu2", checkpoint)
    finally:
        host.ssh(f"sudo umount -l {ROOT}", check=True)


@pytest.mark.slow
def test_a_disk_that_is_too_small_is_refused_before_the_first_byte(transfer: Transfer) -> None:
    host = transfer.lab.hosts["gpu2"]
    host.ssh(f"sudo mkdir -p {ROOT} && sudo mount -t tmpfs -o size=16m tmpfs {ROOT}", check=True)
    try:
        run = transfer.run("-l", "gpu2")
    finally:
        host.ssh(f"sudo umount {ROOT}", check=True)

    assert run.status != 0
    assert "GB free" in run.failures()["gpu2"]
    assert run.received() == {}


@pytest.mark.slow
def test_a_host_whose_port_is_closed_is_gone_around(transfer: Transfer, checkpoint: Path) -> None:
    transfer.settings["model_relay_patience"] = 60
    nft = ["ip", "netns", "exec", transfer.lab.hosts["gpu2"].network.namespace, "nft"]
    rules = (
        "add table ip wall; add chain ip wall in { type filter hook input priority 0; };"
        f"add rule ip wall in tcp dport {PORT} drop"
    )
    subprocess.run([*nft, rules], check=True)
    try:
        run = transfer.run("-l", "gpu1,gpu2,gpu3")
    finally:
        subprocess.run([*nft, "delete table ip wall"], check=True)

    assert run.status == 0
    assert str(PORT) in run.received()["gpu3"]["lost"]["gpu2"]
    assert_verified(transfer, "gpu3", checkpoint)


@pytest.mark.slow
def test_a_seed_that_cannot_be_reached_is_named_with_the_file(transfer: Transfer) -> None:
    transfer.settings["model_relay_patience"] = 5
    nft = ["ip", "netns", "exec", transfer.lab.hosts["gpu1"].network.namespace, "nft"]
    rules = (
        "add table ip wall; add chain ip wall out { type filter hook output priority 0; };"
        "add rule ip wall out tcp dport 18516-18531 drop"
    )
    subprocess.run([*nft, rules], check=True)
    try:
        run = transfer.run("-l", "gpu1")
    finally:
        subprocess.run([*nft, "delete table ip wall"], check=True)

    assert run.status != 0
    said = run.failures()["gpu1"]
    assert ".safetensors: no source gives it" in said and "port 18516" in said and "model_transport: rsync" in said
    assert transfer.digests("gpu1") == {}
    assert_nothing_runs(transfer, "gpu1")


@pytest.mark.slow
def test_a_folder_on_a_host_goes_to_the_others(transfer: Transfer, checkpoint: Path) -> None:
    archive = subprocess.run(["tar", "-C", str(checkpoint), "-cf", "-", "."], check=True, capture_output=True).stdout
    host = transfer.lab.hosts["gpu4"]
    subprocess.run(
        [*host.ssh_args, host.address, "sudo mkdir -p /srv/saves && sudo tar -xf - -C /srv/saves"],
        input=archive,
        check=True,
    )
    transfer.source = "gpu4:/srv/saves"

    run = transfer.run("-l", "gpu1,gpu2")

    assert run.status == 0
    for name in ("gpu1", "gpu2"):
        assert_verified(transfer, name, checkpoint)
    assert transfer.digests("gpu4") == {}  # it was only asked for it
    assert_nothing_runs(transfer, "gpu4")
    transfer.source = "hosts:/srv/saves"
    there = transfer.run("-l", "gpu4")
    assert there.status == 0 and there.received() == {}
    assert transfer.run("-l", "gpu1,gpu4").status != 0  # gpu1 has no such folder


@pytest.mark.slow
@pytest.mark.parametrize("fetch_on", ["gpu1", ""])
def test_a_web_folder_is_fetched_once_and_goes_to_all(
    transfer: Transfer, checkpoint: Path, monkeypatch: pytest.MonkeyPatch, fetch_on: str
) -> None:
    monkeypatch.setenv("SGLANG_DEPLOYER_WEIGHTS", str(transfer.folder / "fetched"))
    controller = transfer.lab.hosts["gpu1"].address.rpartition(".")[0] + ".1"
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *_: object) -> None: ...

    handler = functools.partial(Handler, directory=str(checkpoint.parent))
    with http.server.ThreadingHTTPServer((controller, 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        transfer.source = f"http://{controller}:{server.server_port}/{checkpoint.name}/"
        transfer.model = {"fetch_on": fetch_on} if fetch_on else {}
        run = transfer.run("-l", "gpu1,gpu2,gpu3")
        assert run.status == 0
        again = transfer.run("-l", "gpu1,gpu2,gpu3")
        server.shutdown()

    for name in ("gpu1", "gpu2", "gpu3"):
        assert_verified(transfer, name, checkpoint)
    shards = [path for path in asked if path.endswith(".safetensors")]
    assert len(shards) == len(set(shards)) == len(list(checkpoint.glob("*.safetensors")))
    assert again.status == 0 and again.received() == {} and "changed=0" in again.output


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["rsync", "connection"])
def test_hosts_that_no_port_can_be_opened_on_get_whole_files(
    transfer: Transfer, checkpoint: Path, transport: str
) -> None:
    transfer.settings["model_transport"] = transport

    run = transfer.run("-l", "gpu1")

    assert run.status == 0
    assert_verified(transfer, "gpu1", checkpoint)
    assert "changed=0" in transfer.run("-l", "gpu1").output


@pytest.mark.slow
def test_a_run_that_would_send_says_so_and_sends_nothing(transfer: Transfer) -> None:
    run = transfer.run("-l", "gpu1", "--check", "--diff")

    assert run.status == 0
    assert f"artifacts/models/{MODEL}-" in run.output and "config.json" in run.output
    assert transfer.digests("gpu1") == {}
