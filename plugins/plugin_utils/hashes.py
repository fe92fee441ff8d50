"""Manifests of folders on the controller, with each file hashed once however many hosts and runs ask."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.files import (
    exclusive_lock,
    pretty_json,
    read_json,
    write_file,
)
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import Manifest, build_manifest


def cache_folder() -> Path:
    """Where this controller keeps what can be computed again."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "sglang-deployer"


def cached_manifest(folder: str, exclude: Iterable[str]) -> Manifest:
    """The manifest of `folder`; a file whose size, time and inode are known is not read again.

    Ansible runs one process a host: the first of them hashes, the others wait for it.

    Raises:
        DeployError: as `build_manifest`.
    """
    store = cache_folder() / "hashes"
    store.mkdir(parents=True, exist_ok=True)
    path = str(store / f"{hashlib.sha256(os.path.realpath(folder).encode()).hexdigest()[:32]}.json")
    with exclusive_lock(f"{path}.lock"):
        known = read_json(path) or {}
        hashed = {}
        manifest = build_manifest(folder, exclude, known, hashed.__setitem__)
        if hashed:
            write_file(path, pretty_json({**known, **hashed}), 0o600)
    return manifest
