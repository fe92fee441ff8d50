"""What environments take of the disk."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.discovery import sizes
from ansible_collections.deployer.sglang.plugins.module_utils.discovery.sizes import Size, measure

SOON = 3600


def blocks(*paths: Path) -> int:
    return sum(path.lstat().st_blocks * 512 for path in paths)


def write(path: Path, size: int = 10_000) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.urandom(size))
    return path


def measured(*prefixes: Path) -> sizes.Sizes:
    return measure([str(prefix) for prefix in prefixes], time.monotonic() + SOON)


def test_the_size_is_what_du_says(tmp_path: Path) -> None:
    write(tmp_path / "a" / "lib" / "one")
    os.link(tmp_path / "a" / "lib" / "one", tmp_path / "a" / "again")
    (tmp_path / "a" / "link").symlink_to("/usr")
    (tmp_path / "a" / "sparse").open("wb").truncate(10**9)
    said = subprocess.run(["du", "-s", "-B1", tmp_path / "a"], capture_output=True, text=True, check=True)
    found = measured(tmp_path / "a")
    assert found.by_prefix[str(tmp_path / "a")] == Size(int(said.stdout.split()[0]))
    assert found.total == int(said.stdout.split()[0])


def test_what_several_have_is_counted_once_and_told(tmp_path: Path) -> None:
    names = ("a", "b", "c")
    for name in names:
        write(tmp_path / name / "own", 20_000)
    shared = write(tmp_path / "cache" / "shared", 50_000)
    for name in ("a", "b", "c"):
        os.link(shared, tmp_path / name / "shared")
        os.link(shared, tmp_path / name / "shared-again")
    found = measured(*(tmp_path / name for name in names))
    assert {size.shared for size in found.by_prefix.values()} == {blocks(shared)}
    own = [tmp_path / name / "own" for name in names]
    folders = [tmp_path / name for name in names]
    assert found.total == blocks(shared, *own, *folders)


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 5), max_size=6), min_size=1, max_size=4))
def test_the_total_is_that_of_all_inodes(tmp_path_factory: object, layout: list[list[int]]) -> None:
    folder = Path(tmp_path_factory.mktemp("sizes"))  # type: ignore[attr-defined]
    files = [write(folder / "cache" / str(number), 5000 * (number + 1)) for number in range(6)]
    prefixes = []
    for index, numbers in enumerate(layout):
        prefix = folder / str(index)
        prefix.mkdir()
        for position, number in enumerate(numbers):
            os.link(files[number], prefix / str(position))
        prefixes.append(prefix)
    found = measured(*prefixes)
    for prefix, numbers in zip(prefixes, layout):
        others = {number for other in layout if other is not numbers for number in other}
        size = found.by_prefix[str(prefix)]
        assert size.size == blocks(prefix, *(files[number] for number in set(numbers)))
        assert size.shared == blocks(*(files[number] for number in set(numbers) & others))
    assert found.total == blocks(*prefixes, *(files[n] for n in {n for numbers in layout for n in numbers}))


def test_a_root_prefix_is_measured_without_its_environments_and_its_package_cache(tmp_path: Path) -> None:
    root = tmp_path / "conda"
    write(root / "pkgs" / "package", 100_000)
    write(root / "envs" / "a" / "file", 100_000)
    write(root / "elsewhere" / "file", 100_000)
    own = write(root / "bin" / "python")
    found = measured(root, root / "elsewhere")
    assert found.by_prefix[str(root)].size == blocks(root, root / "bin", own)


def test_time_that_is_up_leaves_the_rest_without_a_size(tmp_path: Path) -> None:
    write(tmp_path / "a" / "file")
    assert measure([str(tmp_path / "a")], time.monotonic() - 1).by_prefix == {}


def test_what_is_gone_is_told(tmp_path: Path) -> None:
    found = measured(tmp_path / "gone")
    assert found.by_prefix[str(tmp_path / "gone")] == Size(0, unreadable=1)
