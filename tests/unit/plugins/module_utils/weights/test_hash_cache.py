"""A host's hashes: paid once, forgotten with the file, and nothing that breaks or that others wrote is believed."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import manifest as manifest_module
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import build_manifest
from ansible_collections.deployer.sglang.plugins.module_utils.weights.hash_cache import HashCache


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root").mkdir()
    return tmp_path / "root"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / name).write_text(name)
        os.utime(folder / name, ns=(10**18, 10**18))
    return folder


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of files that were hashed."""
    names: list[str] = []
    hash_files = manifest_module.hash_files

    def counting(files: dict[str, os.stat_result], *rest: object) -> None:
        names.extend(os.path.basename(path) for path in files)
        hash_files(files, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(manifest_module, "hash_files", counting)
    return names


def stored(root: Path) -> dict[str, list[str]]:
    return json.loads((root / "cache" / "hashes.json").read_text())["files"]


def test_a_file_is_hashed_once_until_it_changes(root: Path, folder: Path, read: list[str]) -> None:
    first = HashCache(str(root)).manifest(str(folder))
    assert HashCache(str(root)).manifest(str(folder)) == first
    assert sorted(read) == ["a", "b"]
    os.utime(folder / "a", ns=(10**18 + 1, 10**18 + 1))
    assert HashCache(str(root)).manifest(str(folder)) == first
    assert sorted(read) == ["a", "a", "b"]
    assert (root / "cache" / "hashes.json").stat().st_mode & 0o777 == 0o600


def test_what_is_gone_or_changed_is_forgotten(root: Path, folder: Path, tmp_path: Path) -> None:
    HashCache(str(root)).manifest(str(folder))
    assert set(stored(root)) == {str(folder / "a"), str(folder / "b")}
    (folder / "a").unlink()
    (folder / "b").write_text("other")  # just now: not kept
    other = tmp_path / "other"
    other.mkdir()
    (other / "c").write_text("c")
    os.utime(other / "c", ns=(10**18, 10**18))
    HashCache(str(root)).manifest(str(other))
    assert set(stored(root)) == {str(other / "c")}


def test_it_serves_build_manifest_and_keeps_what_others_kept(root: Path, folder: Path) -> None:
    early, late = HashCache(str(root)), HashCache(str(root))
    manifest = build_manifest(str(folder), on_hashed=early.add)
    early.save([str(folder / "a")])
    late.save([])
    assert set(stored(root)) == {str(folder / "a")}
    early.save([str(folder / "b")])
    assert {digest for _, digest in stored(root).values()} == {one.sha256 for one in manifest.files}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"files": []}',
        '{"files": {"/x": 1, "/y": ["a"], "/z": ["a", 1], "/w": ["a", "b"]}}',
        "[" * 99999,
    ],
)
def test_a_damaged_file_knows_nothing(root: Path, folder: Path, text: str) -> None:
    (root / "cache").mkdir()
    (root / "cache" / "hashes.json").write_text(text)
    assert HashCache(str(root)).known == {}
    HashCache(str(root)).manifest(str(folder))
    assert len(HashCache(str(root)).known) == 2


def test_what_somebody_else_could_have_written_is_not_believed(root: Path, folder: Path, tmp_path: Path) -> None:
    HashCache(str(root)).manifest(str(folder))
    path = root / "cache" / "hashes.json"
    path.chmod(0o666)
    assert HashCache(str(root)).known == {}
    path.chmod(0o600)
    assert len(HashCache(str(root)).known) == 2
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert HashCache(str(root)).known == {}
    path.unlink()
    os.mkfifo(path)  # would be waited for
    assert HashCache(str(root)).known == {}


def test_what_was_hashed_before_an_interruption_is_kept(
    root: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = HashCache(str(root))
    add = cache.add

    def interrupted(identity: str, sha256: str) -> None:
        add(identity, sha256)
        raise KeyboardInterrupt

    monkeypatch.setattr(cache, "add", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cache.manifest(str(folder))
    assert len(stored(root)) == 1
