"""Processes, their sockets and their control groups, read from /proc and /sys."""

from __future__ import annotations

import contextlib
import os
import pwd
import socket
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

LISTEN, ESTABLISHED = "0A", "01"  # in /proc/net/tcp (include/net/tcp_states.h)
MAPPED = b"\0" * 10 + b"\xff\xff"  # begins an IPv4 address in an IPv6 socket (RFC 4291, 2.5.5.2)
LONGEST_WORD = 120  # characters of a command's word that people are shown
CGROUP_ROOTS = ("/sys/fs/cgroup", "/sys/fs/cgroup/systemd", "/sys/fs/cgroup/unified")  # v2; v1 and hybrid


@dataclass(frozen=True)
class Process:
    """A process: `start_time` in clock ticks since boot, which with the pid makes it unmistakable.

    `parent` is the process that has it now: PID 1, or a subreaper, once the one that started it has ended.
    """

    pid: int
    session: int
    group: int
    state: str
    start_time: int
    parent: int = 0


def read_process(pid: int) -> Process | None:
    """The process `pid`, or None when there is none. A zombie is there, in state Z."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            fields = stream.read().rpartition(")")[2].split()  # the command, in (), may hold anything
    except (FileNotFoundError, ProcessLookupError):
        return None
    return Process(pid, int(fields[3]), int(fields[2]), fields[0], int(fields[19]), int(fields[1]))


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


def words_of(pid: int) -> list[str]:
    """The command line, undecodable bytes as surrogates; empty where there is none."""
    return _entries(pid, "cmdline")


def environment_of(pid: int) -> list[str]:
    """The environment that the process was started with, as `words_of`.

    Raises:
        OSError: it cannot be read, or the process is gone.
    """
    with open(f"/proc/{pid}/environ", "rb") as stream:
        return _split(stream.read())


def name_of(pid: int) -> str:
    """The kernel's short name of a process; '' where there is none."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8", errors="replace") as stream:
            return stream.read().rstrip("\n")
    except OSError:
        return ""


def link_of(pid: int, name: str) -> str:
    """What a link of /proc/PID names: exe, cwd, fd/1, ns/mnt; '' where it cannot be read."""
    try:
        return os.readlink(os.fsencode(f"/proc/{pid}/{name}")).decode("utf-8", "surrogateescape")
    except OSError:
        return ""


def owner_of(pid: int) -> int | None:
    """The effective user id of a process; None where there is none."""
    fields = status_of(pid).get("Uid", "").split()
    return int(fields[1]) if fields else None


def status_of(pid: int) -> dict[str, str]:
    """The fields of /proc/PID/status; empty where there is none."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as stream:
            pairs = (line.partition(":") for line in stream)
            return {name: value.strip() for name, _, value in pairs}
    except OSError:
        return {}


def cgroups_of(pid: int) -> list[str]:
    """The control groups of a process, systemd's own hierarchy first."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as stream:
            rows = [line.rstrip("\n").split(":", 2) for line in stream]
    except OSError:
        return []
    order = {"name=systemd": 0, "": 1}
    return [row[2] for row in sorted((row for row in rows if len(row) == 3), key=lambda row: order.get(row[1], 2))]


def ancestors_of(pid: int) -> list[int]:
    """The parent of a process, the parent's parent, and so on up to PID 1."""
    found: list[int] = []
    process = read_process(pid)
    while process is not None and process.parent > 0 and process.parent not in found:
        found.append(process.parent)
        process = read_process(process.parent)
    return found


def _entries(pid: int, name: str) -> list[str]:
    try:
        with open(f"/proc/{pid}/{name}", "rb") as stream:
            return _split(stream.read())
    except OSError:
        return []


def _split(data: bytes) -> list[str]:
    """Words that end with a NUL each; an empty word counts."""
    words = data.decode("utf-8", "surrogateescape").split("\0")
    return words[:-1] if words[-1] == "" else words


def listening_addresses(port: int) -> list[str]:
    """The addresses that sockets listen on at `port`, as people write them."""
    return sorted({_address(row[1].rpartition(":")[0]) for row in _listeners() if _port(row) == port})


def _address(field: str) -> str:
    """An address of /proc/net/tcp: hex, in words of four bytes of the machine's order."""
    words = [int(field[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(field), 8)]
    raw = b"".join(words)
    if raw[:12] == MAPPED and len(raw) == 16:
        raw = raw[12:]
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)


def listening_inodes(port: int) -> set[str]:
    """Inodes of the TCP sockets that listen on `port`, whatever their address."""
    return listening_sockets().get(port, set())


def listening_ports() -> dict[int, set[int]]:
    """Every TCP port that is listened on, with the processes that hold it: none where they are another user's."""
    inodes = listening_sockets()
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


def listening_sockets() -> dict[int, set[str]]:
    """Port -> inodes of the TCP sockets that listen on it. One look does for many: the kernel walks a large table."""
    inodes: dict[int, set[str]] = {}
    for row in _listeners():
        inodes.setdefault(_port(row), set()).add(row[9])
    return inodes


def _port(row: Sequence[str]) -> int:
    return int(row[1].rpartition(":")[2], 16)


def _listeners() -> Iterator[list[str]]:
    """The rows of listening sockets in /proc/net/tcp and its twin for IPv6."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            with open(table, encoding="ascii") as stream:
                rows = [line.split() for line in stream.readlines()[1:]]
        except FileNotFoundError:
            continue
        yield from (row for row in rows if row[3] == LISTEN)


def connections_to(port: int) -> int:
    """How many TCP connections to a local `port` are open, those that nobody uses among them."""
    count = 0
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(FileNotFoundError), open(table, encoding="ascii") as stream:
            rows = (line.split() for line in stream.readlines()[1:])
            count += sum(row[3] == ESTABLISHED and int(row[1].rpartition(":")[2], 16) == port for row in rows)
    return count


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
