"""Writes an inventory's folder in one step: all of it is there, or nothing."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

import deployer
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

ANOTHER = "give another folder (--into), or move that one away: nothing is overwritten"


def refuse_existing(folder: Path) -> None:
    """Raise where a folder could not be written without touching what is there.

    Raises:
        DeployError: something is in it, it is no folder, or it cannot be made.
    """
    if folder.resolve() == Path.cwd().resolve():
        raise DeployError(f"{folder} is the current folder", "give the name of a folder in it, such as --into fleet")
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise DeployError(f"{folder} is there already, and no folder", ANOTHER)
    there = next(iter(sorted(folder.iterdir())), None) if folder.is_dir() else None
    if there is not None:
        raise DeployError(f"{there} is there already", ANOTHER)
    if not folder.absolute().parent.is_dir():
        raise DeployError(f"there is no folder {folder.absolute().parent}", "make it first, or give another (--into)")


def write_folder(folder: Path, files: Mapping[str, str], copies: Mapping[str, Path]) -> list[str]:
    """Write files and copies of folders beside their place, and rename them there.

    Args:
        folder: that is to be made.
        files: path in it -> text.
        copies: path in it -> folder that is copied there.
    Returns:
        What was written, by path in the folder.
    Raises:
        DeployError: it is there by now, or the disk does not take it.
    """
    refuse_existing(folder)
    target = folder.absolute()
    try:
        part = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    except OSError as error:
        raise DeployError(f"{target.parent} cannot be written to: {error.strerror}", "give another (--into)") from None
    try:
        _fill(part, files, copies)
        written = sorted(str(path.relative_to(part)) for path in part.rglob("*") if path.is_file())
        refuse_existing(folder)
        os.rename(part, target)
    except OSError as error:
        raise DeployError(f"{folder} could not be written: {error.strerror}", "see the disk and its rights") from None
    finally:
        shutil.rmtree(part, ignore_errors=True)  # there is none any more once it has been renamed
    return written


def _fill(part: Path, files: Mapping[str, str], copies: Mapping[str, Path]) -> None:
    umask = os.umask(0)
    os.umask(umask)
    part.chmod(0o777 & ~umask)
    for name, text in files.items():
        path = part / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    for name, source in copies.items():
        # Not the bundle that may lie beside it: gigabytes, which `bundle` fetches where it is wanted.
        shutil.copytree(source, part / name, ignore=shutil.ignore_patterns("bundle"))


def shipped_environment(name: str) -> Path:
    """The folder of a lock that comes with this package, in a wheel or in a checkout.

    Raises:
        DeployError: it is in neither.
    """
    package = Path(deployer.__file__).resolve().parent
    for folder in (package / "shipped" / "environments", package.parent / "environments"):
        if (folder / name / "conda-linux-64.lock").is_file():
            return folder / name
    raise DeployError(f"the lock of the environment {name} is not where this package lies", "install it again")
