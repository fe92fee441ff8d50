"""Keeps a kit's files in a folder, and what a person has changed there as it is."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.client_kit import mode_of
from ansible_collections.deployer.sglang.plugins.module_utils.description_problems import HOST, NAME
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import pretty_json, write_file

NEW, UPDATED, UNCHANGED, CHANGED_HERE = "new", "updated", "unchanged", "changed here"
RECORD = ".kit.json"  # what was written here: file name -> sha256


def kit_folder(into: Path, host: str, service: str) -> Path:
    """Where the kit of a service is kept.

    Args:
        into: the folder of all kits.
        host: as the inventory names it.
        service: as the host names it.
    Raises:
        DeployError: one of the names is none of a folder.
    """
    if not HOST.fullmatch(host) or host in (".", ".."):
        raise DeployError(f"a kit of host {host!r} has no place: that is no name of a folder", "rename it")
    if not NAME.fullmatch(service):
        raise DeployError(f"host {host} answered for a service {service!r}, which is no name", "look at that host")
    folder = into / host / service
    for one in (folder.parent, folder):
        if one.is_symlink():
            raise DeployError(f"{one} is a link to somewhere else", "remove it, or give another folder: --into")
    return folder


def compared(folder: Path, files: Mapping[str, str]) -> dict[str, str]:
    """What would become of each file of a kit, name -> state.

    What differs, and is not as it was written here last, somebody has changed; so is what is no file.

    Args:
        folder: where they are kept.
        files: file name -> text.
    Raises:
        DeployError: the folder or a file cannot be read.
    """
    written = _record(folder)
    try:
        return {name: _state(folder / name, text.encode(), written.get(name)) for name, text in files.items()}
    except OSError as error:
        problem = f"{error.filename or folder} cannot be read: {error.strerror}"
        raise DeployError(problem, "see its rights, or give another folder: --into") from None


def write(folder: Path, files: Mapping[str, str], states: Mapping[str, str]) -> None:
    """Write the files that are not there as they are to be, each in one step.

    Args:
        folder: where they are kept; it is made.
        files: file name -> text.
        states: as `compared` gave them.
    Raises:
        DeployError: the disk does not take them.
    """
    hashes = {name: _sha256(text.encode()) for name, text in files.items()}
    umask = os.umask(0)
    os.umask(umask)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            if states[name] != UNCHANGED:
                write_file(str(folder / name), text, mode_of(name) & ~umask)
        if _record(folder) != hashes:
            write_file(str(folder / RECORD), pretty_json(hashes), 0o644 & ~umask)
    except OSError as error:
        problem = f"{error.filename or folder} cannot be written: {error.strerror}"
        raise DeployError(problem, "see the disk and its rights, or give another folder: --into") from None


def _state(path: Path, content: bytes, written: str | None) -> str:
    if path.is_symlink() or (path.exists() and not path.is_file()):
        return CHANGED_HERE
    try:
        found = path.read_bytes()
    except FileNotFoundError:
        return NEW
    if found == content:
        return UNCHANGED
    return UPDATED if written == _sha256(found) else CHANGED_HERE


def _record(folder: Path) -> Mapping[str, str]:
    try:
        value = json.loads((folder / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
