"""Compare the files of an environment with what its installers recorded, byte by byte.

conda-meta has the sha256 of every file of a conda package, RECORD that of every file of a wheel. A build adds a listing
of its own, which also covers byte code and symbolic links, and which a change of a RECORD does not follow.
Standard library only, Python 3.9+: it runs inside Ansible modules.
"""

from __future__ import annotations

import base64
import binascii
import csv
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.environments.facts import RECORD, UNFINISHED
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import (
    canonical_json,
    hash_file,
    in_batches,
    write_file,
)

LISTING = "environment-files.json"
# What the deployment itself writes, or what changes with use and is no part of the content.
OWN_FILES = frozenset({LISTING, RECORD, UNFINISHED, "conda-meta/history"})
REBUILD = "build it again: python -m deployer rollout -i INVENTORY -e environment_rebuild=true -- --tags environment"


@dataclass(frozen=True)
class Recorded:
    """What installers recorded of a file: its sha256 in hex, and the package that it came with.

    Several packages may bring a file of the same path, and the last one that was installed wins: `build_backend.py` is
    in flashinfer-python and in torch-c-dlpack-ext. Then each of their hashes will do.
    """

    sha256: frozenset[str]
    package: str

    def merged(self, other: Recorded) -> Recorded:
        """What this and another package recorded of one file."""
        return Recorded(self.sha256 | other.sha256, f"{self.package}, {other.package}")


@dataclass(frozen=True)
class Difference:
    """A file that is not what it was.

    Attributes:
        path: below the prefix.
        what: `changed`, `missing` or `added`; or `open`, where others may write it or cannot read it.
        package: whose file it is; '' for a file of no package.
        wanted: sha256, or the target of a link; '' for an added file.
        got: what is there; '' for a missing file.
    """

    path: str
    what: str
    package: str = ""
    wanted: str = ""
    got: str = ""

    def __str__(self) -> str:
        of = f" of {self.package}" if self.package else ""
        if self.what == "open":
            return f"{self.path}{of} {self.got}"
        hashes = f": sha256 wanted {self.wanted}, got {self.got}" if self.what == "changed" else ""
        return f"{self.path}{of} {'was ' if self.what != 'missing' else 'is '}{self.what}{hashes}"


@dataclass(frozen=True)
class Content:
    """What is in a prefix: files with their sha256, symbolic links with their target; paths are below the prefix."""

    files: Mapping[str, str] = field(default_factory=dict)
    links: Mapping[str, str] = field(default_factory=dict)


def read_content(prefix: str | Path) -> Content:
    """Read and hash every file of `prefix`.

    Raises:
        OSError: a file cannot be read.
    """
    root = os.fspath(prefix)
    paths, links = [], {}
    for folder, folders, names in os.walk(root):
        for name in [*names, *(one for one in folders if os.path.islink(os.path.join(folder, one)))]:
            path = os.path.relpath(os.path.join(folder, name), root)
            mode = os.lstat(os.path.join(folder, name)).st_mode
            if stat.S_ISLNK(mode):
                links[path] = os.readlink(os.path.join(folder, name))
            elif not stat.S_ISREG(mode):
                links[path] = "(neither a file nor a link)"  # a pipe would be read for ever
            elif path not in OWN_FILES:
                paths.append(path)
    hashes = in_batches(lambda some: [hash_file(os.path.join(root, path), follow=False) for path in some], paths)
    return Content(dict(zip(paths, hashes)), links)


def recorded_differences(prefix: str | Path, content: Content) -> list[Difference]:
    """How `content` differs from what conda-meta and RECORD say, sorted by path; files of no package are not looked at.

    Raises:
        DeployError: a record cannot be read.
    """
    found = []
    for path, recorded in sorted(recorded_files(prefix).items()):
        got = content.files.get(path)
        wanted = " or ".join(sorted(recorded.sha256))
        if got is None and path not in content.links:
            found.append(Difference(path, "missing", recorded.package, wanted))
        elif got is not None and wanted and got not in recorded.sha256:
            found.append(Difference(path, "changed", recorded.package, wanted, got))
    return found


def listed_differences(prefix: str | Path, content: Content, listed: Content) -> list[Difference]:
    """How `content` differs from the listing that the build left, sorted by path.

    Whatever was added counts: nobody but root writes there, and there are many ways to have Python run other code.
    """
    packages = {path: recorded.package for path, recorded in recorded_files(prefix).items()}
    found = []
    for wanted, got in ((listed.files, content.files), (listed.links, content.links)):
        for path, value in wanted.items():
            if got.get(path) != value:
                what = "changed" if path in got else "missing"
                found.append(Difference(path, what, packages.get(path, ""), value, got.get(path, "")))
        found += [Difference(path, "added", got=got[path]) for path in got if path not in wanted]
    return sorted(set(found), key=lambda difference: difference.path)


def open_files(prefix: str | Path) -> list[Difference]:
    """What others than its owner could change in a prefix, or could not read, sorted by path."""
    root = os.fspath(prefix)
    owner = os.lstat(root).st_uid
    found = []
    for folder, folders, names in os.walk(root):
        for name in [*names, *folders]:
            path = os.path.join(folder, name)
            about = os.lstat(path)
            if stat.S_ISLNK(about.st_mode):
                continue
            wrong = "belongs to another user" if about.st_uid != owner else ""
            wrong = wrong or ("can be written by others than its owner" if about.st_mode & 0o022 else "")
            wrong = wrong or ("" if about.st_mode & 0o004 else "cannot be read by the services' user")
            if wrong:
                found.append(Difference(os.path.relpath(path, root), "open", got=wrong))
    return sorted(found, key=lambda difference: difference.path)


def write_listing(prefix: str | Path, content: Content) -> str:
    """Leave the listing of a finished build in its prefix.

    Returns:
        sha256 (hex) of the listing, for the build's record.
    """
    path = os.path.join(prefix, LISTING)
    write_file(path, canonical_json({"files": content.files, "links": content.links}) + "\n")
    return hash_file(path)


def read_listing(prefix: str | Path, sha256: str) -> Content | None:
    """The listing that a build left; None where its record names none (built by 0.1).

    Args:
        prefix: of a finished build.
        sha256: of the listing, from the build's record.

    Raises:
        DeployError: the listing itself was changed.
    """
    path = os.path.join(prefix, LISTING)
    if not sha256:
        return None
    try:
        if (got := hash_file(path, follow=False)) != sha256:
            raise DeployError(f"{path} was changed: sha256 wanted {sha256}, got {got}", REBUILD)
        with open(path, encoding="utf-8") as stream:
            value = json.load(stream)
    except OSError as error:
        raise DeployError(f"{path} cannot be read: {error.strerror}", REBUILD) from error
    return Content(value["files"], value["links"])


def recorded_files(prefix: str | Path) -> dict[str, Recorded]:
    """Every file that an installer recorded, by its path below the prefix; without sha256 where it recorded none.

    Raises:
        DeployError: a record cannot be read.
    """
    found: dict[str, Recorded] = {}
    wheels = _records(Path(prefix), "lib/python3*/site-packages/*.dist-info/RECORD")
    packages = _records(Path(prefix), "conda-meta/*.json")
    each = [*(_files_of_wheel(path, Path(prefix)) for path in wheels), *map(_files_of_conda_package, packages)]
    for path, recorded in chain.from_iterable(each):
        found[path] = found[path].merged(recorded) if path in found else recorded
    return found


def _records(prefix: Path, pattern: str) -> list[Path]:
    """Regular files alone: a pipe or a device in place of a record would be read for ever."""
    return sorted(path for path in prefix.glob(pattern) if path.is_file())


def _files_of_conda_package(path: Path) -> Iterator[tuple[str, Recorded]]:
    """The files in a package's conda-meta record: https://docs.conda.io, `paths_data`."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
        package = f"{record['name']} {record['version']}"
        for entry in record.get("paths_data", {}).get("paths", []):
            kind = entry.get("path_type", "hardlink")
            # What is compiled or written on installation has no hash; where text was replaced, only the second counts.
            rewritten = bool(entry.get("prefix_placeholder"))
            sha256 = entry.get("sha256_in_prefix") or ("" if rewritten else entry.get("sha256")) or ""
            if kind != "directory":
                yield entry["_path"], Recorded(frozenset({sha256} - {""} if kind == "hardlink" else ()), package)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DeployError(f"{path} is not a record of conda's: {error!r}", REBUILD) from error


def _files_of_wheel(path: Path, prefix: Path) -> Iterator[tuple[str, Recorded]]:
    """The files in a wheel's RECORD (PEP 376, PEP 427): path, `sha256=<urlsafe base64>`, size."""
    package = path.parent.name[: -len(".dist-info")].replace("-", " ")
    site_packages = path.parents[1]
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            for row in csv.reader(stream):
                if len(row) < 2:
                    continue
                inside = os.path.relpath(os.path.normpath(os.path.join(site_packages, row[0])), prefix)
                # Byte code is made again by whoever runs as root, and a RECORD cannot hold its own hash.
                if not inside.startswith("..") and not inside.endswith((".pyc", "RECORD")):
                    yield inside, Recorded(frozenset({_sha256_of(row[1])} - {""}), package)
    except (OSError, ValueError, csv.Error) as error:
        raise DeployError(f"{path} is not a record of a wheel: {error}", REBUILD) from error


def _sha256_of(value: str) -> str:
    """Hex of a RECORD's hash; '' for none and for other algorithms."""
    algorithm, _, digest = value.partition("=")
    if algorithm != "sha256":
        return ""
    try:
        return base64.urlsafe_b64decode(digest + "=" * (-len(digest) % 4)).hex()
    except binascii.Error as error:
        raise ValueError(f"{value} is no sha256") from error
