"""Hashing on the controller: once for a file, however many hosts ask."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import manifest as manifest_module
from ansible_collections.deployer.sglang.plugins.plugin_utils.hashes import cached_manifest


def test_a_file_is_hashed_once_until_it_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a").write_text("1")
    hashed: list[str] = []
    hash_file = manifest_module.hash_file
    monkeypatch.setattr(manifest_module, "hash_file", lambda path: hashed.append(path) or hash_file(path))
    first = cached_manifest(str(folder), ())
    assert cached_manifest(str(folder), ()) == first
    assert len(hashed) == 1
    (folder / "a").write_text("2")
    os.utime(folder / "a", ns=(1, 1))
    assert cached_manifest(str(folder), ()).digest != first.digest
    assert len(hashed) == 2
