"""Model folders: complete at their source, and verified on the host."""

from __future__ import annotations

import os
from collections.abc import Mapping

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import hash_file, pretty_json, read_json
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import (
    Manifest,
    ManifestFile,
    identity,
    missing_files,
)
from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import WEIGHTS, missing_config_fix
from ansible_collections.deployer.sglang.plugins.module_utils.safetensors import missing_shards, read_header

MANIFEST_FILE = "manifest.json"


def check_source(files: Mapping[str, str], folder: str) -> None:
    """Refuse a model folder that no engine could load.

    Args:
        files: path below the folder -> path to read (`manifest.list_files`).
        folder: the folder, for the message.
    Raises:
        DeployError: no config.json, no weights, a shard that the index names and nobody has, a truncated safetensors.
    """
    if "config.json" not in files:
        raise DeployError(f"{folder} has no config.json", missing_config_fix(files))
    if not any(path.endswith(WEIGHTS) for path in files):
        raise DeployError(f"{folder} holds no weights (none of *{', *'.join(WEIGHTS)})", "copy the weights there")
    for path, real in files.items():
        if path.endswith(".index.json"):
            _check_index(path, files, folder)
        elif path.endswith(".safetensors"):
            read_header(real)


def _check_index(path: str, files: Mapping[str, str], folder: str) -> None:
    missing = missing_shards(path, files)
    if missing:
        raise DeployError(
            f"{os.path.join(folder, path)} names {len(missing)} files that are missing, the first is {missing[0]}",
            "copy the missing weights there",
        )


def missing_from_model(target: str, manifest: Manifest) -> Manifest:
    """The part of the manifest that has still to be brought to `target`.

    A file that was written to since it was verified is read again; the others are told by size, time and inode.

    Raises:
        DeployError: such a file is not what was verified.
    """
    record = read_json(os.path.join(target, MANIFEST_FILE)) or {}
    verified = record.get("verified", {})
    missing = set(missing_files(manifest, target))
    for entry in manifest.files:
        path = os.path.join(target, entry.path)
        if entry.path not in missing and verified.get(entry.path) != identity(path):
            _check_content(path, entry)
    return Manifest(tuple(entry for entry in manifest.files if entry.path in missing))


def _check_content(path: str, entry: ManifestFile) -> None:
    found = hash_file(path)
    if found != entry.sha256:
        raise DeployError(
            f"{path} was changed after it was verified: sha256 wanted {entry.sha256}, got {found}",
            "remove that file on the host and deploy again: it is sent anew; then look at the disk",
        )


def manifest_record(manifest: Manifest, *folders: str) -> str:
    """The text of a model's manifest.json: the manifest, and the state of each file when it was verified.

    Args:
        manifest: of the model.
        folders: where its files lie now, each in the first folder that has it; moving them there keeps their state.
    """

    def path(name: str) -> str:
        return next(p for p in (os.path.join(folder, name) for folder in folders) if os.path.exists(p))

    verified = {entry.path: identity(path(entry.path)) for entry in manifest.files}
    return pretty_json({"digest": manifest.digest, **manifest.as_dict(), "verified": verified})
