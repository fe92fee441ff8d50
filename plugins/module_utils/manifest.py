"""Manifests: the files of an artifact with their sizes and sha256, and the digest that names them all."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import time
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import canonical_json, hash_file
from ansible_collections.deployer.sglang.plugins.module_utils.weights.hashing import (
    Hashed,
    OnProgress,
    hash_files,
    identity_of,
    is_settled,
    unreadable,
)
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import MODEL, Rules

SCHEMA = 1

_SHA256 = re.compile(r"[0-9a-f]{64}")


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
            DeployError: a field is missing or is not what it must be, a path leaves the folder or stands there twice.
        """
        try:
            if value.get("schema", SCHEMA) != SCHEMA:
                raise ValueError(f"schema {value['schema']!r}, and {SCHEMA} is what this version reads")
            files = [ManifestFile(str(f["path"]), int(f["size"]), str(f["sha256"])) for f in value["files"]]
        except (AttributeError, KeyError, TypeError, ValueError, OverflowError) as error:
            raise DeployError(f"not a manifest: {error!r}", "stage the artifact again") from None
        return cls.of(files)

    @classmethod
    def of(cls, files: Iterable[ManifestFile]) -> Manifest:
        """The manifest of files that somebody else described.

        Raises:
            DeployError: a path, size or sha256 that cannot be; two files that cannot lie in one folder.
        """
        found = tuple(sorted(files, key=lambda entry: entry.path))
        paths = {entry.path for entry in found}
        for entry in found:
            check_path(entry.path)
            if entry.size < 0 or not _SHA256.fullmatch(entry.sha256):
                raise DeployError(
                    f"not a manifest: {entry.path} has size {entry.size} and sha256 {entry.sha256!r}", "make it again"
                )
            parts = entry.path.split("/")
            if paths & {"/".join(parts[:depth]) for depth in range(1, len(parts))}:
                raise DeployError(f"not a manifest: a folder above {entry.path} is a file as well", "make it again")
        if len(paths) != len(found):
            raise DeployError("not a manifest: a file stands in it twice", "make it again")
        return cls(found)


def check_path(path: str) -> None:
    """Refuse a path that leaves its folder, or that cannot be written in one line of UTF-8.

    Raises:
        DeployError: the path is absolute, holds '.', '..', a control character or line separator, or bytes that are
            not UTF-8.
    """
    # Cs: how Python holds bytes of a name that are not UTF-8.
    wild = any(unicodedata.category(char) in ("Cc", "Cs", "Zl", "Zp") for char in path)
    if wild or not {"", ".", ".."}.isdisjoint(path.split("/")):
        raise DeployError(f"file name {path!r} is not allowed in an artifact", "rename the file at its source")


@dataclass(frozen=True)
class _Found:
    path: str  # where it lies
    relative: str
    is_folder: bool
    rule: str | None  # that leaves it out


def _walk(folder: str, rules: Rules) -> Iterator[_Found]:
    """All of a folder but what is in folders that are left out.

    Raises:
        DeployError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise unreadable(str(error.filename), error)

    for parent, folders, names in os.walk(folder, onerror=refuse):
        below = "" if parent == folder else f"{os.path.relpath(parent, folder)}{os.sep}"
        kept = []
        for name, is_folder in [*((name, True) for name in folders), *((name, False) for name in names)]:
            relative = f"{below}{name}".replace(os.sep, "/")
            found = _Found(os.path.join(parent, name), relative, is_folder, rules.reason(relative))
            if is_folder and found.rule is None:
                kept.append(name)
            yield found
        folders[:] = kept


def list_files(folder: str, rules: Rules = MODEL) -> dict[str, str]:
    """The files of `folder` that belong to the artifact: path below the folder -> path to read.

    Links are followed as long as they end inside the folder's own tree or at a regular file of a Hugging Face
    cache (whose snapshots are links into ../../blobs); the artifact holds the files themselves.

    Raises:
        DeployError: no such folder, nothing in it, a broken link or one that leads out, what is no file, a name that
            is not allowed, a folder that cannot be read.
    """
    if not os.path.isdir(folder):
        raise DeployError(f"{folder} is not a folder", "correct the path")
    found: dict[str, str] = {}
    rule = ""
    for one in _walk(folder, rules):
        if one.rule is not None:
            rule = one.rule
            continue
        try:
            check_path(one.relative)
        except DeployError as error:
            raise DeployError(f"{folder}: {error.problem}", f"{error.fix}, or exclude it") from None
        if not one.is_folder:
            found[one.relative] = _real(one.path, folder)
        elif os.path.islink(one.path):
            raise DeployError(
                f"{one.path} is a symbolic link to a folder", "replace it by the folder itself, or exclude it"
            )
    if not found and rule:
        raise DeployError(f"{folder} holds no files but those that are left out (as {rule})", "correct path or rules")
    if not found:
        raise DeployError(f"{folder} holds no files", "correct the path")
    return dict(sorted(found.items()))


def left_out(folder: str, rules: Rules = MODEL) -> list[tuple[str, str]]:
    """What `rules` leave out of a folder, each with the pattern that does; a folder stands for all in it, with '/'.

    Raises:
        DeployError: a folder cannot be read.
    """
    found = [(f"{one.relative}/" if one.is_folder else one.relative, one.rule) for one in _walk(folder, rules)]
    return sorted((path, rule) for path, rule in found if rule is not None)


def _real(path: str, folder: str) -> str:
    """The regular file that `path` is, or is a link to.

    Raises:
        DeployError: there is none, or it is not the folder's.
    """
    real = os.path.realpath(path)
    try:
        mode = os.stat(real).st_mode
    except OSError as error:
        what = f"a symbolic link to {real}, which is not there" if os.path.islink(path) else str(error.strerror)
        raise DeployError(f"{path} is not a file that can be read: {what}", "restore it, or exclude it") from None
    if not stat.S_ISREG(mode):
        kind = next((kind for is_kind, kind in _KINDS if is_kind(mode)), "no regular file")
        raise DeployError(f"{path} is not a file that can be read: {kind}", "remove it at its source, or exclude it")
    if real != path and not _inside(real, folder):
        raise DeployError(
            f"{path} is a symbolic link that leaves the folder (to {real})", "replace it by the file itself"
        )
    return real


_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISDIR, "a folder"),
)


def _inside(real: str, folder: str) -> bool:
    """True when `real` lies below the folder, or below the cache that the folder is a snapshot of."""
    base = os.path.realpath(folder)
    allowed = [base]
    if os.path.basename(os.path.dirname(base)) == "snapshots":
        allowed.append(os.path.join(os.path.dirname(os.path.dirname(base)), "blobs"))
    return any(real.startswith(root + os.sep) for root in allowed)


def build_manifest(
    folder: str,
    rules: Rules = MODEL,
    known: Mapping[str, str] | None = None,
    on_hashed: Callable[[str, str], None] | None = None,
    on_progress: OnProgress | None = None,
) -> Manifest:
    """Hash the files of `folder`, several at a time, the largest first.

    Args:
        folder: the folder to describe.
        rules: what is left out.
        known: hashes that need not be paid again, keyed by `identity` of the file.
        on_hashed: called with identity and sha256 for every file that had to be read, as it is done; not for a file
            that was written to so recently that another write might not show in its time.
        on_progress: bytes read so far and bytes to read in all, for every block; calls do not overlap.
    Raises:
        DeployError: as `list_files`; or a file cannot be read, or the folder changed meanwhile.
    """
    now = time.time()
    files = list_files(folder, rules)
    states = {real: _stat(real) for real in files.values()}
    hashes = {
        state: digest
        for state in map(identity_of, states.values())
        if _SHA256.fullmatch(digest := str((known or {}).get(state, "")))  # a damaged cache knows nothing
    }
    # Several names of one file are read once.
    unread = {identity_of(state): real for real, state in states.items() if identity_of(state) not in hashes}

    def done(real: str, digest: Hashed) -> None:
        if isinstance(digest, DeployError):
            raise digest
        hashes[identity_of(states[real])] = digest
        if on_hashed is not None and is_settled(states[real], now):
            on_hashed(identity_of(states[real]), digest)

    hash_files({real: states[real] for real in unread.values()}, done, on_progress)
    _refuse_changes(folder, files, list_files(folder, rules), states)
    return Manifest(
        tuple(
            ManifestFile(relative, states[real].st_size, hashes[identity_of(states[real])])
            for relative, real in files.items()
        )
    )


def _refuse_changes(
    folder: str, before: Mapping[str, str], after: Mapping[str, str], states: Mapping[str, os.stat_result]
) -> None:
    """Refuse a folder that is not what it was when hashing began; files that were read early may have changed since."""
    changed = {path for path, _ in before.items() ^ after.items()}
    changed |= {path for path, real in before.items() if identity_of(_stat(real)) != identity_of(states[real])}
    for path in sorted(changed):
        what = "changed" if path in before and path in after else "appeared" if path in after else "vanished"
        raise DeployError(
            f"{os.path.join(folder, path)} {what} while the folder was read",
            "wait until nobody writes there any more, then run again",
        )


def _stat(path: str) -> os.stat_result:
    try:
        return os.stat(path)
    except OSError as error:
        raise unreadable(path, error) from None


def identity(path: str) -> str:
    """What tells one state of a file from another without reading it (`hashing.identity_of`)."""
    return identity_of(os.stat(path))


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
