"""The relay's process: what it begins with, what it tells nobody, and when it ends."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.procfs import read_process
from ansible_collections.deployer.sglang.plugins.module_utils.relay import background
from ansible_collections.deployer.sglang.plugins.module_utils.relay.background import Say, detached, end
from ansible_collections.deployer.sglang.plugins.module_utils.relay.order import Peer, RelayOrder, Wanted
from ansible_collections.deployer.sglang.plugins.module_utils.relay.receiver import LAST_WORDS, Receiver
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.seed import start_seed
from tests.doubles.relay_fleet import MB, Fleet, noise, until


def test_what_is_said_first_is_heard() -> None:
    def work(say: Say) -> None:
        say({"port": 1})
        say({"port": 2})

    answer = detached(work)
    assert answer["port"] == 1
    assert answer["pid"] != os.getpid()


@pytest.mark.parametrize(
    ("error", "problem"),
    [
        (DeployError("no room", "make some"), "no room"),
        (OSError(28, "No space left on device", "/x"), "No space left on device: '/x'"),
        (ZeroDivisionError("broken"), r"the relay failed: ZeroDivisionError\('broken'\)"),
    ],
)
def test_what_goes_wrong_first_is_raised(error: Exception, problem: str) -> None:
    def work(say: Say) -> None:
        raise error

    with pytest.raises(DeployError, match=problem):
        detached(work)


def test_a_process_that_ends_without_a_word() -> None:
    with pytest.raises(DeployError, match="ended at once"):
        detached(lambda say: os._exit(3))


def test_it_has_nothing_of_who_started_it(tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.set_inheritable(writer, True)

    def work(say: Say) -> None:
        links = [os.readlink(f"/proc/self/fd/{name}") for name in ("0", "1", "2")]
        say({"links": links, "session": os.getsid(0), "folder": os.getcwd(), "open": os.path.exists("/proc/self/fd")})

    answer = detached(work)
    os.close(writer)
    assert os.read(reader, 1) == b""
    os.close(reader)
    assert answer["links"] == ["/dev/null"] * 3
    assert answer["folder"] == "/"
    assert answer["session"] not in (0, os.getsid(0))


def test_the_end_of_one_that_does_not_listen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(background, "STOP_TIME", 0.3)

    def work(say: Say) -> None:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        say({})
        signal.pause()

    answer = detached(work)
    assert end(answer["pid"], answer["start_time"])
    process = read_process(answer["pid"])
    assert process is None or process.state == "Z"
    assert not end(answer["pid"], answer["start_time"])


def test_another_process_with_the_same_id_is_let_live() -> None:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        assert not end(process.pid, 1)
        assert process.poll() is None
    finally:
        process.communicate(b"\n")


def test_a_relay_that_is_told_to_end_does_at_once_and_keeps_what_came(fleet: Fleet) -> None:
    model = fleet.model(size=4 * MB)
    seed = fleet.seed(model, limits={"rate": 4 * MB})
    host = fleet.host("h0", [model], [seed], limits={"stall": 600.0})
    host.until_received(MB)
    seed.send(signal.SIGSTOP)  # its stream waits, and would for ten minutes
    assert end(host.pid, host.start_time)
    report = host.report()
    assert report["state"] == "failed"  # it said so itself: SIGKILL was not needed
    assert report["error"]["problem"].endswith("the transfer was ended")
    seed.send(signal.SIGCONT)
    host = fleet.host("h0", [model], [seed])
    assert host.until("landed")["resumed"] >= MB
    assert host.has(model)


def test_a_relay_that_lingers_is_told_to_end(fleet: Fleet) -> None:
    model = fleet.model(size=MB)
    seed = fleet.seed(model)
    host = fleet.host("h0", [model], [seed])
    host.until("landed")
    assert end(host.pid, host.start_time)
    assert host.report()["state"] == "landed"
    assert end(seed.pid, seed.start_time)


def test_a_relay_ends_when_nobody_has_read_for_a_while(fleet: Fleet) -> None:
    model = fleet.model(size=MB)
    seed = fleet.seed(model)
    host = fleet.host("h0", [model], [seed], limits={"linger": 0.3})
    host.until("landed")
    until(lambda: not host.alive, "the relay to end")
    assert seed.alive  # it is watched for: it does not end by itself


def test_a_seed_ends_with_its_controller(fleet: Fleet) -> None:
    controller = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = read_process(controller.pid)
    assert process is not None
    order = fleet.order("127.0.0.1", 0, watch=(process.pid, process.start_time))
    seed = fleet._started("seed", order)
    assert seed.alive
    controller.kill()
    controller.communicate()
    until(lambda: not seed.alive, "the seed to end")


def test_secrets_are_in_no_file_and_no_argument(fleet: Fleet, tmp_path: Path) -> None:
    fleet.start = start_seed
    fleet.token = "a-token-that-is-long-enough-to-be-found"
    model = fleet.model(files={"a": noise(MB), "b": b"b"})
    seed = fleet.seed(model, limits={"rate": MB})
    host = fleet.host("h0", [model], [seed])
    host.until_received(MB // 4)
    key = fleet.credentials[1].splitlines()[1]
    secrets = [fleet.token.encode(), key.encode(), base64.b64decode(key)[10:30]]
    for relay in (seed, host):
        files = [Path(f"/proc/{relay.pid}/{name}") for name in ("cmdline", "environ")]
        files += [path for path in tmp_path.rglob("*") if path.is_file()]
        assert any(path.name == "relay.json" for path in files)
        for path in files:
            assert not any(secret in path.read_bytes() for secret in secrets), path
        open_files = [os.readlink(f"/proc/{relay.pid}/fd/{name}") for name in os.listdir(f"/proc/{relay.pid}/fd")]
        assert not any("memfd" in one for one in open_files)
    host.until("landed")


def test_a_full_disk_still_lets_it_say_so(fleet: Fleet, monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Any] = []
    monkeypatch.setattr(os, "posix_fallocate", lambda *what: kept.append(what))
    order = fleet.order("127.0.0.1", 0, root=str(fleet.base / "h0"))
    receiver = Receiver(order)
    receiver.prepare()
    assert [size for _, _, size in kept] == [LAST_WORDS]
    descriptor = kept[0][0]
    os.fstat(descriptor)
    receiver.end()
    receiver.report()
    with pytest.raises(OSError):
        os.fstat(descriptor)
    assert list((fleet.base / "h0" / "incoming").glob("relay.json"))


def test_an_order_travels_as_json(fleet: Fleet) -> None:
    model = fleet.model(size=MB)
    peers = (Peer("h0", "::1", 1), Peer("seed", "127.0.0.1", 2))
    order = fleet.order("127.0.0.1", 1, root="/x", wanted=(Wanted("m", model.manifest, peers),), watch=(1, 2))
    assert RelayOrder.from_dict(order.as_dict()) == order
    for broken in ({}, {**order.as_dict(), "wanted": [{}]}, {**order.as_dict(), "limits": {"what": 1}}):
        with pytest.raises(DeployError, match="not a relay's order"):
            RelayOrder.from_dict(broken)
