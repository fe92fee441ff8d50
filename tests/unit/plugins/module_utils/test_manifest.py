"""Manifests: what belongs to an artifact, what it is called, and what differs."""

from __future__ import annotations

import contextlib
import hashlib
import os
import socket
import tempfile
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import (
    Manifest,
    ManifestFile,
    build_manifest,
    check_path,
    damaged_files,
    identity,
    left_out,
    list_files,
    missing_files,
)
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import EVERYTHING, model_rules


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


def settle(folder: Path) -> None:
    """Give every file a time that is not just now."""
    for path in folder.rglob("*"):
        if path.is_file():
            os.utime(path, ns=(10**18, 10**18))


def test_a_file_that_is_known_is_not_read_again(folder: Path) -> None:
    settle(folder)
    known: dict[str, str] = {}
    build_manifest(str(folder), on_hashed=known.__setitem__)
    read: list[str] = []
    build_manifest(str(folder), known=known, on_hashed=lambda path, _: read.append(path))
    assert read == []
    assert len(known) == 2


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


@pytest.mark.parametrize(
    "path", ["/etc/passwd", "../x", "a/../../x", "a//b", "a/./b", "", ".", "x\ny", "x\x1b[2J", "x\u2028y", "x\udcff"]
)
def test_a_manifest_that_would_write_elsewhere_is_refused(path: str) -> None:
    with pytest.raises(DeployError):
        Manifest.from_dict({"files": [{"path": path, "size": 1, "sha256": "0" * 64}]})


FINE = {"path": "a", "size": 1, "sha256": "0" * 64}


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"files": 1},
        {"files": [1]},
        {"files": [{**FINE, "size": -1}]},
        {"files": [{**FINE, "size": float("inf")}]},
        {"files": [{**FINE, "sha256": "0" * 40}]},
        {"files": [{**FINE, "sha256": "A" * 64}]},
        {"files": [FINE, FINE]},
        {"files": [FINE, {**FINE, "path": "a/b"}]},
        {"files": [FINE], "schema": 2},
    ],
)
def test_what_is_no_manifest_is_refused(value: object) -> None:
    with pytest.raises(DeployError, match="not a manifest"):
        Manifest.from_dict(value)


def test_the_order_in_which_files_are_described_does_not_count() -> None:
    files = [ManifestFile(name, 1, "0" * 64) for name in ("b", "a/c", "a")]
    assert Manifest.of(files[:2]) == Manifest.of(reversed(files[:2]))


# Any characters, and any bytes: file systems take all but two.
TEXTS = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60)
NAMES = (TEXTS.map(str.encode) | st.binary(min_size=1, max_size=60)).filter(
    lambda name: name not in (b".", b"..") and not {0, ord("/")} & set(name)
)


@given(st.lists(NAMES, min_size=1, max_size=5, unique=True))
@settings(max_examples=200)
def test_any_name_is_hashed_as_it_is_or_refused_by_name(names: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        there = [os.fsdecode(name) for name in names]
        for name in there:
            Path(folder, name).write_bytes(os.fsencode(name))
        if any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for name in there for char in name):
            with pytest.raises(DeployError, match="is not allowed") as error:
                list_files(folder, EVERYTHING)
            str(error.value).encode()  # can be printed
            assert error.value.fix
            return
        manifest = build_manifest(folder, EVERYTHING)
        assert [entry.path for entry in manifest.files] == sorted(there)
        for entry in manifest.files:
            check_path(entry.path)
            assert entry.sha256 == hashlib.sha256(Path(folder, entry.path).read_bytes()).hexdigest()
        assert Manifest.from_dict(manifest.as_dict()) == manifest


def test_a_wild_name_that_is_left_out_does_no_harm(folder: Path) -> None:
    (folder / "checkpoint-\n").mkdir()
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.tmp")).write_text("x")
    assert len(list_files(str(folder))) == 2
    assert [rule for _, rule in left_out(str(folder))] == ["checkpoint-*", "*.tmp"]


def test_rules_of_the_user_count(folder: Path) -> None:
    (folder / "notes.tmp").write_text("x")
    assert list(list_files(str(folder), model_rules(["sub"], ["notes.tmp"]))) == ["config.json", "notes.tmp"]
    with pytest.raises(DeployError, match=r"holds no files but those that are left out \(as \*\)"):
        list_files(str(folder), model_rules(["*"]))


@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_file_is_refused_by_its_kind(folder: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "odd"
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "socket":
        monkeypatch.chdir(folder)  # a socket's path may not be long
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as listener:
            listener.bind("odd")
    else:
        try:
            os.mknod(path, 0o20666, os.makedev(1, 3))
        except PermissionError:
            pytest.skip("needs the right to make devices")
    with pytest.raises(DeployError, match=f"odd is not a file that can be read: a .*{kind}"):
        list_files(str(folder))


def test_a_link_to_a_folder_and_one_to_itself_are_refused(folder: Path) -> None:
    (folder / "linked").symlink_to("sub")
    with pytest.raises(DeployError, match="is a symbolic link to a folder"):
        list_files(str(folder))
    (folder / "linked").unlink()
    (folder / "round").symlink_to("round")
    with pytest.raises(DeployError, match="round is not a file that can be read"):
        list_files(str(folder))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_what_cannot_be_read_is_refused_not_passed_over(folder: Path) -> None:
    (folder / "sub").chmod(0)
    with pytest.raises(DeployError, match="cannot be read: Permission denied"):
        list_files(str(folder))
    (folder / "sub").chmod(0o755)
    (folder / "config.json").chmod(0)
    with pytest.raises(DeployError, match=r"config\.json cannot be read: Permission denied"):
        build_manifest(str(folder))


def test_a_folder_that_cannot_be_read_is_refused_not_passed_over(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def denied(path: str) -> object:
        if os.path.basename(path) == "sub":
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", denied)
    with pytest.raises(DeployError, match="sub cannot be read: Permission denied"):
        list_files(str(folder))


def test_files_are_told_as_they_are_read_and_known_ones_are_not(folder: Path) -> None:
    settle(folder)
    told: list[tuple[int, int]] = []
    known: dict[str, str] = {}
    build_manifest(str(folder), on_hashed=known.__setitem__, on_progress=lambda *now: told.append(now))
    assert told == [(3, 5), (5, 5)] or told == [(2, 5), (5, 5)]
    told.clear()
    build_manifest(str(folder), known=known, on_progress=lambda *now: told.append(now))
    assert told == []


def test_names_of_one_file_are_read_once(folder: Path) -> None:
    os.link(folder / "sub" / "weights.safetensors", folder / "again")
    told: list[tuple[int, int]] = []
    manifest = build_manifest(str(folder), on_progress=lambda *now: told.append(now))
    assert told[-1] == (5, 5)
    assert len(manifest.files) == 3 and manifest.size == 8


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda folder: (folder / "new").write_text("x"), "new appeared"),
        (lambda folder: (folder / "config.json").unlink(), r"config\.json vanished"),
        (lambda folder: (folder / "config.json").write_text("[]"), r"config\.json changed"),
        (lambda folder: os.utime(folder / "config.json", ns=(1, 1)), r"config\.json changed"),
    ],
)
def test_a_folder_that_changes_while_it_is_read_is_refused(
    folder: Path, change: Callable[[Path], object], what: str
) -> None:
    (folder / "config.json").write_text("")  # is read in no time
    once = [change]
    with pytest.raises(DeployError, match=what) as error:
        build_manifest(str(folder), on_progress=lambda *_: once and once.pop()(folder))
    assert "run again" in error.value.fix


def test_a_file_written_just_now_is_not_kept(folder: Path) -> None:
    """A second write of the same size may give it the same time: then its old hash would be believed for ever."""
    known: dict[str, str] = {}
    for when, kept in ((time.time(), 0), (time.time() + 3600, 0), (time.time() - 3600, 2)):
        for path in (folder / "config.json", folder / "sub" / "weights.safetensors"):
            os.utime(path, (when, when))
        build_manifest(str(folder), on_hashed=known.__setitem__)
        assert len(known) == kept


def test_a_damaged_hash_is_paid_again(folder: Path) -> None:
    wanted = build_manifest(str(folder))
    paths = (folder / "config.json", folder / "sub" / "weights.safetensors")
    for damage in ("", "0" * 63, "G" * 64):
        assert build_manifest(str(folder), known={identity(str(path)): damage for path in paths}) == wanted


def test_mode_owner_and_links_are_no_part_of_an_identity(folder: Path) -> None:
    before = identity(str(folder / "config.json"))
    (folder / "config.json").chmod(0o600)
    os.link(folder / "config.json", folder.parent / "elsewhere")
    assert identity(str(folder / "config.json")) == before
