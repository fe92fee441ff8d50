"""Files that are served: whole ones, and those that grow."""

from __future__ import annotations

import hashlib
import os
import threading
import time
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import ManifestFile, identity
from ansible_collections.deployer.sglang.plugins.module_utils.relay.files import GrowingFile, WholeFile
from ansible_collections.deployer.sglang.plugins.module_utils.relay.hasher import BITE, Hasher, hash_range
from ansible_collections.deployer.sglang.plugins.module_utils.relay.rate import Meter, Throttle
from tests.doubles.relay_fleet import noise


def entry(content: bytes) -> ManifestFile:
    return ManifestFile("f", len(content), hashlib.sha256(content).hexdigest())


def read(file: GrowingFile | WholeFile) -> bytes:
    with os.fdopen(file.open(), "rb") as stream:
        return stream.read()


def test_a_file_can_be_read_while_it_grows_and_wherever_it_is_moved(tmp_path: Path) -> None:
    content = noise(100)
    places = [tmp_path / "arriving", tmp_path / "landing", tmp_path / "place"]
    file = GrowingFile(entry(content), str(places[0]), [str(place) for place in places[1:]])
    assert (file.have, file.wait(0, 0)) == (0, 0)
    file.begin()
    file.append(memoryview(content[:40]))
    assert (file.have, file.wait(0, 0), read(file)) == (40, 40, content[:40])
    file.append(memoryview(content[40:]))
    file.finish()
    for before, after in zip(places, [*places[1:], None]):
        assert read(file) == content
        if after:
            os.rename(before, after)
    os.unlink(places[-1])
    places[-1].write_bytes(content)  # another file, whatever it holds
    with pytest.raises(DeployError, match="place is not any more what was received"):
        file.open()


def test_what_waits_has_no_descriptor_and_can_be_read(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    (tmp_path / "f").write_bytes(b"left by an earlier run")
    files = [GrowingFile(entry(noise(100)), str(tmp_path / "f")) for _ in range(50)]
    assert len(os.listdir("/proc/self/fd")) == before
    assert files[0].resumed == files[0].have == 22
    assert read(files[0]) == b"left by an earlier run"


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "other").write_bytes(b"other")
    (tmp_path / "f").symlink_to(tmp_path / "other")
    file = GrowingFile(entry(noise(100)), str(tmp_path / "f"))
    with pytest.raises(OSError):
        file.begin()
    with pytest.raises(DeployError):
        file.open()


def test_who_waits_hears_of_a_failure(tmp_path: Path) -> None:
    file = GrowingFile(entry(noise(100)), str(tmp_path / "f"))
    heard = []

    def wait() -> None:
        try:
            file.wait(0, 60)
        except DeployError as error:
            heard.append(error.problem)

    thread = threading.Thread(target=wait)
    thread.start()
    file.fail(DeployError("the disk is full"))
    thread.join(30)
    assert heard == ["the disk is full"]


def test_hashing_follows_what_is_written(tmp_path: Path) -> None:
    content = noise(3 * BITE + 17)
    file = GrowingFile(entry(content), str(tmp_path / "f"))
    file.begin()
    hasher = Hasher(file, lambda: False)
    thread = threading.Thread(target=hasher.run)
    thread.start()
    view = memoryview(content)
    for start in range(0, len(content), 300_000):
        file.append(view[start : start + 300_000])
    thread.join(30)
    assert hasher.digest() == entry(content).sha256
    assert hash_range(file, 5, BITE + 9) == hashlib.sha256(content[5 : BITE + 9]).hexdigest()


@pytest.mark.parametrize("why", ["finish", "fail", "stopped"])
def test_hashing_ends_where_nothing_more_comes(tmp_path: Path, why: str) -> None:
    file = GrowingFile(entry(noise(3 * BITE)), str(tmp_path / "f"))
    file.begin()
    stopped = threading.Event()
    hasher = Hasher(file, stopped.is_set)
    thread = threading.Thread(target=hasher.run)
    thread.start()
    file.append(memoryview(noise(100)))
    {"finish": hasher.finish, "fail": lambda: file.fail(DeployError("x")), "stopped": stopped.set}[why]()
    thread.join(30)
    assert not thread.is_alive()
    assert hasher.digest() != file.entry.sha256


def test_a_file_that_is_cut_behind_our_back_is_an_error_of_the_disk(tmp_path: Path) -> None:
    file = GrowingFile(entry(noise(100)), str(tmp_path / "f"))
    file.begin()
    file.append(memoryview(noise(100)))
    os.truncate(tmp_path / "f", 10)
    hasher = Hasher(file, lambda: False)
    hasher.run()
    with pytest.raises(OSError, match="became shorter"):
        hasher.digest()
    with pytest.raises(OSError, match="became shorter"):
        hash_range(file, 0, 100)


def test_a_whole_file_is_what_was_hashed_or_refused(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"content")
    file = WholeFile(entry(b"content"), str(path), identity(str(path)))
    assert (file.wait(3, 0), read(file)) == (7, b"content")
    file.check()
    os.utime(path, (1, 1))
    for use in (file.open, file.check):
        with pytest.raises(DeployError, match="f changed after it was hashed"):
            use()
    os.unlink(path)
    with pytest.raises(DeployError, match="f cannot be read: No such file"):
        file.open()
    with pytest.raises(DeployError, match="changed"):
        file.check()
    os.mkfifo(path)
    with pytest.raises(DeployError, match="changed"):  # and nobody waits for a writer
        file.open()


def test_no_descriptor_is_left_by_a_refusal(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"content")
    file = WholeFile(entry(b"content"), str(path), "another")
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        with pytest.raises(DeployError):
            file.open()
    assert len(os.listdir("/proc/self/fd")) == before


def test_turns_are_given_one_after_the_other() -> None:
    throttle = Throttle(1000)
    waits = [throttle.reserve(1000) for _ in range(3)]
    assert waits[0] <= 1.0
    assert waits[0] < waits[1] < waits[2]
    assert 2.0 < waits[2] <= 3.0
    assert Throttle(0).reserve(10**12) == 0
    assert Throttle(0).portion(100) == 100
    assert Throttle(10).portion(10**6) == 4096
    assert Throttle(10**9).portion(10**6) == 10**6


def test_a_meter_forgets_what_is_longer_ago_than_its_window(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    meter = Meter(10.0)
    meter.count(1000)
    assert not meter.full
    now[0] += 5
    assert meter.rate == 200
    now[0] += 5
    meter.count(500)
    assert meter.full
    assert meter.rate == 150
    now[0] += 1
    assert meter.rate == 50
    meter.restart()
    assert not meter.full
    assert meter.rate == 0
