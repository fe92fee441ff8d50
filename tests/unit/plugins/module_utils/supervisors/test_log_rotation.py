"""A log that nobody else rotates does not fill the disk."""

from __future__ import annotations

import errno
import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import procfs
from ansible_collections.deployer.sglang.plugins.module_utils.log_reader import read_file
from ansible_collections.deployer.sglang.plugins.module_utils.release import load_release
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import log_rotation, process, supervisor_for
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import stop, wait_until
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.log_rotation import (
    KEPT,
    keep_bounded,
    roots_alone,
)
from tests.doubles.released_host import SERVICE, ReleasedHost


@pytest.fixture
def log(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A log that is being written, and its writer's descriptor."""
    path = tmp_path / "service.log"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o640)
    yield path, descriptor
    os.close(descriptor)


@contextmanager
def folder_of(path: Path) -> Iterator[int]:
    """Its descriptor."""
    descriptor = os.open(path.parent, os.O_RDONLY)
    yield descriptor
    os.close(descriptor)


def rotate(log: int, path: Path, kept: int = KEPT) -> None:
    """Once."""
    with folder_of(path) as folder:
        log_rotation.rotate(log, folder, path.name, kept)


def rotate_or_cut(log: int, path: Path) -> None:
    """What it does when a log of 100 bytes is to be rotated."""
    with folder_of(path) as folder:
        log_rotation._rotate_or_cut(log, folder, path.name, largest=100, kept=4)


def test_a_log_is_copied_and_emptied_and_its_writer_goes_on(log: tuple[Path, int]) -> None:
    path, writer = log
    os.write(writer, b"one\n")
    rotate(writer, path)
    os.write(writer, b"two\n")
    assert path.read_bytes() == b"two\n"
    copy = Path(f"{path}.1")
    assert copy.read_bytes() == b"one\n" and copy.stat().st_mode & 0o777 == 0o640
    assert not Path(f"{path}.part").exists()


def test_so_many_logs_are_kept(log: tuple[Path, int]) -> None:
    path, writer = log
    for number in range(6):
        os.write(writer, f"{number}\n".encode())
        rotate(writer, path, kept=3)
    assert [Path(f"{path}.{at}").read_text() for at in (1, 2, 3)] == ["5\n", "4\n", "3\n"]
    assert not Path(f"{path}.4").exists()
    with folder_of(path) as folder:
        log_rotation.shift(folder, path.name, kept=3)
    assert [Path(f"{path}.{at}").exists() for at in (1, 2, 3)] == [False, True, True]


def test_who_follows_the_log_loses_nothing(log: tuple[Path, int]) -> None:
    path, writer = log
    problems: list[str] = []
    os.write(writer, b"1\n")
    lines, place = read_file(str(path), 0, None, problems)
    os.write(writer, b"2\n3\n")
    rotate(writer, path)
    os.write(writer, b"4\n")
    more, place = read_file(str(path), 0, place, problems)
    os.write(writer, b"5\n")
    last, place = read_file(str(path), 0, place, problems)
    assert (lines, more, last, problems) == (["1"], ["2", "3", "4"], ["5"], [])


def test_a_log_that_somebody_emptied_does_not_bring_an_old_one_back(log: tuple[Path, int]) -> None:
    path, writer = log
    os.write(writer, b"old\nolder and longer\n")
    rotate(writer, path)
    os.write(writer, b"new\n")
    _, place = read_file(str(path), 0, None, [])
    os.ftruncate(writer, 0)
    os.write(writer, b"n\n")
    assert read_file(str(path), 0, place, [])[0] == ["n"]


def test_a_link_at_the_place_of_the_copy_is_not_followed(log: tuple[Path, int], tmp_path: Path) -> None:
    path, writer = log
    (tmp_path / "precious").write_text("mine")
    for name in (f"{path}.part", f"{path}.1"):
        Path(name).symlink_to(tmp_path / "precious")
    os.write(writer, b"one\n")
    rotate(writer, path)
    assert (tmp_path / "precious").read_text() == "mine"
    assert Path(f"{path}.1").read_text() == "one\n" and not Path(f"{path}.1").is_symlink()


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to somebody else")


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """A folder of root's in one of root's."""
    (tmp_path / "a" / "b").mkdir(parents=True, mode=0o755)
    (tmp_path / "link").symlink_to("a/../a")
    return tmp_path


@as_root
def test_root_rotates_where_every_folder_is_roots_alone(folders: Path) -> None:
    assert roots_alone(f"{folders}/a/b/x.log")
    assert roots_alone(f"{folders}/link/b/x.log")
    assert not roots_alone(f"{folders}/a/none/x.log")
    (folders / "for-all").mkdir()
    (folders / "for-all").chmod(0o1777)
    assert not roots_alone(f"{folders}/for-all/x.log")


@as_root
@pytest.mark.parametrize("folder", ["a", "a/b"])
@pytest.mark.parametrize("how", ["owner", "group", "others"])
def test_root_leaves_a_log_where_somebody_else_can_rename(folders: Path, folder: str, how: str) -> None:
    if how == "owner":
        os.chown(folders / folder, 4_000_000, -1)
    else:
        (folders / folder).chmod(0o775 if how == "group" else 0o757)
    log = folders / "a" / "b" / "x.log"
    log.write_text("")
    assert not roots_alone(str(log))
    assert log_rotation._opened(str(log)) == (-1, -1)


@as_root
def test_root_does_not_follow_somebody_elses_link_into_a_folder_of_its_own(folders: Path) -> None:
    (folders / "theirs").mkdir()
    (folders / "theirs" / "logs").symlink_to(folders / "a" / "b")
    os.chown(folders / "theirs", 4_000_000, -1)
    assert not roots_alone(f"{folders}/theirs/logs/x.log")
    os.chown(folders / "link", 4_000_000, -1, follow_symlinks=False)
    assert not roots_alone(f"{folders}/link/b/x.log")
    (folders / "round").symlink_to("round")
    assert not roots_alone(f"{folders}/round/x.log")


def test_a_folder_that_is_swapped_for_a_link_is_not_followed(folders: Path) -> None:
    log = folders / "a" / "b" / "x.log"
    log.write_text("x" * 150)
    folder, descriptor = log_rotation._opened(str(log))
    (folders / "precious").mkdir()
    (folders / "a" / "b").rename(folders / "a" / "old")
    (folders / "a" / "b").symlink_to(folders / "precious")
    log_rotation._rotate_or_cut(descriptor, folder, "x.log", 100, 4)
    assert os.listdir(folders / "precious") == []
    assert (folders / "a" / "old" / "x.log.1").read_text() == "x" * 150
    os.close(folder)
    os.close(descriptor)


def test_what_is_no_file_is_left(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x.log")
    assert log_rotation._opened(str(tmp_path / "x.log")) == (-1, -1)


def test_on_a_full_disk_the_oldest_log_goes_and_at_last_the_one_that_grows(
    log: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, writer = log
    for number in (1, 2):
        Path(f"{path}.{number}").write_text(str(number))
    os.write(writer, b"x" * 150)

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(log_rotation, "_copy", full)
    for left in (["service.log", "service.log.1"], ["service.log"], ["service.log"]):
        rotate_or_cut(writer, path)
        assert sorted(os.listdir(path.parent)) == left and path.stat().st_size == 150
    os.write(writer, b"x" * 100)
    rotate_or_cut(writer, path)
    assert path.stat().st_size == 0 and not Path(f"{path}.part").exists()


def test_a_disk_on_which_the_oldest_log_makes_room_keeps_the_others(
    log: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    path, writer = log
    for number in (1, 2, 3):
        Path(f"{path}.{number}").write_text(str(number))
    os.write(writer, b"x" * 150)

    def room(_: int) -> SimpleNamespace:
        used = sum(one.stat().st_size > 0 for one in path.parent.glob("service.log.*"))
        return SimpleNamespace(f_blocks=100, f_frsize=1, f_bavail=160 if used < 3 else 140)

    monkeypatch.setattr(os, "fstatvfs", room)
    rotate_or_cut(writer, path)
    assert [Path(f"{path}.{at}").read_text() for at in (1, 2, 3)] == ["x" * 150, "1", "2"]
    assert path.stat().st_size == 0


def test_what_fails_for_another_reason_deletes_nothing(log: tuple[Path, int], monkeypatch: pytest.MonkeyPatch) -> None:
    path, writer = log
    Path(f"{path}.1").write_text("old")
    os.write(writer, b"x" * 150)

    def denied(*_: object) -> int:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(log_rotation, "_copy", denied)
    rotate_or_cut(writer, path)
    assert Path(f"{path}.1").read_text() == "old" and path.stat().st_size == 150


def test_it_goes_on_as_long_as_the_process_and_ends_with_it(log: tuple[Path, int]) -> None:
    path, writer = log
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as program:
        start = procfs.start_time_of(program.pid)
        thread = threading.Thread(target=keep_bounded, args=(str(path), program.pid, start, 10, 4, 0.05))
        thread.start()
        os.write(writer, b"more than ten bytes\n")
        assert wait_until(lambda: Path(f"{path}.1").exists(), 20)
        assert thread.is_alive()
        program.communicate(b"\n")
    thread.join(20)
    assert not thread.is_alive()


def test_a_log_that_another_process_rotates_is_left_to_it(log: tuple[Path, int]) -> None:
    path, writer = log
    os.write(writer, b"more than ten bytes\n")
    with path.open("rb") as other, subprocess.Popen(["sleep", "60"]) as program:
        fcntl.flock(other, fcntl.LOCK_EX)
        start = procfs.start_time_of(program.pid)
        thread = threading.Thread(target=keep_bounded, args=(str(path), program.pid, start, 10, 4, 0.02))
        thread.start()
        time.sleep(0.3)
        assert not Path(f"{path}.1").exists()
        fcntl.flock(other, fcntl.LOCK_UN)
        assert wait_until(lambda: path.stat().st_size == 0, 20)
        program.kill()
    thread.join(20)
    assert Path(f"{path}.1").read_bytes() == b"more than ten bytes\n" and not Path(f"{path}.2").exists()


def test_two_that_rotate_one_log_lose_none_of_it(log: tuple[Path, int]) -> None:
    path, writer = log
    with subprocess.Popen(["sleep", "60"]) as program:
        job = (str(path), program.pid, procfs.start_time_of(program.pid), 1000, 1000, 0.01)
        threads = [threading.Thread(target=keep_bounded, args=job) for _ in range(2)]
        for thread in threads:
            thread.start()
        # The next line comes once the last has been rotated: what is lost between copy and emptying is not meant here.
        for number in range(50):
            os.write(writer, b"%04d" % number + b"x" * 1000)
            assert wait_until(lambda: path.stat().st_size == 0, 20)
        program.kill()
    for thread in threads:
        thread.join(20)
    copies = sorted(one.read_bytes()[:4] for one in path.parent.glob("service.log.*"))
    assert copies == [b"%04d" % number for number in range(50)]


def test_another_process_with_the_same_number_is_not_waited_for(log: tuple[Path, int]) -> None:
    path, _ = log
    keep_bounded(str(path), os.getpid(), procfs.start_time_of(os.getpid()) - 1)


CHATTY = """#!/bin/sh
exec {python} -c 'import time
while True:
    print("a line of the log " * 5, flush=True)
    time.sleep(0.002)'
"""


def test_a_process_of_this_supervisor_has_its_log_rotated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_rotation, "LARGEST", 5000)
    monkeypatch.setattr(log_rotation, "EVERY", 0.05)
    host = ReleasedHost(tmp_path)
    host.stage("one")
    launch = Path(host.folder.release("one")) / "launch.sh"
    launch.write_text(CHATTY.format(python=sys.executable))
    supervisor = supervisor_for("process", SERVICE, host.folder)
    supervisor.start_candidate(load_release(host.folder.release("one")))
    try:
        logs = Path(host.folder.logs)
        assert wait_until(lambda: (logs / "service.log.3").exists(), 60)
        sizes = [path.stat().st_size for path in logs.iterdir()]
        # No holes: what is appended begins at the start of the emptied file.
        assert b"\0" not in (logs / "service.log.1").read_bytes()
        assert sum(sizes) < 20 * 5000
        assert {path.name for path in logs.iterdir()} <= {"service.log", "service.log.part"} | {
            f"service.log.{at}" for at in (1, 2, 3, 4)
        }
    finally:
        stop(supervisor, host.port, 5)
    (rotating,) = supervisor._rotating  # type: ignore[attr-defined]
    assert rotating.wait(20) == 0


def test_a_log_that_the_hosts_logrotate_rotates_is_left_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    host = ReleasedHost(tmp_path)
    host.stage("one")
    supervisor = supervisor_for("process", SERVICE, host.folder)
    monkeypatch.setattr(process, "rotates", lambda path: path == supervisor.log)  # type: ignore[attr-defined]
    supervisor.start_candidate(load_release(host.folder.release("one")))
    stop(supervisor, host.port, 5)
    assert supervisor._rotating == []  # type: ignore[attr-defined]


def test_the_file_that_an_adopted_release_writes_to_is_rotated_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_rotation, "LARGEST", 5000)
    monkeypatch.setattr(log_rotation, "EVERY", 0.05)
    own = tmp_path / "home" / "code2sql_8001.log"
    own.parent.mkdir()
    host = ReleasedHost(tmp_path / "root")
    place = Path(host.folder.release(host.stage("one")))
    (place / "launch.sh").write_text(CHATTY.format(python=sys.executable).replace("exec ", f"exec >>{own} "))
    staged = load_release(str(place))
    who = {"uid": os.getuid(), "gid": os.getgid(), "groups": []}
    adopted = {"by": "hand", **who, "log": {"stdout": str(own), "stderr": str(own)}}
    supervisor = supervisor_for("process", SERVICE, host.folder)
    supervisor.start_candidate(replace(staged, release=replace(staged.release, adopted=adopted)))
    try:
        assert wait_until(lambda: own.with_name(f"{own.name}.2").exists(), 60)
    finally:
        stop(supervisor, host.port, 5)
    assert [one.wait(20) for one in supervisor._rotating] == [0, 0]  # type: ignore[attr-defined]
