"""Byte code: compiled once for the fleet where the bundle brings it, and shared by the environments of a host.

Compiling is most of the work of an installation: 35 of 50 seconds of CPU time for SGLang's CPU environment. A bundle
has the byte code in one archive; what it lacks is compiled on the host.

uv links a wheel's files from its cache. Byte code that is put beside them there is linked along into the next
environment: it takes no disk, and nothing is compiled again, as sources and their times are the same files.
Standard library only, Python 3.9+: it runs inside Ansible modules.
"""

from __future__ import annotations

import contextlib
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.files import in_batches

# In a bundle; paths in it are below site-packages.
ARCHIVE = "bytecode.zip"
# PEP 552: magic, flags, then for flags 0 the source's time and size, 4 bytes each. In an archive, the source's CRC-32
# stands where its time does on a host.
HEADER = 16
BY_TIME = bytes(4)


def packed_for(archive: str | Path) -> str:
    """The digest of the lock that an archive was packed for; '' where there is none that can be read."""
    try:
        with zipfile.ZipFile(archive) as source:
            return source.comment.decode(errors="replace")
    except (OSError, zipfile.BadZipFile):
        return ""


def pack_bytecode(site_packages: str | Path, archive: str | Path, digest: str = "") -> int:
    """Write the byte code of an installed environment to `archive`, the same bytes for the same byte code.

    Args:
        digest: of the lock, for `packed_for`.

    Returns:
        How many files it holds.
    """
    root = os.fspath(site_packages)
    found = {os.path.relpath(path, root): path for path, _ in _walk(root)}
    packed = 0
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as target:
        for name, path in sorted(found.items()):
            source = _place(name)
            if source in found:
                data = _read(path)
                target.writestr(zipfile.ZipInfo(name), data[:8] + _crc(_read(found[source])) + data[12:], 8)
                packed += 1
        target.comment = digest.encode()
    return packed


def unpack_bytecode(archive: str | Path, site_packages: str | Path) -> int:
    """Put the byte code of `archive` beside those sources that it was compiled from.

    What is there already is compared, and replaced where it is another.

    Returns:
        How many files were written; 0 where the bundle has no archive.

    Raises:
        OSError: a file cannot be written.
    """
    if not os.path.exists(archive):
        return 0
    with zipfile.ZipFile(archive) as source:
        entries = source.infolist()
        return sum(in_batches(lambda some: [_unpack(source, entry, site_packages) for entry in some], entries))


def _unpack(source: zipfile.ZipFile, entry: zipfile.ZipInfo, site_packages: str | Path) -> bool:
    """Write one file of byte code, when its source is there and is what it was compiled from."""
    place = _place(entry.filename)
    if place is None:
        return False
    target, path = os.path.join(site_packages, entry.filename), os.path.join(site_packages, place)
    with contextlib.suppress(FileNotFoundError):
        found = os.stat(path)
        data = source.read(entry)
        size = (found.st_size & 0xFFFFFFFF).to_bytes(4, "little")
        if data[4:8] != BY_TIME or data[12:HEADER] != size or len(data) <= HEADER or data[8:12] != _crc(_read(path)):
            return False
        time = (int(found.st_mtime) & 0xFFFFFFFF).to_bytes(4, "little")
        code = data[:8] + time + data[12:]
        with contextlib.suppress(FileNotFoundError):
            if _read(target) == code:
                return False
            os.unlink(target)  # what is there came from the cache, and was changed there
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        with open(target, "xb") as stream:
            stream.write(code)
        return True
    return False


def _read(path: str) -> bytes:
    with open(path, "rb") as stream:
        return stream.read()


def _crc(data: bytes) -> bytes:
    return zlib.crc32(data).to_bytes(4, "little")


def _place(name: str) -> str | None:
    """The source of `package/__pycache__/module.cpython-312.pyc`; None for any other name, and one that leads out."""
    cache, file = os.path.split(name)
    folders, cache = os.path.split(cache)
    odd = {"", ".", ".."} & set(folders.split("/") if folders else [])
    if cache != "__pycache__" or not file.endswith(".pyc") or file.startswith(".") or odd:
        return None
    return os.path.join(folders, file.partition(".")[0] + ".py")


def drop_shared_bytecode(site_packages: str | Path) -> None:
    """Remove byte code that came from the cache, so that it is compiled anew."""
    for path, entry in _walk(os.fspath(site_packages)):
        if path.endswith(".pyc") and entry.stat(follow_symlinks=False).st_nlink > 1:
            os.unlink(path)


def share_bytecode(site_packages: str | Path, cache: str | Path) -> int:
    """Link the byte code of `site_packages` beside those sources in uv's cache that are the same files.

    Returns:
        How many files were linked; 0 where the cache is on another file system, and files were copied.
    """
    sources = dict(_inodes(os.fspath(cache), ".py"))
    linked = 0
    for path, entry in _walk(os.fspath(site_packages)):
        folder, name = os.path.split(path)
        if not name.endswith(".pyc") or os.path.basename(folder) != "__pycache__":
            continue
        source = os.path.join(os.path.dirname(folder), name.partition(".")[0] + ".py")
        with contextlib.suppress(FileNotFoundError):
            found = os.stat(source)
            beside = sources.get((found.st_dev, found.st_ino))
            if beside is not None and entry.stat(follow_symlinks=False).st_nlink == 1:
                linked += _link(path, os.path.join(os.path.dirname(beside), "__pycache__", name))
    return linked


def _link(path: str, target: str) -> bool:
    os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
    with contextlib.suppress(OSError):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(target)  # of an earlier build, and another one: that is why the prefix does not have it
        os.link(path, target)
        return True
    return False


def _inodes(folder: str, suffix: str) -> Iterator[tuple[tuple[int, int], str]]:
    for path, entry in _walk(folder):
        if path.endswith(suffix):
            found = entry.stat(follow_symlinks=False)
            yield (found.st_dev, found.st_ino), path


def _walk(folder: str) -> Iterator[tuple[str, os.DirEntry[str]]]:
    """Every file below `folder`; nothing where there is no such folder."""
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _walk(entry.path)
        elif entry.is_file(follow_symlinks=False):
            yield entry.path, entry
