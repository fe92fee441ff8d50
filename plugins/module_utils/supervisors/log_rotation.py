"""Keeps the log of a process that nobody else rotates from filling the disk, for as long as the process lives.

It needs nothing of this package: it is sent to a Python of the host as a program, which goes on after the module that
started the service has ended. Should it be killed, the log grows, and nothing else happens.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select
import stat
import sys
import time
from collections.abc import Iterator

LARGEST = 64 * 1024 * 1024  # bytes of a log before it is rotated
KEPT = 4  # rotated logs, PATH.1 the newest
EVERY = 5.0  # seconds between two looks
BLOCK = 1024 * 1024
PART = ".part"
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
MOST_LINKS = 40  # symbolic links in a path, as the kernel's own limit
NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH


def keep_bounded(
    path: str, pid: int, start_time: int, largest: int = LARGEST, kept: int = KEPT, every: float = EVERY
) -> None:
    """Rotate a log while the process that writes to it lives. Returns when it has ended.

    As root, a log in a folder in which somebody else can rename is left to grow.

    Args:
        path: of the log, which its process has opened for appending.
        pid: of the process.
        start_time: in clock ticks since boot, which tells it from another one of the same number.
        largest: bytes of the log before it is rotated.
        kept: how many rotated logs stay.
        every: seconds between two looks.
    """
    ends, folder, log = _end_of(pid), -1, -1
    while _start_time(pid) == start_time:
        if log < 0:
            folder, log = _opened(path)
        if log >= 0 and os.fstat(log).st_size > largest:
            with _alone(log) as alone:
                if alone and os.fstat(log).st_size > largest:  # still: another one may just have rotated it
                    _rotate_or_cut(log, folder, os.path.basename(path), largest, kept)
        _wait(ends, every)
    for descriptor in (ends, folder, log):
        if descriptor >= 0:
            os.close(descriptor)


def rotate(log: int, folder: int, name: str, kept: int = KEPT) -> None:
    """Copy a log to NAME.1 and empty it, as logrotate's copytruncate: whoever writes to it goes on writing to it.

    What is written between the end of the copy and the emptying is lost, a matter of microseconds.

    Args:
        log: descriptor of it.
        folder: descriptor of the one that it lies in.
        name: of it.
        kept: how many rotated logs stay.
    Raises:
        OSError: the copy cannot be written; the log is as it was.
    """
    part = name + PART
    with contextlib.suppress(FileNotFoundError):
        os.unlink(part, dir_fd=folder)
    _check_room(log, folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    copy = os.open(part, flags, 0o640, dir_fd=folder)
    try:
        offset = _copy(log, copy, 0)
        shift(folder, name, kept)
        offset = _copy(log, copy, offset)
        os.replace(part, f"{name}.1", src_dir_fd=folder, dst_dir_fd=folder)
        _copy(log, copy, offset)
        os.ftruncate(log, 0)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part, dir_fd=folder)
        raise
    finally:
        os.close(copy)


def shift(folder: int, name: str, kept: int = KEPT) -> None:
    """NAME.1 becomes NAME.2, and so on; the oldest goes."""
    for number in range(kept - 1, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            os.replace(f"{name}.{number}", f"{name}.{number + 1}", src_dir_fd=folder, dst_dir_fd=folder)


def roots_alone(path: str) -> bool:
    """Whether nobody but root can rename in the folder of a file, nor lead the path to it elsewhere."""
    try:
        os.close(_folder_of_root(os.path.dirname(path)))
    except OSError:
        return False
    return True


def _folder_of_root(path: str) -> int:
    """A folder, reached through folders and links of root's only.

    A folder such as /tmp is passed through: in it nobody renames what is root's. The last one has to be root's alone.

    Raises:
        OSError: it is not there, or somebody else has a hand in it.
    """
    parts, links, folder = path.split("/")[::-1], 0, os.open("/", FOLDER)
    try:
        while parts:
            part = parts.pop()
            if part in ("", "."):
                continue
            found = os.stat(part, dir_fd=folder, follow_symlinks=False)
            if found.st_uid != 0:
                raise PermissionError(f"{part} in {path} is not root's")
            entered = folder
            if stat.S_ISLNK(found.st_mode):
                target, links = os.readlink(part, dir_fd=folder), links + 1
                if links > MOST_LINKS:
                    raise PermissionError(f"{path} has too many links")
                parts += target.split("/")[::-1]
                if not target.startswith("/"):
                    continue
                folder = os.open("/", FOLDER)
            else:
                folder = os.open(part, FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            os.close(entered)
            mode = os.fstat(folder).st_mode
            if os.fstat(folder).st_uid != 0 or (mode & OTHERS_WRITE and not mode & stat.S_ISVTX):
                raise PermissionError(f"{part} in {path} is not root's alone")
        if os.fstat(folder).st_mode & OTHERS_WRITE:
            raise PermissionError(f"{path} is not root's alone")
    except BaseException:
        os.close(folder)
        raise
    return folder


def _opened(path: str) -> tuple[int, int]:
    """The folder of a log and the log, which they stay, whatever comes to lie there; -1 while there is none."""
    folder, name = os.path.split(path)
    try:
        opened = _folder_of_root(folder) if os.geteuid() == 0 else os.open(folder, FOLDER)
    except OSError:
        return -1, -1
    try:
        log = os.open(name, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=opened)
        if stat.S_ISREG(os.fstat(log).st_mode):
            return opened, log
        os.close(log)
    except OSError:
        pass
    os.close(opened)
    return -1, -1


@contextlib.contextmanager
def _alone(log: int) -> Iterator[bool]:
    """Whether no other process rotates the log now: two services may write to one. Where that cannot be told, False."""
    try:
        fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        yield False
        return
    try:
        yield True
    finally:
        fcntl.flock(log, fcntl.LOCK_UN)


def _rotate_or_cut(log: int, folder: int, name: str, largest: int, kept: int) -> None:
    """Rotate; on a full disk give up the oldest log, and at last the one that grows."""
    try:
        try:
            rotate(log, folder, name, kept)
        except OSError as error:
            # One at a look: some file systems tell late of what is free again.
            if error.errno not in NO_ROOM or not _drop_oldest(folder, name, kept):
                raise
            rotate(log, folder, name, kept)
    except OSError:
        if os.fstat(log).st_size > 2 * largest:
            os.ftruncate(log, 0)


def _drop_oldest(folder: int, name: str, kept: int) -> bool:
    """Delete the rotated log with the highest number; whether there was one."""
    for number in range(kept, 0, -1):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(f"{name}.{number}", dir_fd=folder)
            return True
    return False


def _check_room(log: int, folder: int) -> None:
    """A copy that does not fit is not begun: it would take the last free bytes from the service and from everybody.

    Raises:
        OSError: there is no room for it.
    """
    disk = os.fstatvfs(folder)
    if disk.f_blocks and disk.f_bavail * disk.f_frsize <= os.fstat(log).st_size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _copy(log: int, copy: int, offset: int) -> int:
    """Copy from `offset` to the end; where that was."""
    while block := os.pread(log, BLOCK, offset):
        offset += len(block)
        while block:
            block = block[os.write(copy, block) :]
    return offset


def _start_time(pid: int) -> int:
    """When a process started; -1 where there is none, or it has ended and nobody has asked how."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as stream:
            fields = stream.read().rpartition(b")")[2].split()
    except OSError:
        return -1
    return -1 if fields[0] in (b"Z", b"X") else int(fields[19])


def _end_of(pid: int) -> int:
    """A descriptor that is readable once a process has ended; -1 where the kernel has none (before 5.3)."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return -1


def _wait(ends: int, seconds: float) -> None:
    if ends < 0:
        time.sleep(seconds)
        return
    select.select([ends], [], [], seconds)


if __name__ == "__main__":
    largest, every = (int(sys.argv[4]), float(sys.argv[5])) if len(sys.argv) > 4 else (LARGEST, EVERY)
    keep_bounded(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), largest, KEPT, every)
