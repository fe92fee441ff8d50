"""Manifests that this controller has met, by digest: so that no task's result has to carry them."""

from __future__ import annotations

import os

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import canonical_json, write_file
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import Manifest
from ansible_collections.deployer.sglang.plugins.plugin_utils.cache import cache_file, cache_path, read_cache

KIND = "manifests"


def remember_manifest(manifest: Manifest) -> None:
    """Keep a manifest.

    Raises:
        DeployError: there is no place to keep it.
    """
    with cache_file(KIND, manifest.digest) as path:
        if not os.path.exists(path):
            write_file(path, canonical_json(manifest.as_dict()), 0o600)


def recall_manifest(digest: str) -> Manifest:
    """The manifest that has this digest.

    Raises:
        DeployError: it was not kept, or was damaged since.
    """
    path = cache_path(KIND, digest)
    manifest = Manifest.from_dict(read_cache(path))
    if manifest.digest != digest:
        raise DeployError(f"{path} is damaged", "remove it and run again")
    return manifest
