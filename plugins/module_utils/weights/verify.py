"""Say whether the models on a host are still what was brought there; nothing is repaired.

Standard library only, Python 3.9+: it runs inside Ansible modules.
"""

from __future__ import annotations

import os
import re
import stat
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import read_json
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import Manifest, ManifestFile
from ansible_collections.deployer.sglang.plugins.module_utils.store import SHORT, Store
from ansible_collections.deployer.sglang.plugins.module_utils.weights.hashing import (
    Hashed,
    OnProgress,
    hash_files,
    identity_of,
    unreadable,
)
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import MANIFEST_FILE

SHOWN = 50  # problems of a model in a result
NAMED = re.compile(rf"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)-(?P<digest>[0-9a-f]{{{SHORT}}})")
_IDENTITY = re.compile(
    r"[0-9]{1,20}:(?P<inode>[0-9]{1,20}):(?P<size>[0-9]{1,20}):(?P<mtime>-?[0-9]{1,20})"
)  # identity_of

AGAIN = "remove the model's folder on the host while no service runs from it, and roll out again: it is sent anew"
SENT = "roll out again: what is missing is sent anew"
DAMAGED = "remove the files that differ, on the host, and roll out again: they are sent anew; then look at the disk"
TOUCHED = "python -m deployer verify --deep says whether what was written to is still the same"
ADDED = "remove what was added, after you have seen who put it there"
OPEN = "chown and chmod go-w what is named, after you have seen who could write there"
FIXES = (AGAIN, DAMAGED, SENT, OPEN, ADDED, TOUCHED)


@dataclass(frozen=True)
class Problem:
    """A file that is not what it was, wherever in the model's folder.

    Attributes:
        file: path below the folder.
        wanted: size, state or sha256 that it had; '' for what was added.
        got: what is there.
        fix: what to do.
    """

    file: str
    wanted: str
    got: str
    fix: str = DAMAGED


@dataclass(frozen=True)
class CheckedModel:
    """What was found of one model.

    Attributes:
        name: of the model, as its folder has it.
        digest: of its manifest; '' where that cannot be read.
        path: its folder.
        problems: what is wrong, sorted by file.
        files: how many its manifest names.
        bytes: how many were hashed; for a check that is not deep, how many there should be.
        seconds: that it took.
    """

    name: str
    digest: str
    path: str
    problems: tuple[Problem, ...] = ()
    files: int = 0
    bytes: int = 0
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Nothing is wrong with it."""
        return not self.problems

    def as_dict(self) -> dict[str, Any]:
        """The result as JSON holds it, with the first problems and how many there are."""
        shown = [{"file": one.file, "wanted": one.wanted, "got": one.got} for one in self.problems[:SHOWN]]
        return {
            "name": self.name,
            "digest": self.digest,
            "path": self.path,
            "ok": self.ok,
            "problems": shown,
            "count": len(self.problems),
            "fix": "; ".join(fix for fix in FIXES if any(one.fix == fix for one in self.problems)),
            "files": self.files,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 1),
        }


@dataclass
class _Content:
    """What is in a folder: files and what is neither file nor folder, by path below it; folders apart."""

    files: dict[str, os.stat_result] = field(default_factory=dict)
    others: dict[str, str] = field(default_factory=dict)
    folders: dict[str, os.stat_result] = field(default_factory=dict)


def model_paths(root: str) -> Iterator[str]:
    """The model folders below the deployment's root, sorted; what is being put there or removed is not looked at.

    Args:
        root: the deployment's root folder.
    """
    folder = Store(root).models
    try:
        names = sorted(os.listdir(folder))
    except FileNotFoundError:
        return
    for name in names:
        path = os.path.join(folder, name)
        ours = NAMED.fullmatch(name) or os.path.isfile(os.path.join(path, MANIFEST_FILE))
        if ours and not name.startswith(".") and os.path.isdir(path):
            yield path


def check_model(path: str, deep: bool, on_progress: OnProgress | None = None) -> CheckedModel:
    """Look whether a model is what was brought.

    Args:
        path: its folder, with manifest.json.
        deep: read and hash every file; else size, time and inode have to be those that it had when it was verified.
        on_progress: for a deep check, bytes read so far and bytes to read in all.
    """
    started = time.monotonic()
    named = NAMED.fullmatch(os.path.basename(path))
    name, short = (named["name"], named["digest"]) if named else (os.path.basename(path), "")
    try:
        record = _record(path)
        manifest = Manifest.from_dict(record)
        content = _read_content(path)
    except DeployError as error:
        wrong = Problem(MANIFEST_FILE, "the list of the model's files", error.problem, AGAIN)
        return CheckedModel(name, "", path, (wrong,), seconds=time.monotonic() - started)
    problems = _of_manifest(manifest, str(record.get("digest")), short)
    wanted = {entry.path: entry for entry in manifest.files}
    problems += _missing(wanted, content)
    problems += _added(wanted, content)
    problems += _open_to_others(path, wanted, content)
    there = {
        os.path.join(path, entry.path): entry
        for entry in manifest.files
        if entry.path in content.files and content.files[entry.path].st_size == entry.size
    }
    if deep:
        problems += _other_content(there, content, on_progress)
    else:
        problems += _touched(there, content, record)
    size = sum(entry.size for entry in (there.values() if deep else manifest.files))
    problems.sort(key=lambda one: one.file)
    return CheckedModel(
        name, manifest.digest, path, tuple(problems), len(manifest.files), size, time.monotonic() - started
    )


def _record(path: str) -> Mapping[str, Any]:
    """What manifest.json holds.

    Raises:
        DeployError: there is none, or it is damaged.
    """
    place = os.path.join(path, MANIFEST_FILE)
    try:
        if not stat.S_ISREG(os.lstat(place).st_mode):  # a pipe would be read for ever
            raise DeployError("no regular file", AGAIN)
        record = read_json(place)
    except OSError as error:
        raise DeployError(f"cannot be read: {error.strerror}", AGAIN) from None
    if not isinstance(record, Mapping):
        raise DeployError("not a manifest", AGAIN)
    return record


def _of_manifest(manifest: Manifest, recorded: str, short: str) -> list[Problem]:
    """Whether the manifest is the one that its own record and the folder's name speak of."""
    wrong = recorded != manifest.digest or not manifest.digest.startswith(short)
    wanted = recorded if recorded.startswith(short) else f"{short}…"
    return [Problem(MANIFEST_FILE, f"digest {wanted}", f"digest {manifest.digest}", AGAIN)] if wrong else []


def _read_content(path: str) -> _Content:
    """Everything below a folder, by lstat.

    Raises:
        DeployError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise unreadable(str(error.filename), error)

    found = _Content()
    for parent, folders, names in os.walk(path, onerror=refuse):
        for name in [*folders, *names]:
            place = os.path.join(parent, name)
            relative = os.path.relpath(place, path)
            try:
                about = os.lstat(place)
            except OSError:  # gone since: it is missing
                continue
            if stat.S_ISDIR(about.st_mode):
                found.folders[relative] = about
            elif stat.S_ISREG(about.st_mode):
                found.files[relative] = about
            else:
                link = f"a symbolic link to {os.readlink(place)}" if stat.S_ISLNK(about.st_mode) else ""
                found.others[relative] = link or "neither a file nor a folder"
    return found


def _missing(wanted: Mapping[str, ManifestFile], content: _Content) -> list[Problem]:
    """Files that are not there, or are of another size."""
    found = []
    for path, entry in wanted.items():
        about = content.files.get(path)
        if about is None:
            got = content.others.get(path) or ("a folder" if path in content.folders else "missing")
            found.append(Problem(path, _bytes(entry.size), _text(got), SENT if got == "missing" else DAMAGED))
        elif about.st_size != entry.size:
            found.append(Problem(path, _bytes(entry.size), _bytes(about.st_size)))
    return found


def _added(wanted: Mapping[str, ManifestFile], content: _Content) -> list[Problem]:
    """What is there and is not in the manifest: engines read what they find."""
    there = {**dict.fromkeys(content.files, "a file that is not in the manifest"), **content.others}
    return [
        Problem(_text(path), "", _text(got), ADDED)
        for path, got in there.items()
        if path not in wanted and path != MANIFEST_FILE
    ]


def _open_to_others(path: str, wanted: Mapping[str, ManifestFile], content: _Content) -> list[Problem]:
    """What others than the folder's owner could change."""
    top = os.stat(path)
    files = {name: about for name, about in content.files.items() if name in wanted or name == MANIFEST_FILE}
    found = []
    for name, about in {".": top, **content.folders, **files}.items():
        if about.st_uid != top.st_uid or about.st_mode & 0o022:
            got = f"owner {about.st_uid}, mode {stat.S_IMODE(about.st_mode):04o}"
            found.append(Problem(_text(name), f"writable by user {top.st_uid} alone", got, OPEN))
    return found


def _touched(there: Mapping[str, ManifestFile], content: _Content, record: Mapping[str, Any]) -> list[Problem]:
    """Files that were written to, or put there anew, since they were verified."""
    verified = record.get("verified")
    states = verified if isinstance(verified, Mapping) else {}
    found = []
    for entry in there.values():
        then, now = _state(str(states.get(entry.path))), _state(identity_of(content.files[entry.path]))
        if then != now:
            found.append(Problem(entry.path, then, now, TOUCHED))
    return found


def _state(identity: str) -> str:
    """A file's identity for people; without its device, which disks may be given anew when a host boots."""
    match = _IDENTITY.fullmatch(identity)
    if match is None:
        return "a state that was recorded"
    seconds, nanoseconds = divmod(int(match["mtime"]), 10**9)
    when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{match['size']} bytes written {when}.{nanoseconds:09d}Z, inode {match['inode']}"


def _other_content(
    there: Mapping[str, ManifestFile], content: _Content, on_progress: OnProgress | None
) -> list[Problem]:
    """Files that do not hash to what the manifest says, or cannot be read."""
    found = []

    def compare(path: str, digest: Hashed) -> None:
        entry = there[path]
        if isinstance(digest, DeployError):
            found.append(Problem(entry.path, f"sha256 {entry.sha256}", digest.problem))
        elif digest != entry.sha256:
            found.append(Problem(entry.path, f"sha256 {entry.sha256}", f"sha256 {digest}"))

    states = {path: content.files[entry.path] for path, entry in there.items()}
    hash_files(states, compare, on_progress, follow=False)
    return found


def _bytes(size: int) -> str:
    return f"{size} bytes"


def _text(name: str) -> str:
    """A name as JSON can hold it: those of added files may be no UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode()
