"""Hashing many files: the sums of sha256sum, errors file by file, and an end when it is no longer wanted."""

from __future__ import annotations

import hashlib
import os
import threading
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import BLOCK
from ansible_collections.deployer.sglang.plugins.module_utils.weights.hashing import Hashed, hash_files


def states(*paths: Path) -> dict[str, os.stat_result]:
    return {str(path): path.stat() for path in paths}


@pytest.fixture
def files(tmp_path: Path) -> list[Path]:
    sizes = [0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 7]
    paths = [tmp_path / str(size) for size in sizes]
    for path, size in zip(paths, sizes, strict=True):
        path.write_bytes(os.urandom(size))
    return paths


def test_every_file_is_hashed_and_every_byte_told(files: list[Path]) -> None:
    found: dict[str, Hashed] = {}
    told: list[tuple[int, int]] = []
    hash_files(states(*files), found.__setitem__, lambda done, total: told.append((done, total)))
    assert found == {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    total = sum(path.stat().st_size for path in files)
    assert told == sorted(told) and told[-1] == (total, total)
    assert {one for _, one in told} == {total}


def test_an_error_of_one_file_is_that_files(files: list[Path], tmp_path: Path) -> None:
    wanted = states(*files)
    files[1].unlink()
    files[2].write_bytes(b"other")
    files[3].unlink()
    os.mkfifo(files[3])  # would be waited for
    link = tmp_path / "link"
    link.symlink_to(files[4])
    wanted[str(link)] = link.stat()
    found: dict[str, Hashed] = {}
    hash_files(wanted, found.__setitem__, follow=False)
    assert "vanished" in str(found[str(files[1])])
    assert "changed while it was read" in str(found[str(files[2])])
    assert "changed while it was read" in str(found[str(files[3])])
    assert "symbolic links" in str(found[str(link)])
    assert [isinstance(found[str(path)], str) for path in (files[0], files[4], files[5])] == [True] * 3


def test_a_file_that_grows_or_is_replaced_under_the_reader_is_refused(tmp_path: Path) -> None:
    for change in (lambda path: path.open("ab").write(b"x"), lambda path: (tmp_path / "new").rename(path)):
        path = tmp_path / "file"
        path.write_bytes(b"0" * (BLOCK + 1))
        (tmp_path / "new").write_bytes(b"0" * (BLOCK + 1))
        found: dict[str, Hashed] = {}
        once = [change]
        hash_files(states(path), found.__setitem__, lambda *_: once and once.pop()(path))  # noqa: B023
        assert "changed while it was read" in str(found[str(path)])


def test_work_ends_when_it_is_no_longer_wanted(tmp_path: Path) -> None:
    paths = [tmp_path / str(number) for number in range(40)]
    for path in paths:
        path.write_bytes(b"x" * 1000)
    read: list[str] = []

    def stop(path: str, digest: Hashed) -> None:
        read.append(path)
        raise DeployError("enough")

    with pytest.raises(DeployError, match="enough"):
        hash_files(states(*paths), stop)
    assert len(read) == 1
    assert not [one for one in threading.enumerate() if "ThreadPool" in one.name]
