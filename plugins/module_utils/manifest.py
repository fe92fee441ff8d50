"""Manifests: the files of an artifact with their sizes and sha256, and the digest that names them all."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import canonical_json, hash_file

SCHEMA = 1

# What stands in a training folder and is not the model: optimizer states, checkpoints, version control, partial files.
NOT_THE_MODEL = (
    ".git",
    ".cache",
    "__pycache__",
    "checkpoint-*",
    "global_step*",
    "optimizer.*",
    "scheduler.pt",
    "rng_state*.pth",
    "training_args.bin",
    "trainer_log.jsonl",
    "*.tmp",
    "*.part",
    "*.lock",
    "manifest.json",  # the name under which the deployment keeps this very list
)


@dataclass(frozen=True)
class ManifestFile:
    """One file: its path below the folder ('/'-separated), its size in bytes and its sha256 in hex."""

    path: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """The files of an artifact, sorted by path."""

    files: tuple[ManifestFile, ...]

    @property
    def digest(self) -> str:
        """sha256, in hex, of the manifest's canonical JSON: the name of the artifact's content."""
        return hashlib.sha256(canonical_json(self.as_dict()).encode()).hexdigest()

    @property
    def size(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size for entry in self.files)

    def as_dict(self) -> dict[str, Any]:
        """The manifest as JSON holds it."""
        return {
            "schema": SCHEMA,
            "files": [{"path": f.path, "size": f.size, "sha256": f.sha256} for f in self.files],
        }

    @classmethod
    def from_dict(cls, value: Any) -> Manifest:
        """The manifest that `as_dict` gave.

        Raises:
            DeployError: a field is missing, or a path leaves the folder.
        """
        try:
            files = tuple(ManifestFile(str(f["path"]), int(f["size"]), str(f["sha256"])) for f in value["files"])
        except (KeyError, TypeError, ValueError) as error:
            raise DeployError(f"not a manifest: {error!r}", "stage the artifact again") from None
        for entry in files:
            check_path(entry.path)
        return cls(files)


def check_path(path: str) -> None:
    """Refuse a path that leaves its folder or cannot be written in one line.

    Raises:
        DeployError: the path is absolute, holds '..' or a control character.
    """
    parts = path.split("/")
    if path.startswith("/") or ".." in parts or "" in parts or any(ord(c) < 32 or ord(c) == 127 for c in path):
        raise DeployError(f"file name {path!r} is not allowed in an artifact", "rename the file at its source")


def list_files(folder: str, exclude: Iterable[str] = NOT_THE_MODEL) -> dict[str, str]:
    """The files of `folder` that belong to the artifact: path below the folder -> path to read.

    Links are followed as long as they end inside the folder's own tree or at a regular file of a Hugging Face
    cache (whose snapshots are links into ../../blobs); the artifact holds the files themselves.

    Raises:
        DeployError: no such folder, nothing in it, a broken link, a name that is not allowed.
    """
    if not os.path.isdir(folder):
        raise DeployError(f"{folder} is not a folder", "correct the path")
    patterns = tuple(exclude)
    found: dict[str, str] = {}
    for parent, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not _excluded(name, patterns))
        for name in folders:
            if os.path.islink(os.path.join(parent, name)):
                raise DeployError(
                    f"{os.path.join(parent, name)} is a symbolic link to a folder",
                    "replace it by the folder itself, or exclude it",
                )
        for name in sorted(names):
            if _excluded(name, patterns):
                continue
            path = os.path.join(parent, name)
            relative = os.path.relpath(path, folder).replace(os.sep, "/")
            check_path(relative)
            real = os.path.realpath(path)
            if not os.path.isfile(real):
                raise DeployError(f"{path} is not a file that can be read", "restore or remove it at its source")
            if real != path and not _inside(real, folder):
                raise DeployError(
                    f"{path} is a symbolic link that leaves the folder (to {real})", "replace it by the file itself"
                )
            found[relative] = real
    if not found:
        raise DeployError(f"{folder} holds no files", "correct the path")
    return dict(sorted(found.items()))


def _excluded(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns)


def _inside(real: str, folder: str) -> bool:
    """True when `real` lies below the folder, or below the cache that the folder is a snapshot of."""
    base = os.path.realpath(folder)
    allowed = [base]
    if os.path.basename(os.path.dirname(base)) == "snapshots":
        allowed.append(os.path.join(os.path.dirname(os.path.dirname(base)), "blobs"))
    return any(real.startswith(root + os.sep) for root in allowed)


def build_manifest(
    folder: str,
    exclude: Iterable[str] = NOT_THE_MODEL,
    known: Mapping[str, str] | None = None,
    on_hashed: Callable[[str, str], None] | None = None,
) -> Manifest:
    """Hash the files of `folder`, several at a time.

    Args:
        folder: the folder to describe.
        exclude: file and folder names (shell patterns) that are left out.
        known: hashes that need not be paid again, keyed by `identity` of the file.
        on_hashed: called with identity and sha256 for every file that had to be read.
    Raises:
        DeployError: as `list_files`; or a file changed while it was read.
    """

    def entry(item: tuple[str, str]) -> ManifestFile:
        relative, path = item
        before = identity(path)
        digest = (known or {}).get(before)
        if digest is None:
            digest = hash_file(path)
            if identity(path) != before:
                raise DeployError(f"{path} changed while it was read", "wait until it is complete, then run again")
            if on_hashed is not None:
                on_hashed(before, digest)
        return ManifestFile(relative, os.stat(path).st_size, digest)

    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        return Manifest(tuple(pool.map(entry, list_files(folder, exclude).items())))


def identity(path: str) -> str:
    """What tells one state of a file from another without reading it: device, inode, size, mtime."""
    stat = os.stat(path)
    return f"{stat.st_dev}:{stat.st_ino}:{stat.st_size}:{stat.st_mtime_ns}"


def listing_digest(files: Iterable[tuple[str, int]]) -> str:
    """Names a set of files by path and size: what tells, without reading a byte, that a model is probably there.

    Args:
        files: path below the folder, and size in bytes.
    """
    lines = sorted(f"{path} {size}" for path, size in files)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def missing_files(manifest: Manifest, folder: str) -> list[str]:
    """Paths of the manifest's files that `folder` lacks or holds at another size, in manifest order."""
    missing = []
    for entry in manifest.files:
        try:
            size = os.lstat(os.path.join(folder, entry.path)).st_size
        except (FileNotFoundError, NotADirectoryError):
            size = -1
        if size != entry.size:
            missing.append(entry.path)
    return missing


def damaged_files(manifest: Manifest, folder: str) -> list[tuple[ManifestFile, str]]:
    """Files below `folder` whose content is not the manifest's, each with the sha256 that was found."""
    with ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1)) as pool:
        found = pool.map(lambda entry: hash_file(os.path.join(folder, entry.path), follow=False), manifest.files)
        return [(entry, digest) for entry, digest in zip(manifest.files, found) if digest != entry.sha256]
