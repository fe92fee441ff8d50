"""What goes in and comes out: an order, the files that it is about, how far it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

RESOLVE, FACTS, FETCH = "resolve", "facts", "fetch"


@dataclass(frozen=True)
class File:
    """A file at its source.

    Attributes:
        path: below the folder.
        size: bytes; negative while unknown.
        sha256: hex, where the source says it.
        state: what a web server says that changes with the content.
        blob: git's id of the content.
    """

    path: str
    size: int
    sha256: str = ""
    state: str = ""
    blob: str = ""


@dataclass(frozen=True)
class Listing:
    """One state of a source.

    Attributes:
        commit: 40 hex digits: the hub's commit, else a digest of the list of files.
        files: sorted by path.
    """

    commit: str
    files: tuple[File, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    def as_dict(self) -> dict[str, Any]:
        """What goes out as JSON; `from_dict` reads it."""
        files = [{"path": file.path, "size": file.size, "sha256": file.sha256} for file in self.files]
        return {"commit": self.commit, "files": files}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Listing:
        """The listing that `as_dict` gave."""
        return cls(value["commit"], tuple(File(**file) for file in value["files"]))


@dataclass(frozen=True)
class Order:
    """What is asked for (see the package)."""

    kind: str
    mode: str
    repository: str = ""
    revision: str = ""
    url: str = ""
    folder: str = ""
    allow: Sequence[str] | None = None
    commit: str = ""
    libraries: Sequence[str] = ()

    @property
    def name(self) -> str:
        """What messages call the source."""
        return self.url if self.kind == "http" else f"{self.repository}@{self.revision}"


@dataclass(frozen=True)
class Progress:
    """How far it is: bytes and files that are there, of how many."""

    bytes: int
    total: int
    files: int
    of: int


def state_of(files: Sequence[File], url: str = "") -> str:
    """A digest of a list of files, as long as a commit's.

    Args:
        url: counts where a file's sha256 is not known: what stands in for it means nothing elsewhere.
    """
    lines = [f"{file.path} {file.size} {file.sha256 or f'{url} {file.state}'}" for file in files]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:40]


def parsed(text: bytes) -> Any:
    """JSON, or None."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None
