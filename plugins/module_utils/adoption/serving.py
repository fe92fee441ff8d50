"""Who serves a port, and all that it takes to start the same again; read from /proc, without changing anything."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import stat
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.deployer.sglang.plugins.module_utils import procfs
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.family import family_of, top_of
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.recognise import (
    Recognised,
    is_title,
    recognise,
)
from ansible_collections.deployer.sglang.plugins.module_utils.engines import UNKNOWN
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

NULL = "/dev/null"
SIGHUP_BIT = 1  # of the mask SigIgn in /proc/PID/status: signal 1
UNLIMITED = "unlimited"
LOOKS, PAUSE = 3, 0.2  # seconds
ANY = ("0.0.0.0", "::")


@dataclass(frozen=True)
class User:
    """Who runs a process. `name` is the number where there is no such user (any more)."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


@dataclass(frozen=True)
class Output:
    """Where a stream of output goes: `path` is '' for all but a file, and `kind` says what it is then."""

    path: str
    kind: str


@dataclass(frozen=True)
class Limits:
    """Soft and hard limits as the kernel writes them: a number, or `unlimited`."""

    nofile: tuple[str, str]
    memlock: tuple[str, str]


@dataclass(frozen=True)
class Server:
    """What serves a port.

    Args:
        port: that it listens on.
        address: that it listens on.
        listeners: the processes that hold the listening socket.
        engine_pid: the engine's own process, which gets SIGTERM.
        top_pid: what somebody started, `uv run` or a script included; what a rollback has to start.
        family: both, and all that belongs to them.
        argv: of the process at the top; undecodable bytes are surrogates, as everywhere here.
        environ: the same process's.
        engine_argv: of the engine's process.
        engine_environ: the same process's.
        hidden: why argv and environ are not what it was started with; '' where they are.
        executable: of the process at the top.
        program: what its first word named when it was started, `executable` where that cannot be told.
        ignores_hangup: as under nohup.
        cpus: that it may run on; empty where these are all.
        start_time: of the engine's process, in clock ticks since boot.
        started: the same in UTC, ISO 8601.
        gpus: the engine's CUDA_VISIBLE_DEVICES, '' where it is not set.
    """

    port: int
    address: str
    listeners: tuple[int, ...]
    engine_pid: int
    top_pid: int
    family: frozenset[int]
    argv: tuple[str, ...]
    environ: Mapping[str, str] = field(repr=False)
    engine_argv: tuple[str, ...] = field(repr=False)
    engine_environ: Mapping[str, str] = field(repr=False)
    hidden: str
    cwd: str
    executable: str
    program: str
    user: User
    stdout: Output
    stderr: Output
    umask: int
    limits: Limits
    nice: int
    cpus: tuple[int, ...]
    ignores_hangup: bool
    start_time: int
    top_start_time: int
    boot_id: str
    started: str
    gpus: str

    @property
    def recognised(self) -> Recognised:
        """Which engine it is: the process's own word, or that of what started it where it has another title now."""
        found = recognise(self.engine_argv, self.engine_environ)
        if found.engine != UNKNOWN and not is_title(self.engine_argv):
            return found
        above = recognise(self.argv, self.environ)
        return above if above.engine != UNKNOWN else found


def find_server(port: int, ours: Collection[int] = ()) -> Server | None:
    """Who listens on `port`, on whatever address; None when nobody does.

    Args:
        port: the TCP port.
        ours: processes that do not count.
    Raises:
        DeployError: two servers share the port, or it cannot be read who serves it.
    """
    listeners = tuple(sorted(_holders(port) - set(ours)))
    if not listeners:
        return None
    tops = {pid: top_of(pid) for pid in listeners}
    families = {top: frozenset(_family(top)) for top in set(tops.values())}
    # Workers with groups of their own hold the same socket: those within another's family are that server's.
    servers = sorted(
        top for top in families if not any(top in family for other, family in families.items() if other != top)
    )
    if len(servers) > 1:
        raise DeployError(
            f"two servers share port {port}: {'; '.join(map(procfs.describe, servers))}",
            "end the one that is not to be taken over",
        )
    try:
        return _read(port, listeners, servers[0])
    except (OSError, IndexError, KeyError):  # it ended while it was read
        if procfs.listening_inodes(port):
            why = "cannot be read, or ended and was started again meanwhile"
            raise DeployError(
                f"{procfs.describe_listeners(port)} on port {port} {why}", "try again, as root on that host"
            ) from None
        return None


def process_text(words: Sequence[str]) -> dict[str, str]:
    """NAME=value entries of an environment by name; of two with one name the first counts, as for getenv."""
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = word.partition("=")
        if equals and name:
            found.setdefault(name, value)
    return found


def chain(engine: int, top: int) -> list[int]:
    """The processes from an engine up to what somebody started, both included."""
    above = procfs.ancestors_of(engine)
    return [engine, *above[: above.index(top) + 1]] if top in above else [engine]


def _holders(port: int) -> set[int]:
    """The processes that listen on `port`.

    Raises:
        DeployError: a socket there is nobody's whom this process can read.
    """
    for _ in range(LOOKS):
        inodes = procfs.listening_inodes(port)
        if all(procfs.holders({inode}) for inode in inodes):
            return procfs.holders(inodes)
        time.sleep(PAUSE)  # a process that is just being killed is gone before its socket is
    raise DeployError(
        f"port {port} is held by a process that cannot be read: another user's, or in a container",
        "deploy to this host as root (ansible_become), or end that process",
    )


def _family(top: int) -> dict[int, procfs.Process]:
    process = procfs.read_process(top)
    return {} if process is None else family_of(process)


def _read(port: int, listeners: tuple[int, ...], top: int) -> Server:
    engine = _engine_of(listeners, top)
    process, first = procfs.read_process(engine), procfs.read_process(top)
    if process is None or first is None:
        raise ProcessLookupError(engine)
    environ = procfs.environment_of(top)
    argv = tuple(procfs.words_of(top))
    status = procfs.status_of(top)
    engine_environ = process_text(procfs.environment_of(engine))
    cpus = os.sched_getaffinity(top)
    cwd = procfs.link_of(top, "cwd")
    executable = procfs.link_of(top, "exe")
    addresses = procfs.listening_addresses(port)
    return Server(
        port=port,
        address=next((one for one in ANY if one in addresses), addresses[0]),
        listeners=listeners,
        engine_pid=engine,
        top_pid=top,
        family=frozenset(family_of(first, (engine,))),
        argv=argv,
        environ=process_text(environ),
        engine_argv=tuple(procfs.words_of(engine)),
        engine_environ=engine_environ,
        hidden=_hidden(argv, environ),
        cwd=cwd,
        executable=executable,
        program=_program(argv[0], process_text(environ).get("PATH", os.defpath), cwd, executable),
        user=_user(status),
        stdout=_output(top, 1),
        stderr=_output(top, 2),
        umask=int(status["Umask"], 8),
        limits=_limits(top),
        nice=os.getpriority(os.PRIO_PROCESS, top),
        cpus=() if len(cpus) >= (os.cpu_count() or 1) else tuple(sorted(cpus)),
        ignores_hangup=bool(int(status["SigIgn"], 16) & SIGHUP_BIT),
        start_time=process.start_time,
        top_start_time=first.start_time,
        boot_id=procfs.boot_id(),
        started=_started(process.start_time),
        gpus=engine_environ.get("CUDA_VISIBLE_DEVICES", ""),
    )


def _engine_of(listeners: Sequence[int], top: int) -> int:
    """The engine's own process: the highest that holds the socket, has its holder's command line, or is known by it."""
    listener = min(listeners, key=lambda pid: len(chain(pid, top)))
    above = chain(listener, top)
    words = {pid: procfs.words_of(pid) for pid in above}
    known = next((pid for pid in above if recognise(words[pid], {}).engine != UNKNOWN), listener)
    own = [pid for pid in above if words[pid] == words[known] or pid in listeners]
    return own[-1] if above.index(own[-1]) >= above.index(known) else known


def _hidden(argv: Sequence[str], environ: Sequence[str]) -> str:
    if not argv:
        return "it shows no command line"
    if is_title(argv):
        return "it has overwritten its command line and environment with a title"
    if any(entry and "=" not in entry for entry in environ):
        return "it has overwritten its environment"
    return ""


def _program(word: str, path: str, cwd: str, executable: str) -> str:
    """The file that the first word of a command line names, where that is what runs; otherwise what runs."""
    if "/" in word:
        candidates = [os.path.join(cwd, word)]
    else:
        candidates = [os.path.join(cwd, folder, word) for folder in path.split(":")]
    for candidate in candidates:
        with contextlib.suppress(OSError, ValueError):
            if os.path.samefile(candidate, executable):
                return os.path.normpath(candidate) if ".." not in candidate else candidate
    return executable


def _user(status: Mapping[str, str]) -> User:
    uid, gid = int(status["Uid"].split()[1]), int(status["Gid"].split()[1])
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = str(uid)
    return User(name, uid, gid, tuple(sorted(int(one) for one in status["Groups"].split())))


def _output(pid: int, descriptor: int) -> Output:
    path = procfs.link_of(pid, f"fd/{descriptor}")
    if path == NULL:
        return Output(NULL, "file")
    try:
        mode = os.stat(f"/proc/{pid}/fd/{descriptor}").st_mode
    except OSError:
        return Output("", "closed")
    if stat.S_ISREG(mode):
        return Output("", "deleted") if path.endswith(" (deleted)") else Output(path, "file")
    if stat.S_ISFIFO(mode):
        return Output("", "pipe")
    if stat.S_ISSOCK(mode):
        return Output("", "socket")
    return Output("", "terminal" if stat.S_ISCHR(mode) else "unknown")


def _limits(pid: int) -> Limits:
    """Read from /proc, as asking by prlimit takes a capability that root of a container may lack."""
    with open(f"/proc/{pid}/limits", encoding="ascii") as stream:
        rows = {row[0]: (row[1], row[2]) for line in stream if len(row := re.split(r"\s{2,}", line)) > 2}
    return Limits(rows["Max open files"], rows["Max locked memory"])


def _started(ticks: int) -> str:
    ago = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - ago))
