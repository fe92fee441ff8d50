"""Hashing on the controller: once for a file, however many hosts ask."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import EVERYTHING, model_rules
from ansible_collections.deployer.sglang.plugins.plugin_utils import hashes
from ansible_collections.deployer.sglang.plugins.plugin_utils.hashes import cached_manifest, known_manifest


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("a", "b.tmp"):
        (folder / name).write_text("1")
        os.utime(folder / name, ns=(2, 2))
    return folder


def test_a_file_is_hashed_once_until_it_changes(folder: Path) -> None:
    read: list[int] = []
    first = cached_manifest(str(folder), on_progress=lambda done, _: read.append(done))
    assert cached_manifest(str(folder), on_progress=lambda done, _: read.append(done)) == first
    assert known_manifest(str(folder)) == first
    assert read == [1]
    (folder / "a").write_text("2")
    os.utime(folder / "a", ns=(1, 1))
    assert known_manifest(str(folder)) is None
    assert cached_manifest(str(folder), on_progress=lambda done, _: read.append(done)).digest != first.digest
    assert read == [1, 1]


def test_what_is_left_out_is_as_the_rules_say(folder: Path) -> None:
    assert [one.path for one in cached_manifest(str(folder)).files] == ["a"]
    assert known_manifest(str(folder), EVERYTHING) is None
    assert [one.path for one in cached_manifest(str(folder), EVERYTHING).files] == ["a", "b.tmp"]
    assert known_manifest(str(folder), model_rules(include=["*.tmp"])) == cached_manifest(str(folder), EVERYTHING)


def test_what_was_hashed_before_an_interruption_is_paid_for(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = hashes.build_manifest

    def interrupted(*given: object) -> None:
        build(*given)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    monkeypatch.setattr(hashes, "build_manifest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        cached_manifest(str(folder))
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder.parent / "cache"))
    assert known_manifest(str(folder)) is not None
