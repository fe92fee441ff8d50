"""Manifests: what belongs to an artifact, what it is called, and what differs."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import (
    Manifest,
    build_manifest,
    damaged_files,
    list_files,
    missing_files,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    base = tmp_path / "model"
    (base / "sub").mkdir(parents=True)
    (base / "config.json").write_text("{}")
    (base / "sub" / "weights.safetensors").write_bytes(b"abc")
    return base


def test_the_digest_names_the_content_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    first = build_manifest(str(folder))
    (folder / "checkpoint-100").mkdir()
    (folder / "checkpoint-100" / "optimizer.pt").write_bytes(b"x")
    (folder / "half.tmp").write_bytes(b"x")
    assert build_manifest(str(folder)).digest == first.digest
    folder.rename(tmp_path / "elsewhere")
    assert build_manifest(str(tmp_path / "elsewhere")).digest == first.digest


def test_every_byte_counts(folder: Path) -> None:
    before = build_manifest(str(folder))
    (folder / "sub" / "weights.safetensors").write_bytes(b"abd")
    after = build_manifest(str(folder))
    assert before.digest != after.digest
    ((entry, found),) = damaged_files(before, str(folder))
    assert entry.path == "sub/weights.safetensors"
    assert found != entry.sha256


def test_a_manifest_survives_json(folder: Path) -> None:
    manifest = build_manifest(str(folder))
    assert Manifest.from_dict(manifest.as_dict()) == manifest
    assert manifest.size == 5


def test_a_file_that_is_known_is_not_read_again(folder: Path) -> None:
    known: dict[str, str] = {}
    build_manifest(str(folder), on_hashed=known.__setitem__)
    read: list[str] = []
    build_manifest(str(folder), known=known, on_hashed=lambda path, _: read.append(path))
    assert read == []


def test_missing_and_short_files_are_found(folder: Path) -> None:
    manifest = build_manifest(str(folder))
    (folder / "config.json").unlink()
    (folder / "sub" / "weights.safetensors").write_bytes(b"ab")
    assert missing_files(manifest, str(folder)) == ["config.json", "sub/weights.safetensors"]


def test_a_snapshot_of_a_hugging_face_cache_is_followed(tmp_path: Path) -> None:
    blobs = tmp_path / "models--x" / "blobs"
    snapshot = tmp_path / "models--x" / "snapshots" / "abc"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (blobs / "123").write_text("{}")
    (snapshot / "config.json").symlink_to("../../blobs/123")
    assert list_files(str(snapshot)) == {"config.json": str(blobs / "123")}


@pytest.mark.parametrize("target", ["/etc/hostname", "../outside"])
def test_a_link_that_leaves_the_folder_is_refused(folder: Path, target: str) -> None:
    (folder.parent / "outside").write_text("x")
    (folder / "link").symlink_to(target)
    with pytest.raises(DeployError, match="leaves the folder"):
        list_files(str(folder))


def test_a_broken_link_and_a_wild_name_are_refused(folder: Path) -> None:
    (folder / "broken").symlink_to("nowhere")
    with pytest.raises(DeployError, match="not a file that can be read"):
        list_files(str(folder))
    (folder / "broken").unlink()
    (folder / "two\nlines").write_text("x")
    with pytest.raises(DeployError, match="not allowed"):
        list_files(str(folder))


def test_an_empty_or_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="holds no files"):
        list_files(str(tmp_path))
    with pytest.raises(DeployError, match="is not a folder"):
        list_files(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", "a//b", "x\ny"])
def test_a_manifest_that_would_write_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(DeployError):
        Manifest.from_dict({"files": [{"path": path, "size": 1, "sha256": "0"}]})
