"""Disk usage where files have several names, and removal that a kill cannot leave half done in sight."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from ansible_collections.deployer.sglang.plugins.module_utils.files import sync_directory

BLOCK = 512  # bytes; the unit of st_blocks, whatever the file system's own
REMOVING = ".removing"
POINTERS = (".rev", ".http", ".msgpack")  # of uv, beside a link to what was unpacked; they name it by its id
LARGEST_POINTER = 64 * 1024  # bytes

Inode = tuple[int, int]


@dataclass(frozen=True)
class _Found:
    inode: Inode
    links: int
    size: int
    is_folder: bool


def usage(path: str) -> int:
    """Bytes of disk below `path`, each file once."""
    seen: dict[Inode, int] = {found.inode: found.size for found in _below(path)}
    return sum(seen.values())


def frees(path: str, seen: Counter[Inode]) -> int:
    """Bytes of disk that the removal of `path` gives back: of the files whose last name goes with it.

    Args:
        path: what is removed.
        seen: how many names of each file were removed before; `path` is added to it.
    """
    freed = 0
    for found in _below(path):
        if found.is_folder:
            freed += found.size
            continue
        seen[found.inode] += 1
        if seen[found.inode] == found.links:
            freed += found.size
    return freed


def hide(path: str) -> str:
    """Rename a folder so that nobody takes it for what it was; where it lies then.

    Raises:
        OSError: it is a link by now, or may not be renamed.
    """
    folder, name = os.path.split(path)
    if _is_hidden(path):
        return path
    if not stat.S_ISDIR(os.lstat(path).st_mode):
        raise NotADirectoryError(f"{path} is no folder any more")
    hidden = os.path.join(folder, f".{name.lstrip('.')}{REMOVING}")
    candidate, number = hidden, 1
    while os.path.lexists(candidate):
        number += 1
        candidate = f"{hidden}.{number}"
    os.rename(path, candidate)
    return candidate


def remove(hidden: str) -> None:
    """Remove what `hide` has hidden. Links are removed, never followed, also when one is put there meanwhile.

    Raises:
        OSError: something cannot be removed; the next run goes on.
    """
    assert shutil.rmtree.avoids_symlink_attacks
    sync_directory(os.path.dirname(hidden))  # after a power cut it is still hidden, however much of it was removed
    shutil.rmtree(hidden)


def unused_wheels(cache: str, seen: Counter[Inode], before: float) -> list[str]:
    """The folders of uv's cache, one a wheel, of which no file has a name in an environment.

    Args:
        cache: uv's cache.
        seen: how many names of each file are removed before, as `frees` counts them.
        before: seconds since the epoch; what was unpacked later may be about to be linked from.
    """
    unused = []
    for wheel in _unpacked(cache):
        files = [found for found in _below(wheel) if not found.is_folder]
        names = Counter(found.inode for found in files)
        alone = all(seen[found.inode] + names[found.inode] == found.links for found in files)
        if alone and (os.lstat(wheel).st_mtime < before or _is_hidden(wheel)):
            unused.append(wheel)
    return unused


def trim_wheels(cache: str, before: float) -> list[str]:
    """Remove the wheels that `unused_wheels` names; nobody may use the cache meanwhile.

    uv takes an unpacked wheel that its pointers name for being there, and fails when it is not. Pointers go first.
    """
    unused = unused_wheels(cache, Counter(), before)
    for pointers in pointers_to(cache, unused).values():
        for pointer in pointers:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(pointer)
    for wheel in unused:
        remove(hide(wheel))
    return unused


def pointers_to(cache: str, wheels: Iterable[str]) -> dict[str, list[str]]:
    """What in uv's cache names each of these unpacked wheels."""
    found: dict[str, list[str]] = {wheel: [] for wheel in wheels}
    by_id = {os.path.basename(wheel).encode(): wheel for wheel in found if not _is_hidden(wheel)}
    for pointer in _pointers(cache) if by_id else ():
        content = _content(pointer)
        for identifier, wheel in by_id.items():
            if identifier in content:
                found[wheel].append(pointer)
    return found


def _unpacked(cache: str) -> list[str]:
    """uv's folders of unpacked wheels: `archive-v0/<id>/`."""
    found = []
    for bucket in _folders(cache):
        if os.path.basename(bucket).startswith("archive-v"):
            found += _folders(bucket)
    return found


def _pointers(cache: str) -> Iterator[str]:
    """What in uv's cache may name an unpacked wheel: links, and small files beside them."""
    for bucket in _folders(cache):
        if not os.path.basename(bucket).startswith("archive-v"):
            for folder, folders, files in os.walk(bucket):
                for name in folders + files:
                    path = os.path.join(folder, name)
                    if os.path.islink(path) or name.endswith(POINTERS):
                        yield path


def _content(pointer: str) -> bytes:
    if os.path.islink(pointer):
        return os.path.basename(os.readlink(pointer)).encode()
    with open(pointer, "rb") as stream:
        return stream.read(LARGEST_POINTER)


def _is_hidden(path: str) -> bool:
    name = os.path.basename(path)
    return name.startswith(".") and REMOVING in name


def _folders(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as listing:
            return sorted(entry.path for entry in listing if entry.is_dir(follow_symlinks=False))
    except (FileNotFoundError, NotADirectoryError):
        return []


def _below(path: str) -> Iterator[_Found]:
    """`path` and all below it, links as what they are; nothing where it is gone."""
    with contextlib.suppress(FileNotFoundError):
        yield _measured(os.lstat(path))
    for _, folders, files, descriptor in os.fwalk(path, follow_symlinks=False):
        for name in folders + files:
            with contextlib.suppress(FileNotFoundError):
                yield _measured(os.stat(name, dir_fd=descriptor, follow_symlinks=False))


def _measured(found: os.stat_result) -> _Found:
    inode = (found.st_dev, found.st_ino)
    return _Found(inode, found.st_nlink, found.st_blocks * BLOCK, stat.S_ISDIR(found.st_mode))
