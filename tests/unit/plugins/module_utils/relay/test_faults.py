"""Damage and bad input: found, mended where that can be, and otherwise named; nothing lands that is wrong."""

from __future__ import annotations

import errno
import os
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.relay import receiver, wire
from ansible_collections.deployer.sglang.plugins.module_utils.relay.answer import BLOCK
from ansible_collections.deployer.sglang.plugins.module_utils.relay.background import end
from ansible_collections.deployer.sglang.plugins.module_utils.relay.credentials import server_context
from ansible_collections.deployer.sglang.plugins.module_utils.relay.order import Peer
from tests.doubles.relay_fleet import MB, Fleet, Relay, noise, until


def damage(path: Path, offset: int) -> None:
    """Flip a bit as a bad disk does: nothing but the content changes."""
    before = path.stat()
    with open(path, "r+b") as stream:
        stream.seek(offset)
        byte = stream.read(1)
        stream.seek(offset)
        stream.write(bytes([byte[0] ^ 1]))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


@pytest.fixture
def source(credentials: tuple[str, str]) -> Iterator[Callable[[bytes], Peer]]:
    """A member of the run that answers every request with given bytes."""
    context = server_context(*credentials)
    listeners = []

    def serve(listener: socket.socket, answer: bytes) -> None:
        while True:
            try:
                with context.wrap_socket(listener.accept()[0], server_side=True) as secure:
                    secure.recv(wire.LONGEST_REQUEST)
                    secure.sendall(answer)
            except ssl.SSLError:
                continue
            except OSError:
                return

    def make(answer: bytes) -> Peer:
        listeners.append(socket.create_server(("127.0.0.1", 0)))
        threading.Thread(target=serve, args=(listeners[-1], answer), daemon=True).start()
        return Peer("odd", "127.0.0.1", listeners[-1].getsockname()[1])

    yield make
    for one in listeners:
        one.shutdown(socket.SHUT_RDWR)
        one.close()


def refused(host: Relay) -> str:
    """What a host says that failed; nothing of it is in its place."""
    report = host.until("failed")
    assert not list((host.root / "artifacts").rglob("*")) if (host.root / "artifacts").exists() else True
    until(lambda: not host.alive, "a relay that failed to end")
    return str(report["error"]["problem"])


def test_a_source_whose_disk_damaged_a_block_costs_that_block(fleet: Fleet) -> None:
    model = fleet.model(size=3 * BLOCK + 5)
    seed = fleet.seed(model)
    first = fleet.host("h0", [model], [seed])
    first.until("landed")
    damage(first.folder(model) / "model.safetensors", BLOCK + 1000)
    second = fleet.host("h1", [model], [first, seed])
    report = second.until("landed")
    assert second.has(model)
    assert report["received"] == model.size + BLOCK
    assert report["lost"] == {}


def test_what_an_earlier_run_left_is_verified_and_only_bad_blocks_are_sent_again(fleet: Fleet) -> None:
    model = fleet.model(size=3 * BLOCK + 5)
    seed = fleet.seed(model, limits={"rate": 10 * MB})
    host = fleet.host("h0", [model], [seed])
    host.until_received(2 * BLOCK + MB)
    host.kill()
    arriving = host.arriving(model) / "model.safetensors"
    resumed = arriving.stat().st_size
    damage(arriving, 0)
    damage(arriving, BLOCK - 1)
    damage(arriving, 2 * BLOCK + 7)
    host = fleet.host("h0", [model], [seed])
    report = host.until("landed")
    assert host.has(model)
    assert report["resumed"] == resumed
    assert report["received"] == model.size - resumed + 2 * BLOCK


def test_a_file_that_is_left_too_long_is_cut(fleet: Fleet) -> None:
    model = fleet.model(size=MB)
    seed = fleet.seed(model)
    host = fleet.host("h0", [model], [Peer("nobody", "127.0.0.1", 1)], limits={"start": 0.2, "patience": 0.2})
    host.until("failed")
    (host.arriving(model) / "model.safetensors").write_bytes(noise(MB) + b"more")
    host = fleet.host("h0", [model], [seed])
    assert host.until("landed")["received"] == 0
    assert host.has(model)


def test_a_link_where_files_arrive_is_refused(fleet: Fleet, tmp_path: Path) -> None:
    model = fleet.model(size=MB)
    seed = fleet.seed(model)
    host = Relay(Peer("h0", "", 0), 0, 0, tmp_path / "h0")
    host.arriving(model).mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (host.arriving(model) / "model.safetensors").symlink_to(tmp_path / "secret")
    with pytest.raises(DeployError, match="neither a plain file nor a folder"):
        fleet.host("h0", [model], [seed])
    assert (tmp_path / "secret").read_text() == "secret"


def test_a_folder_where_a_file_arrives_is_named(fleet: Fleet, tmp_path: Path) -> None:
    model = fleet.model(size=MB)
    seed = fleet.seed(model)
    (Relay(Peer("h0", "", 0), 0, 0, tmp_path / "h0").arriving(model) / "model.safetensors").mkdir(parents=True)
    assert "model.safetensors: Is a directory" in refused(fleet.host("h0", [model], [seed]))


def test_the_seed_changes_after_it_was_hashed(fleet: Fleet) -> None:
    model = fleet.model(size=MB)
    seed = fleet.seed(model)
    (model.folder / "model.safetensors").write_bytes(noise(MB, 2))
    first = fleet.host("h0", [model], [seed])
    second = fleet.host("h1", [model], [first, seed], limits={"start": 0.3})
    for host in (first, second):
        assert f"{model.folder}/model.safetensors changed after it was hashed" in refused(host)


def test_the_seed_changes_while_it_is_read(fleet: Fleet) -> None:
    model = fleet.model(size=4 * MB)
    seed = fleet.seed(model, limits={"rate": 4 * MB})
    host = fleet.host("h0", [model], [seed])
    host.until_received(MB)
    with open(model.folder / "model.safetensors", "r+b") as stream:
        stream.write(b"other")
    assert "changed after it was hashed" in refused(host)


def test_the_seed_becomes_shorter_while_it_is_read(fleet: Fleet) -> None:
    model = fleet.model(size=4 * MB)
    seed = fleet.seed(model, limits={"rate": 4 * MB})
    host = fleet.host("h0", [model], [seed])
    host.until_received(MB)
    os.truncate(model.folder / "model.safetensors", 2 * MB)
    assert "became shorter while it was read" in refused(host)


def test_the_seeds_disk_is_damaged(fleet: Fleet) -> None:
    model = fleet.model(size=MB)
    seed = fleet.seed(model)
    damage(model.folder / "model.safetensors", 1000)
    assert "model.safetensors differs from its manifest" in refused(fleet.host("h0", [model], [seed]))


def test_the_disk_becomes_full_half_way(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fleet.model(files={"a": noise(4 * MB), "b": noise(MB, 2)})
    seed = fleet.seed(model)
    write = os.pwrite

    def full(descriptor: int, content: memoryview, offset: int) -> int:
        if offset + len(content) > 2 * MB:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(descriptor, content, offset)

    monkeypatch.setattr(os, "pwrite", full)
    first = fleet.host("h0", [model], [seed])
    monkeypatch.undo()
    second = fleet.host("h1", [model], [first, seed], limits={"start": 0.3})
    assert refused(first) == f"{first.arriving(model)}/a: No space left on device"
    assert "free space" in first.report()["error"]["fix"]
    second.until("landed")
    assert second.has(model)
    first = fleet.host("h0", [model], [seed])
    report = first.until("landed")
    assert report["resumed"] >= MB
    assert report["resumed"] + report["received"] == model.size


def test_a_defect_of_ours_is_said_and_ends_the_relay(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fleet.model(size=MB)
    seed = fleet.seed(model)

    def broken(*_: object) -> int:
        raise ZeroDivisionError("broken")

    monkeypatch.setattr(os, "pwrite", broken)
    host = fleet.host("h0", [model], [seed])
    assert refused(host) == "the relay failed: ZeroDivisionError('broken')"


def test_a_blocked_port_names_the_file_and_who_was_asked(fleet: Fleet) -> None:
    model = fleet.model(size=MB)
    with socket.socket() as held:  # bound, and not listened on: refused
        held.bind(("127.0.0.1", 0))
        sources = [Peer("h9", "127.0.0.1", held.getsockname()[1])]
        host = fleet.host("h0", [model], sources, limits={"start": 0.3, "patience": 0.5})
        said = refused(host)
    assert said.startswith("model.safetensors: no source gives it: h9: no connection to 127.0.0.1 port")
    assert "Connection refused" in said
    assert "ports are open" in host.report()["error"]["fix"]


def test_a_port_that_is_held(fleet: Fleet) -> None:
    model = fleet.model(size=MB)
    with socket.create_server(("127.0.0.3", 0)) as held:
        port = held.getsockname()[1]
        with pytest.raises(DeployError, match=rf"cannot listen on .* port {port}: Address already in use \(pid"):
            fleet.host("h0", [model], [Peer("seed", "127.0.0.1", 1)], address="127.0.0.3", port=port)


def test_an_address_of_another_machine(fleet: Fleet) -> None:
    model = fleet.model(size=MB)
    with pytest.raises(DeployError, match=r"cannot listen on 192\.0\.2\.1 port 1: Cannot assign"):
        fleet.host("h0", [model], [Peer("seed", "127.0.0.1", 1)], address="192.0.2.1", port=1)


def test_another_runs_relay_is_at_it(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    model = fleet.model(size=MB)
    seed = fleet.seed(model)
    first = fleet.host("h0", [model], [seed])
    monkeypatch.setattr(receiver, "LOCK_PATIENCE", 0.1)
    with pytest.raises(DeployError, match="held by the relay of another run"):
        fleet.host("h0", [model], [seed])
    assert end(first.pid, first.start_time)
    fleet.host("h0", [model], [seed]).until("landed")


GARBAGE = [
    b"",
    b"\x00",
    wire.frame(wire.DATA, b"x" * 100)[:50],
    wire.frame(wire.END),
    b"\xff\xff\xff\xff\xff\xff",
    wire.HEADER.pack(wire.DATA, wire.FRAME + 1),
    wire.frame(wire.DATA, b"x" * wire.FRAME) * 8,
    wire.frame(wire.FAILED, b"[]"),
    wire.frame(wire.FAILED, b"\xff"),
    wire.frame(wire.FAILED, b"[" * 20000),
    wire.frame(wire.FAILED, b"{}"),
]


@pytest.mark.parametrize("answer", GARBAGE, ids=range(len(GARBAGE)))
def test_a_source_that_sends_garbage_is_left(fleet: Fleet, source: Callable[[bytes], Peer], answer: bytes) -> None:
    model = fleet.model(size=MB)
    seed = fleet.seed(model)
    host = fleet.host("h0", [model], [source(answer), seed])
    report = host.until("landed")
    assert host.has(model)
    assert "odd" in report["lost"]


@pytest.mark.parametrize(
    "hashes", [b"x", b"[]", b'{"a": 1}', b'["' + b"0" * 64 + b'", "x"]', b"0" * wire.FRAME], ids=range(5)
)
def test_a_seed_that_gives_no_hashes(fleet: Fleet, source: Callable[[bytes], Peer], hashes: bytes) -> None:
    wrong = wire.frame(wire.DATA, noise(MB, 2)[: wire.FRAME])
    odd = source(wrong + wire.frame(wire.END) + wire.frame(wire.DATA, hashes) + wire.frame(wire.END))
    small = fleet.model("small", {"f": noise(wire.FRAME)})
    host = fleet.host("h0", [small], [odd], limits={"start": 0.1, "patience": 0.3})
    assert "no source gives it" in refused(host)
