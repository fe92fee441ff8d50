"""What a host has hashed: each file of weights is read once, until it changes."""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Iterable, Mapping

from ansible_collections.deployer.sglang.plugins.module_utils.files import canonical_json, exclusive_lock, write_file
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import (
    Manifest,
    build_manifest,
    identity,
    list_files,
)
from ansible_collections.deployer.sglang.plugins.module_utils.weights.hashing import OnProgress
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import MODEL, Rules

NAME = "hashes.json"
LARGEST = 64 * 1024 * 1024  # bytes that are read of it
_SHA256 = re.compile(r"[0-9a-f]{64}")

Entries = dict[str, tuple[str, str]]  # path -> identity and sha256


class HashCache:
    """The cache of one host, read when it is made; the file is root's alone, `<root>/cache/hashes.json`.

    Args:
        root: the deployment's root folder.
    Attributes:
        known: sha256 by identity, as `build_manifest` takes it.
    """

    def __init__(self, root: str) -> None:
        self._path = os.path.join(root, "cache", NAME)
        self.known: dict[str, str] = dict(_read(self._path).values())

    def add(self, identity: str, sha256: str) -> None:
        """Remember a hash, as `build_manifest` gives it to `on_hashed`."""
        self.known[identity] = sha256

    def save(self, paths: Iterable[str]) -> None:
        """Keep what is known of files, and forget those that are gone or changed.

        Args:
            paths: real paths of the files that were added; what other runs kept meanwhile stays.
        Raises:
            OSError: the cache cannot be written.
        """
        os.makedirs(os.path.dirname(self._path), mode=0o755, exist_ok=True)
        with exclusive_lock(os.path.join(os.path.dirname(self._path), ".hashes.lock")):
            others = _read(self._path)
            states = {path: state for path in {*others, *paths} if (state := _state(path)) is not None}
            known = {**dict(others.values()), **self.known}
            kept = {path: [state, known[state]] for path, state in sorted(states.items()) if state in known}
            write_file(self._path, canonical_json({"files": kept}), 0o600)

    def manifest(
        self, folder: str, rules: Rules = MODEL, on_progress: OnProgress | None = None, keep: bool = True
    ) -> Manifest:
        """The manifest of a folder on this host; what is read for it is kept, also when it does not come to an end.

        Args:
            folder: on this host.
            rules: what is left out.
            on_progress: as `build_manifest` takes it.
            keep: False writes nothing, as in check mode.
        Raises:
            DeployError: as `build_manifest`.
        """
        before = dict(self.known)
        paths = list_files(folder, rules).values()
        try:
            return build_manifest(folder, rules, before, self.add, on_progress)
        finally:
            if keep and self.known != before:
                self.save(paths)


def _state(path: str) -> str | None:
    try:
        return identity(path)
    except (OSError, ValueError):
        return None


def _read(path: str) -> Entries:
    """What the file holds; nothing where it is missing, damaged, or somebody else could have written it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, encoding="utf-8") as stream:
            about = os.fstat(descriptor)
            ours = stat.S_ISREG(about.st_mode) and about.st_uid == os.geteuid() and not about.st_mode & 0o022
            value = json.loads(stream.read(LARGEST)) if ours else {}
    except (OSError, ValueError, RecursionError):
        return {}
    files = value.get("files") if isinstance(value, Mapping) else None
    return {
        name: (entry[0], entry[1])
        for name, entry in (files.items() if isinstance(files, Mapping) else ())
        if isinstance(entry, list) and len(entry) == 2 and all(isinstance(one, str) for one in entry)
        if _SHA256.fullmatch(entry[1])
    }
