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
from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import missing_config_fix, read_weights
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import MANIFEST_FILE


def check_source(files: Mapping[str, str], folder: str) -> None:
    """Refuse a model folder that no engine could load.

    Args:
        files: path below the folder -> path to read (`manifest.list_files`).
        folder: the folder, for the message.
    Raises:
        DeployError: no config.json, no weights, or a file of them that is missing or damaged; the detail has all.
    """
    if "config.json" not in files:
        raise DeployError(f"{folder} has no config.json", missing_config_fix(files))
    _, problems = read_weights(folder, files)
    if problems:
        lines = [f"{path} {problem.removeprefix(path).strip()}" for path, problem, _ in problems]
        raise DeployError(lines[0], problems[0][2], "\n".join(lines[1:]))


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
