"""Writes files that people may have edited since: what they wrote stays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import pretty_json, read_text, write_file

WRITTEN, UNCHANGED, EDITED = "written", "unchanged", "edited"
RECORD = ".written"  # sha256 of each file as it was written last; no .json, which Prometheus would take for targets
BESIDE = ".new"


@dataclass(frozen=True)
class WrittenFile:
    """What became of a file.

    Args:
        path: where it lies.
        state: written (in check mode: would be), unchanged, or edited by somebody, and left as it is.
        beside: where its new content lies instead; '' where there is none since it was edited.
    """

    path: str
    state: str
    beside: str = ""

    @property
    def edited(self) -> bool:
        """Whether it was left as somebody edited it."""
        return self.state == EDITED


def write_files(folder: Path, texts: Mapping[str, str], check: bool = False) -> tuple[WrittenFile, ...]:
    """Write files in one step each; one that is right is left alone, and one that somebody edited is kept.

    A file counts as edited when it is not what was written last. New content is offered beside it, once, as with the
    configuration files of Debian's packages.

    Args:
        folder: where they lie; made where it is missing.
        texts: path in it -> content.
        check: write nothing, say what would be.
    Raises:
        DeployError: the folder or a file cannot be read or written.
    """
    try:
        record = _record(folder)
        found = [_judged(folder, name, text, record) for name, text in texts.items()]
        if not check:
            for text, one in zip(texts.values(), found, strict=True):
                if one.state == WRITTEN or one.beside:
                    target = Path(one.beside or one.path)
                    target.parent.mkdir(parents=True, exist_ok=True)
                    write_file(str(target), text)
                if one.state != EDITED:
                    Path(one.path + BESIDE).unlink(missing_ok=True)
            _write_record(folder, {**record, **{name: _digest(text) for name, text in texts.items()}})
    except OSError as error:
        place = str(error.filename or folder)
        raise DeployError(
            f"{place}: {error.strerror or error}", "see the disk and its rights, or give --into"
        ) from None
    return tuple(found)


def current_text(folder: Path, name: str) -> str:
    """What a file holds; '' where it is not there.

    Raises:
        DeployError: it cannot be read.
    """
    try:
        return read_text(str(folder / name)) or ""
    except (OSError, UnicodeDecodeError) as error:
        raise DeployError(f"{folder / name} cannot be read: {error}", "move it away: it is written anew") from None


def _judged(folder: Path, name: str, text: str, record: Mapping[str, str]) -> WrittenFile:
    path = folder / name
    there = read_text(str(path))
    if there == text:
        return WrittenFile(str(path), UNCHANGED)
    if there is None or _digest(there) == record.get(name):
        return WrittenFile(str(path), WRITTEN)
    if _digest(text) == record.get(name):
        return WrittenFile(str(path), EDITED)
    return WrittenFile(str(path), EDITED, f"{path}{BESIDE}")


def _record(folder: Path) -> dict[str, str]:
    try:
        value = json.loads(read_text(str(folder / RECORD)) or "{}")
        return {str(name): str(digest) for name, digest in value.items()}
    except (AttributeError, ValueError):  # then nothing is known of the files, and all count as edited
        return {}


def _write_record(folder: Path, record: Mapping[str, str]) -> None:
    text = pretty_json(dict(record))
    if read_text(str(folder / RECORD)) != text:
        write_file(str(folder / RECORD), text)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
