"""What a host has of a model already, and how that gets its place."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import Manifest, ManifestFile, build_manifest
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.module_utils.weights.models import manifest_record
from ansible_collections.deployer.sglang.plugins.module_utils.weights.on_host import (
    bringing,
    give_links,
    known_files,
    link,
)
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import MANIFEST_FILE


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "root"))


def model(store: Store, name: str, files: dict[str, bytes]) -> tuple[Manifest, Path]:
    """A model that has landed."""
    folder = Path(store.models, name)
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    manifest = build_manifest(str(folder))
    (folder / MANIFEST_FILE).write_text(manifest_record(manifest, str(folder)))
    return manifest, folder


def wanted(tmp_path: Path, files: dict[str, bytes]) -> Manifest:
    folder = tmp_path / "source"
    for path, content in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(content)
    return build_manifest(str(folder))


def test_nothing_is_there(store: Store, tmp_path: Path) -> None:
    manifest = wanted(tmp_path, {"a": b"aa", "b": b"b"})
    found = bringing(store, "m", manifest)
    assert (found.needed, found.links, found.arrived, found.bytes_to_send) == (manifest, {}, {}, 3)


def test_what_other_models_have_is_linked_and_what_arrived_is_counted(store: Store, tmp_path: Path) -> None:
    _, old = model(store, "old-1", {"x/y": b"aa"})
    manifest = wanted(tmp_path, {"a": b"aa", "b": b"bbbb", "c": b"c"})
    arriving = Path(store.incoming(manifest.digest))
    arriving.mkdir(parents=True)
    (arriving / "a").write_bytes(b"a")  # of no use: it will be a link
    (arriving / "b").write_bytes(b"bb")
    (arriving / "c").write_bytes(b"longer than it should be")
    found = bringing(store, "m", manifest)
    assert found.links == {"a": str(old / "x/y")}
    assert found.arrived == {"b": 2, "c": 1}
    assert [entry.path for entry in found.to_send.files] == ["b", "c"]
    assert found.bytes_to_send == 2


def test_a_model_that_is_in_place_needs_nothing(store: Store) -> None:
    manifest, folder = model(store, "x", {"a": b"a"})
    os.rename(folder, store.model("m", manifest.digest))
    found = bringing(store, "m", manifest)
    assert found.needed.files == ()
    assert found.links == {}


def test_files_that_are_not_what_was_verified_are_not_known(store: Store) -> None:
    model(store, "good", {"a": b"a", "b": b"b"})
    _, changed = model(store, "bad", {"c": b"c"})
    (changed / "c").write_bytes(b"C")
    for name, text in (("broken", "{"), ("empty", "{}"), ("odd", '{"files": [], "verified": 7}'), ("list", "[]")):
        Path(store.models, name).mkdir()
        Path(store.models, name, MANIFEST_FILE).write_text(text)
    Path(store.models, "stray").write_text("")
    assert sorted(os.path.basename(path) for path in known_files(store).values()) == ["a", "b"]


def test_links_get_their_names_where_the_model_lands(store: Store, tmp_path: Path) -> None:
    _, old = model(store, "old-1", {"x": b"aa"})
    manifest = wanted(tmp_path, {"sub/a": b"aa", "b": b"b"})
    found = bringing(store, "m", manifest)
    give_links(store, "m", manifest, found.links, found.states)
    landing = Path(f"{store.incoming(manifest.digest)}.landing")
    assert os.path.samefile(landing / "sub/a", old / "x")
    give_links(store, "m", manifest, found.links, found.states)  # again, after it was cut off
    assert os.path.samefile(landing / "sub/a", old / "x")


def test_what_changes_before_it_is_linked_is_refused(store: Store, tmp_path: Path) -> None:
    _, old = model(store, "old-1", {"x": b"aa"})
    manifest = wanted(tmp_path, {"a": b"aa"})
    found = bringing(store, "m", manifest)
    (old / "x").write_bytes(b"ab")
    with pytest.raises(DeployError, match="old-1/x was changed after it was verified"):
        give_links(store, "m", manifest, found.links, found.states)
    assert not Path(f"{store.incoming(manifest.digest)}.landing", "a").exists()
    os.unlink(old / "x")
    with pytest.raises(DeployError, match="old-1/x was removed meanwhile"):
        give_links(store, "m", manifest, found.links, found.states)


def test_what_is_only_touched_before_it_is_linked_is_read_again(store: Store, tmp_path: Path) -> None:
    _, old = model(store, "old-1", {"x": b"aa"})
    manifest = wanted(tmp_path, {"a": b"aa"})
    found = bringing(store, "m", manifest)
    os.utime(old / "x", (1, 1))
    give_links(store, "m", manifest, found.links, found.states)


@pytest.mark.parametrize("number", [errno.EXDEV, errno.EMLINK, errno.EPERM])
def test_where_no_link_can_be_made_there_is_a_copy(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    manifest, old = model(store, "old-1", {"x": b"aa"})

    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", refuse)
    (tmp_path / "a").write_text("what was there")
    link(str(old / "x"), str(tmp_path / "a"), manifest.files[0])
    assert (tmp_path / "a").read_bytes() == b"aa"
    assert not os.path.samefile(tmp_path / "a", old / "x")
    with pytest.raises(DeployError, match="differs from its manifest"):
        link(str(old / "x"), str(tmp_path / "a"), ManifestFile("x", 2, "0" * 64))


def test_other_problems_of_linking_are_raised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_text("")
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
    with pytest.raises(OSError, match="full"):
        link(str(tmp_path / "x"), str(tmp_path / "a"), ManifestFile("x", 0, ""))
