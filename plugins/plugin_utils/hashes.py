"""Manifests of folders on the controller, with each file hashed once however many hosts and runs ask."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ansible_collections.deployer.sglang.plugins.module_utils.files import pretty_json, write_file
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import (
    Manifest,
    build_manifest,
    identity,
    list_files,
)
from ansible_collections.deployer.sglang.plugins.plugin_utils.cache import cache_file, cache_path, read_cache

KIND = "hashes"


def cached_manifest(folder: str, exclude: Iterable[str]) -> Manifest:
    """The manifest of `folder`; a file whose size, time and inode are known is not read again.

    Ansible runs one process a host: the first of them hashes, the others wait for it.

    Raises:
        DeployError: as `build_manifest`.
    """
    with cache_file(KIND, os.path.realpath(folder)) as path:
        known = read_cache(path)
        hashed = {}
        manifest = build_manifest(folder, exclude, known, hashed.__setitem__)
        if hashed:
            write_file(path, pretty_json({**known, **hashed}), 0o600)
    return manifest


def known_manifest(folder: str, exclude: Iterable[str]) -> Manifest | None:
    """The manifest of `folder` where every file was hashed before; None where one would have to be read.

    Raises:
        DeployError: as `list_files`.
    """
    exclude = tuple(exclude)
    # Not under the lock, which another run holds for as long as it hashes: the file is replaced in one step.
    known = read_cache(cache_path(KIND, os.path.realpath(folder)))
    if all(identity(real) in known for real in list_files(folder, exclude).values()):
        return build_manifest(folder, exclude, known)
    return None
