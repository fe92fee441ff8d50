"""Bytes where files have several names, removal, and uv's own cache."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections import Counter
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.pruning import disk


def test_a_file_counts_where_its_last_name_goes(tmp_path: Path) -> None:
    one, two, stays = tmp_path / "one", tmp_path / "two", tmp_path / "stays"
    for folder in (one, two, stays):
        folder.mkdir()
    for name in ("a", "b"):
        (one / name).write_bytes(b"x" * 100_000)
        os.link(one / name, two / name)
    os.link(one / "b", stays / "b")
    seen: Counter[disk.Inode] = Counter()
    empty = disk.usage(stays) - disk.usage(stays / "b")  # type: ignore[arg-type]
    first, second = disk.frees(str(one), seen), disk.frees(str(two), seen)
    assert first <= empty
    assert second - first >= 100_000
    assert second - first < 200_000


def test_a_link_is_removed_and_not_what_it_names(tmp_path: Path) -> None:
    folder, outside = tmp_path / "folder", tmp_path / "outside"
    folder.mkdir()
    outside.mkdir()
    (outside / "file").touch()
    (folder / "link").symlink_to(outside)
    hidden = disk.hide(str(folder))
    assert os.path.basename(hidden) == ".folder.removing"
    disk.remove(hidden)
    assert (outside / "file").exists()
    folder.symlink_to(outside)
    with pytest.raises(NotADirectoryError):
        disk.hide(str(folder))


def test_what_is_hidden_has_a_name_of_its_own(tmp_path: Path) -> None:
    names = []
    for _ in range(3):
        (tmp_path / "x").mkdir()
        names.append(os.path.basename(disk.hide(str(tmp_path / "x"))))
    assert names == [".x.removing", ".x.removing.2", ".x.removing.3"]
    assert disk.hide(str(tmp_path / names[1])) == str(tmp_path / names[1])


def test_uv_installs_again_what_was_trimmed_from_its_cache(tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    with zipfile.ZipFile(tmp_path / "wheels" / "tiny-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny/__init__.py", "x = 1\n" * 1000)
        wheel.writestr("tiny-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny\nVersion: 1.0\n")
        wheel.writestr("tiny-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.0.dist-info/RECORD", "")
    cache = tmp_path / "cache"

    def install(name: str) -> list[Path]:
        target = tmp_path / name
        words = [f"{os.path.dirname(sys.executable)}/uv", "pip", "install", "--offline", "--no-config", "--no-index"]
        words += ["--link-mode", "hardlink", "--cache-dir", str(cache), "--find-links", str(tmp_path / "wheels")]
        subprocess.run([*words, "--python", sys.executable, "--target", str(target), "tiny"], check=True, cwd=tmp_path)
        return list(target.glob("tiny/__init__.py"))

    assert install("first")[0].stat().st_nlink == 2
    later = time.time() + 60
    assert disk.trim_wheels(str(cache), later) == []
    shutil.rmtree(tmp_path / "first")
    assert disk.unused_wheels(str(cache), Counter(), time.time() - 60) == []
    assert len(disk.trim_wheels(str(cache), later)) == 1
    assert not list(cache.glob("archive-v*/*"))
    assert install("second")[0].stat().st_nlink == 2
