"""Files that survive a power cut: written beside their place, synced, renamed."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import json
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

BLOCK = 4 * 1024 * 1024  # bytes read at once
BATCH = 500  # small files that one thread takes at once

Item = TypeVar("Item")
Result = TypeVar("Result")


def sync_directory(path: str) -> None:
    """Flush a directory's own entries to disk, so that a rename in it is durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_filesystem(path: str) -> None:
    """Flush everything that was written to the file system of `path`, so that what is recorded next is true of it."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        # os.sync would wait for every other disk, too.
        if ctypes.CDLL(None, use_errno=True).syncfs(descriptor) != 0:
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), path)
    finally:
        os.close(descriptor)


def write_file(path: str, text: str, mode: int = 0o644) -> None:
    """Replace `path` with `text` in one step: a reader sees the old file or the new one, also after a power cut."""
    folder = os.path.dirname(path)
    descriptor, partial = tempfile.mkstemp(prefix=".", suffix=".part", dir=folder)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.replace(partial, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(partial)
        raise
    sync_directory(folder)


def read_text(path: str) -> str | None:
    """The text of `path`, or None where there is no such file."""
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def hash_file(path: str | os.PathLike[str], follow: bool = True) -> str:
    """sha256 of a file's content, in hex.

    Args:
        path: the file.
        follow: False refuses a symbolic link at `path` itself.
    Raises:
        OSError: it cannot be read.
    """
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | (0 if follow else os.O_NOFOLLOW))
    with os.fdopen(descriptor, "rb", buffering=0) as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()


def in_batches(work: Callable[[Sequence[Item]], Sequence[Result]], items: Sequence[Item]) -> list[Result]:
    """`work` for all of `items`, in as many threads as there are processors; results in the items' order.

    For many small files: handing each to a thread by itself takes longer than reading it.

    Args:
        work: called with some of the items; gives a result an item.
    """
    batches = [items[start : start + BATCH] for start in range(0, len(items), BATCH)]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        return [result for results in pool.map(work, batches) for result in results]


def canonical_json(value: Any) -> str:
    """One text for one value: what digests are taken over."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)


def pretty_json(value: Any) -> str:
    """JSON for people: two spaces, sorted keys, a newline at the end."""
    return json.dumps(value, sort_keys=True, indent=2, ensure_ascii=False) + "\n"


def read_json(path: str) -> Any:
    """The JSON value in `path`, or None where there is no such file.

    Raises:
        DeployError: the file is there and is not JSON.
    """
    try:
        text = read_text(path)
        return None if text is None else json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DeployError(
            f"{path} is not valid JSON: {error}", "remove the file and run the deployment again"
        ) from None


def point_link(link: str, target: str) -> None:
    """Make the symbolic link `link` name `target`, replacing what it named before in one step."""
    partial = f"{link}.part"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(partial)
    os.symlink(target, partial)
    if os.path.isdir(link) and not os.path.islink(link):  # a copy that somebody made: kept, and out of the way
        os.rename(link, f"{link}.{int(time.time())}")
    os.replace(partial, link)
    sync_directory(os.path.dirname(link))


@contextlib.contextmanager
def exclusive_lock(
    path: str, patience: float | None = None, busy: str = "", on_wait: Callable[[], None] = lambda: None
) -> Iterator[int]:
    """Hold an flock on `path`; the kernel drops it when the holder dies, so a dead holder cannot keep it.

    Args:
        path: the lock file; it is created, never removed.
        patience: seconds to wait for it; None waits for ever.
        busy: what to say when it does not become free.
        on_wait: called once when it is not free at the first look.
    Returns:
        The descriptor that holds the lock: a child that inherits it keeps the lock.
    Raises:
        DeployError: the lock is held by someone else.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if not _take(descriptor, wait=False):
            on_wait()
            deadline = time.monotonic() + (patience or 0)
            while not _take(descriptor, wait=patience is None):
                if time.monotonic() >= deadline:
                    raise DeployError(busy or f"{path} is locked by another run", "wait until it has ended")
                time.sleep(0.1)
        yield descriptor
    finally:
        os.close(descriptor)


def _take(descriptor: int, wait: bool) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def nearest(path: str) -> str:
    """`path`, or the nearest folder above it that exists."""
    path = os.path.abspath(path)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path
