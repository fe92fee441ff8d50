"""Manifests in the form that SGLang's `--model-checksum` reads, and back.

SGLang 0.5.23 hashes a model's files again before it loads them, and refuses to start where one differs. The file it
takes (`sglang/srt/utils/model_file_verifier.py`: `Manifest.from_dict`, `FileInfo`) is

    {"files": {"config.json": {"sha256": "…", "size": 1034}, …}}

A name is joined to the model's folder, so '/'-separated paths work. Sizes stand in messages only. Files that are not
named are not looked at. An older form, {"checksums": {name: sha256}}, has no sizes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import Manifest, ManifestFile

AGAIN = "generate it again: python -m sglang.srt.utils.model_file_verifier generate --model-path FOLDER"


def to_sglang(manifest: Manifest) -> dict[str, Any]:
    """The manifest as SGLang reads it from a JSON file."""
    return {"files": {entry.path: {"sha256": entry.sha256, "size": entry.size} for entry in manifest.files}}


def from_checksums(value: Any) -> Manifest:
    """The manifest of the files that SGLang's checksums name.

    SGLang's own `generate` names the files at the top of a folder alone, without README, LICENSE and hidden ones: then
    the digest is another than that of the whole folder.

    Args:
        value: what the JSON file holds.
    Raises:
        DeployError: it is no such file, has no sizes, or names what cannot be in a model.
    """
    files = value.get("files") if isinstance(value, Mapping) else None
    if not isinstance(files, Mapping):
        old = isinstance(value, Mapping) and "checksums" in value
        raise DeployError("checksums without sizes" if old else "not checksums of SGLang: no 'files'", AGAIN)
    return Manifest.of(_entry(str(path), about) for path, about in files.items())


def _entry(path: str, about: Any) -> ManifestFile:
    size = about.get("size") if isinstance(about, Mapping) else None
    sha256 = about.get("sha256") if isinstance(about, Mapping) else None
    if not isinstance(sha256, str) or not isinstance(size, int) or isinstance(size, bool):
        raise DeployError(f"not checksums of SGLang: {path!r} has {about!r}, not sha256 and size", AGAIN)
    if size < 0:  # what SGLang writes where it does not know
        raise DeployError(f"the checksums do not say how large {path!r} is", AGAIN)
    return ManifestFile(path, size, sha256.lower())
