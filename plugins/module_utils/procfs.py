"""Processes, their sockets and their control groups, read from /proc and /sys."""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp (include/net/tcp_states.h)
LONGEST_WORD = 120  # characters of a command's word that people are shown
CGROUP_ROOTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified")  # v2; v1 and hybrid


@dataclass(frozen=True)
class Process:
    """A process: `start_time` in clock ticks since boot, which with the pid makes it unmistakable."""

    pid: int
    session: int
    group: int
    state: str
    start_time: int


def read_process(pid: int) -> Process | None:
    """The process `pid`, or None when there is none. A zombie is there, in state Z."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            fields = stream.read().rpartition(")")[2].split()  # the command, in (), may hold anything
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Process(pid, int(fields[3]), int(fields[2]), fields[0], int(fields[19]))


def lives(process: Process) -> bool:
    """True while it is this very process that has its pid, and it has not ended."""
    return runs(process.pid, process.start_time)


def runs(pid: int, start_time: int) -> bool:
    """True while the process that had this id since then has not ended; as `lives`, of one that was written down."""
    now = read_process(pid)
    return now is not None and now.start_time == start_time and now.state not in "ZX"


def start_time_of(pid: int) -> int:
    """When a process started, in clock ticks since boot; 0 where there is none."""
    process = read_process(pid)
    return process.start_time if process else 0


def all_processes() -> list[Process]:
    """Every process that is not a zombie."""
    found = (read_process(int(name)) for name in os.listdir("/proc") if name.isdigit())
    return [process for process in found if process is not None and process.state not in "ZX"]


def processes_in(folder: str) -> list[int]:
    """Ids of the processes whose executable lies below `folder`; those of others than root's are seen by root alone."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit():
            with contextlib.suppress(OSError):
                if os.readlink(f"/proc/{entry}/exe").startswith(os.path.join(os.path.realpath(folder), "")):
                    found.append(int(entry))
    return found


def boot_id() -> str:
    """Changes with every boot: pids and start times of another boot say nothing."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
        return stream.read().strip()


def variable_of(pid: int, name: str) -> str | None:
    """The environment variable `name` that the process was started with; None where it cannot be read."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as stream:
            entries = stream.read().split(b"\0")
    except OSError:
        return None
    prefix = name.encode() + b"="
    return next((entry[len(prefix) :].decode(errors="replace") for entry in entries if entry.startswith(prefix)), None)


def listening_inodes(port: int) -> set[str]:
    """Inodes of the TCP sockets that listen on `port`, whatever their address."""
    return _listening().get(port, set())


def listening_ports() -> dict[int, set[int]]:
    """Every TCP port that is listened on, with the processes that hold it: none where they are another user's."""
    inodes = _listening()
    found: dict[int, set[int]] = {port: set() for port in inodes}
    port_of = {f"socket:[{inode}]": port for port, own in inodes.items() for inode in own}
    for process in all_processes():
        try:
            for descriptor in os.scandir(f"/proc/{process.pid}/fd"):
                port = port_of.get(os.readlink(descriptor.path))
                if port is not None:
                    found[port].add(process.pid)
        except OSError:  # gone meanwhile, or another user's
            continue
    return found


def _listening() -> dict[int, set[str]]:
    """Port -> inodes of the TCP sockets that listen on it."""
    inodes: dict[int, set[str]] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as stream:
                rows = [line.split() for line in stream.readlines()[1:]]
        except FileNotFoundError:
            continue
        for row in rows:
            if row[3] == LISTEN:
                inodes.setdefault(int(row[1].rpartition(":")[2], 16), set()).add(row[9])
    return inodes


def holders(inodes: Iterable[str], pids: Iterable[int] | None = None) -> set[int]:
    """Which of `pids` (of all processes, when None) hold a socket with one of these inodes."""
    targets = {f"socket:[{inode}]" for inode in inodes}
    if not targets:
        return set()
    found = set()
    for pid in pids if pids is not None else [process.pid for process in all_processes()]:
        try:
            for descriptor in os.scandir(f"/proc/{pid}/fd"):
                if os.readlink(descriptor.path) in targets:
                    found.add(pid)
                    break
        except OSError:  # gone meanwhile, or another user's
            continue
    return found


def foreign_listeners(port: int, ours: Iterable[int]) -> str:
    """Who listens on `port`, on whatever address, and is none of `ours`; for people, '' when nobody does."""
    inodes = listening_inodes(port)
    family = set(ours)
    foreign = {inode for inode in inodes if not holders({inode}, family)}
    if not foreign:
        return ""
    return "; ".join(describe(pid) for pid in sorted(holders(foreign))) or "a process of another user"


def short_command(words: Sequence[str]) -> str:
    """A command line for people: three words at most, up to the first option but `-m`, whose value may be secret.

    Control characters, which a process can put into its own title to reach a terminal, are replaced.
    """
    kept: list[str] = []
    for word in " ".join(words).split()[:3]:  # a process that rewrote its title has all of it in one word
        if word.startswith("-") and word != "-m":
            break
        shown = "".join(char if char.isprintable() else "?" for char in word)
        kept.append(shown if len(shown) <= LONGEST_WORD else f"{shown[: LONGEST_WORD - 1]}…")
    return " ".join(kept)


def describe(pid: int) -> str:
    """A process for people: pid, user, and the beginning of its command."""
    try:
        with open(f"/proc/{pid}/cmdline", "rb") as stream:
            words = stream.read().decode(errors="replace").split("\0")
        owner = os.stat(f"/proc/{pid}").st_uid
    except OSError:
        return f"pid {pid}"
    try:
        user = pwd.getpwuid(owner).pw_name
    except KeyError:
        user = str(owner)
    return f"pid {pid} of {user}: {short_command(words).strip()}"


def describe_listeners(port: int) -> str:
    """Who listens on `port`, for people; '' when nobody does."""
    return foreign_listeners(port, ())


def cgroup_pids(control_group: str) -> set[int]:
    """Every process in a control group of systemd's hierarchy and below it; empty when the group is gone.

    Args:
        control_group: as `systemctl show -p ControlGroup` gives it, such as /system.slice/x.service.
    """
    if control_group.strip("/") == "":
        return set()
    pids: set[int] = set()
    for root in CGROUP_ROOTS:
        for folder, _, files in os.walk(root + control_group):
            if "cgroup.procs" in files:
                try:
                    with open(os.path.join(folder, "cgroup.procs"), encoding="ascii") as stream:
                        pids |= {int(line) for line in stream if line.strip() != "0"}
                except OSError:  # the group was removed while it was read
                    continue
    return pids
