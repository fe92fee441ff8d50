"""Manifests of folders on the controller, with each file hashed once however many hosts and runs ask."""

from __future__ import annotations

import os

from ansible_collections.deployer.sglang.plugins.module_utils.files import pretty_json, write_file
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import (
    Manifest,
    build_manifest,
    identity,
    list_files,
)
from ansible_collections.deployer.sglang.plugins.module_utils.weights.hashing import OnProgress
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import MODEL, Rules
from ansible_collections.deployer.sglang.plugins.plugin_utils.cache import cache_file, cache_path, read_cache

KIND = "hashes"


def cached_manifest(folder: str, rules: Rules = MODEL, on_progress: OnProgress | None = None) -> Manifest:
    """The manifest of `folder`; a file whose size, time and inode are known is not read again.

    Ansible runs one process a host: the first of them hashes, the others wait for it.

    Args:
        folder: on the controller.
        rules: what is left out.
        on_progress: bytes read so far and bytes to read in all (`build_manifest`).
    Raises:
        DeployError: as `build_manifest`.
    """
    with cache_file(KIND, _name(folder)) as path:
        known = read_cache(path)
        hashed: dict[str, str] = {}
        try:
            return build_manifest(folder, rules, known, hashed.__setitem__, on_progress)
        finally:  # what was hashed before an interruption is paid for as well
            if hashed:
                write_file(path, pretty_json({**known, **hashed}), 0o600)


def known_manifest(folder: str, rules: Rules = MODEL) -> Manifest | None:
    """The manifest of `folder` where every file was hashed before; None where one would have to be read.

    Raises:
        DeployError: as `list_files`.
    """
    # Not under the lock, which another run holds for as long as it hashes: the file is replaced in one step.
    known = read_cache(cache_path(KIND, _name(folder)))
    if all(identity(real) in known for real in list_files(folder, rules).values()):
        return build_manifest(folder, rules, known)
    return None


def _name(folder: str) -> str:
    """What the cache knows a folder by; its path may be no UTF-8."""
    return os.fsencode(os.path.realpath(folder)).decode(errors="backslashreplace")
