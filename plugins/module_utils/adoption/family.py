"""Which processes belong together: what somebody started, all that came of it, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping

from ansible_collections.deployer.sglang.plugins.module_utils import procfs
from ansible_collections.deployer.sglang.plugins.module_utils.procfs import Process

SHELLS = frozenset(
    ("ash", "bash", "busybox", "csh", "dash", "fish", "ksh", "ksh93", "mksh", "rbash", "sh", "tcsh", "zsh")
)
# Whatever these started, a person or a timer did; they are no part of it. Beginnings of the kernel's short names.
STARTERS = (
    "agetty",
    "byobu",
    "containerd",
    "conmon",
    "cron",
    "dtach",
    "gnome-terminal",
    "konsole",
    "mosh-server",
    "screen",
    "sshd",
    "systemd",
    "tmux",
    "xfce4-terminal",
)
EXACT_STARTERS = frozenset(("atd", "init", "kitty", "login", "runuser", "script", "setpriv", "su", "sudo", "xterm"))
# Options of a shell that take the next word.
OPTIONS_WITH_VALUE = frozenset(("-o", "+o", "-O", "+O", "--rcfile", "--init-file"))


def runs_script(words: list[str]) -> bool:
    """True for a shell that runs a file or `-c` text: somebody started that. An interactive one waits for a person."""
    rest = iter(words[1:])
    for word in rest:
        if word in OPTIONS_WITH_VALUE:
            next(rest, None)
        elif word.startswith("--") and len(word) > 2:
            continue
        elif word[:1] in ("-", "+") and len(word) > 1:
            if word[0] == "-" and "c" in word[1:]:
                return True
            if word[0] == "-" and "s" in word[1:]:
                return False
        else:
            return word not in ("-", "--") or next(rest, None) is not None
    return False


def is_shell(words: list[str]) -> bool:
    """True for a shell of any kind."""
    return bool(words) and os.path.basename(words[0]).lstrip("-") in SHELLS


def is_starter(pid: int) -> bool:
    """True for what gave a person or a timer the place to start something: a terminal, sshd, an interactive shell."""
    if pid <= 1:
        return True
    words = procfs.words_of(pid)
    if is_shell(words):
        return words[0].startswith("-") or not runs_script(words)
    name = procfs.name_of(pid).lower()
    return name in EXACT_STARTERS or name.startswith(STARTERS)


def top_of(pid: int) -> int:
    """What somebody started: the highest process above `pid` of the same user and process group that is no starter.

    Who asks is never a part of it, even where the server was started by a program that now asks. Nor is a script that
    runs another server beside this one.
    """
    ours = own_processes()
    process = procfs.read_process(pid)
    owner = procfs.owner_of(pid)
    top = pid
    while process is not None:
        above = procfs.read_process(process.parent)
        if above is None or above.pid in ours or above.group != process.group:
            break
        if procfs.owner_of(above.pid) != owner or is_starter(above.pid) or _serves_beside(above.pid, top):
            break
        top, process = above.pid, above
    return top


def family_of(top: Process, roots: Iterable[int] = ()) -> dict[int, Process]:
    """Every living process of what `top` began.

    Descendants belong to it wherever they went. One whose parent has ended is told by the process group or the session
    that `top` leads. Where it leads none, they are a script's or a login shell's, and hold other services as well.

    Args:
        top: as it was recorded; it may have ended.
        roots: processes that are known to belong to it.
    """
    table = {process.pid: process for process in procfs.all_processes()}
    never = own_processes()
    found = {pid: table[pid] for pid in roots if pid in table}
    there = table.get(top.pid)
    if there is None or there.start_time == top.start_time:  # otherwise the pid is somebody else's now
        group = cgroup_of((top.pid, *found))
        for process in table.values():
            related = top.pid in (process.group, process.session) and _cgroup(process.pid) == group
            if process.pid == top.pid or related:
                found[process.pid] = process
    found = {pid: process for pid, process in found.items() if pid not in never}
    return _with_descendants(found, table, never)


def own_processes() -> frozenset[int]:
    """This process and all above it."""
    return frozenset((os.getpid(), *procfs.ancestors_of(os.getpid())))


def cgroup_of(pids: Iterable[int]) -> str | None:
    """The control group that the first living one of these is in."""
    return next((group for pid in pids if (group := _cgroup(pid)) is not None), None)


def _cgroup(pid: int) -> str | None:
    groups = procfs.cgroups_of(pid)
    return groups[0] if groups else None


def _serves_beside(parent: int, branch: int) -> bool:
    """True where a child of `parent` other than `branch`, or anything below it, listens on a port."""
    table = {process.pid: process for process in procfs.all_processes()}
    never = frozenset((parent, branch))
    others = {pid: one for pid, one in table.items() if one.parent == parent and pid != branch}
    if not others:
        return False
    inodes = {inode for own in procfs.listening_sockets().values() for inode in own}
    return bool(procfs.holders(inodes, _with_descendants(others, table, never)))


def _with_descendants(
    found: Mapping[int, Process], table: Mapping[int, Process], never: frozenset[int]
) -> dict[int, Process]:
    children: dict[int, list[Process]] = {}
    for process in table.values():
        children.setdefault(process.parent, []).append(process)
    family = dict(found)
    waiting = list(found)
    while waiting:
        for child in children.get(waiting.pop(), ()):
            if child.pid not in family and child.pid not in never:
                family[child.pid] = child
                waiting.append(child.pid)
    return family
