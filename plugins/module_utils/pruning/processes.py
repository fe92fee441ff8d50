"""Which processes use an artifact, and which could without showing it."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from ansible_collections.deployer.sglang.plugins.module_utils import procfs

FIRST_PERSON = 1000  # numeric ids below it are root's and system services' (UID_MIN of login.defs)
NOBODY = 65534
ACL = "system.posix_acl_access"
DELIMITERS = frozenset("\0\n \t:=\"',")


@dataclass(frozen=True)
class Uses:
    """What processes use.

    Args:
        held: token -> the processes that use what it names, for people.
        unread: other people's processes that cannot be read and may enter the deployment's root, for people.
    """

    held: Mapping[str, tuple[str, ...]]
    unread: tuple[str, ...]


def find_uses(root: str, tokens: Mapping[str, str]) -> Uses:
    """Look for tokens in executable, working folder, mapped and open files, words and environment of every process.

    A token counts wherever it stands: in a container, the same folder may have another path. Where the path shows that
    it is another deployment's artifact of the same name, it does not.

    Args:
        root: the deployment's root folder.
        tokens: token -> where the thing that it names lies; '' where it is no path.
    """
    own_namespace = _link("/proc/self/ns/mnt")
    mounts: set[str] = set()
    held: dict[str, list[str]] = {}
    unread: list[str] = []
    for process in procfs.all_processes():
        if process.pid == os.getpid():
            continue
        text, complete = _text_of(process.pid)
        if not complete and _is_person_with_access(process.pid, root):
            unread.append(procfs.describe(process.pid))
        namespace = _link(f"/proc/{process.pid}/ns/mnt")
        if namespace not in mounts:  # a folder that is mounted elsewhere is named by its mount, not by those who use it
            mounts.add(namespace)
            text += "\n" + _read(f"/proc/{process.pid}/mountinfo")
        for token, path in tokens.items():
            if _names(text, token, path, "" if namespace == own_namespace else f"/proc/{process.pid}/root"):
                held.setdefault(token, []).append(procfs.describe(process.pid))
    if _others_are_hidden() and _open_to(root, None, frozenset()):
        unread.append("processes of other users, which this host hides (hidepid)")
    return Uses({token: tuple(users) for token, users in held.items()}, tuple(unread))


def _names(text: str, token: str, path: str, root: str) -> bool:
    """True when `text` names what the token stands for, in the file system below `root`, which is the process's."""
    start = text.find(token)
    while start >= 0:
        if not path or not _is_elsewhere(root, _path_to(text, start, token), path):
            return True
        start = text.find(token, start + 1)
    return False


def _path_to(text: str, start: int, token: str) -> str:
    """The path that ends with the token at `start`."""
    begin = start
    while begin > 0 and text[begin - 1] not in DELIMITERS:
        begin -= 1
    return text[begin : start + len(token)]


def _is_elsewhere(root: str, named: str, path: str) -> bool:
    """True when `named` is there, below `root`, and is known to be something else than what lies at `path`."""
    try:
        return os.path.isabs(named) and not os.path.samefile(root + named, path)
    except OSError:
        return False


def _text_of(pid: int) -> tuple[str, bool]:
    """All that a process shows of what it uses, and whether it shows everything that was asked for."""
    parts, complete = [], True
    for kind in ("exe", "cwd"):
        try:
            parts.append(os.readlink(f"/proc/{pid}/{kind}"))
        except PermissionError:
            complete = False
        except OSError:  # it has ended, or the kernel's own
            pass
    try:
        with open(f"/proc/{pid}/maps", "rb") as stream:
            lines = stream.read().decode(errors="replace").splitlines()
        parts += {fields[5] for line in lines if len(fields := line.split(maxsplit=5)) == 6}  # a file is mapped often
    except PermissionError:
        complete = False
    except OSError:
        pass
    parts += [_read(f"/proc/{pid}/{name}") for name in ("cmdline", "environ")]
    parts += _open_files(pid)
    return "\n".join(parts), complete


def _open_files(pid: int) -> Iterator[str]:
    folder = f"/proc/{pid}/fd"
    try:
        names = os.listdir(folder)
    except OSError:
        return
    for name in names:
        yield _link(f"{folder}/{name}")


def _read(path: str) -> str:
    try:
        with open(path, "rb") as stream:
            return stream.read().decode(errors="replace")
    except OSError:
        return ""


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _is_person_with_access(pid: int, root: str) -> bool:
    """True for the process of another person who may enter `root`.

    Those of root and of system services cannot be read on any host; their words, which everybody may read, have to do.
    """
    try:
        owner = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return False
    if owner < FIRST_PERSON or owner in (NOBODY, os.geteuid()):
        return False
    groups = [
        line.split()[1:] for line in _read(f"/proc/{pid}/status").splitlines() if line.startswith(("Gid:", "Gro"))
    ]
    return _open_to(root, owner, frozenset(int(group) for line in groups for group in line))


def _others_are_hidden() -> bool:
    return os.geteuid() != 0 and not os.path.exists("/proc/1")


def _open_to(root: str, user: int | None, groups: frozenset[int]) -> bool:
    """True when the user (None: anybody) may enter `root` and every folder above it."""
    folder = os.path.realpath(root)
    while True:
        found = os.stat(folder)
        bit = 0o001
        if found.st_uid == user:
            bit = 0o100
        elif user is None or found.st_gid in groups or ACL in os.listxattr(folder):
            bit = 0o011  # an access list shows as the group's rights
        if not found.st_mode & bit:
            return False
        if folder == os.path.dirname(folder):
            return True
        folder = os.path.dirname(folder)
