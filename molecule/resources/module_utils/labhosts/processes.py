"""Processes by identity: a pid alone is reused by the kernel, a pid with its start time is not."""

from __future__ import annotations

import os
import select
import signal
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

END_TIMEOUT = 30.0  # seconds; a killed host needs about 0.1


@dataclass(frozen=True)
class ProcessIdentity:
    """One process of one boot of this machine.

    Args:
        pid: process id in this PID namespace.
        start: start time in clock ticks since boot, field 22 of proc(5) stat.
        boot: the kernel's boot id, without which pid and start may recur after this machine restarts.
    """

    pid: int
    start: int
    boot: str

    @property
    def alive(self) -> bool:
        """Whether exactly this process still runs; a zombie has ended."""
        stat = _stat(self.pid)
        return stat is not None and stat[0] not in "ZX" and stat[1] == self.start and _boot_id() == self.boot


def identify(pid: int) -> ProcessIdentity:
    """The identity of the process that now has `pid`.

    Raises:
        DeployError: there is none.
    """
    stat = _stat(pid)
    if stat is None:
        raise DeployError(f"Process {pid} ended before it was recorded")
    return ProcessIdentity(pid, stat[1], _boot_id())


def end(process: ProcessIdentity) -> None:
    """Kill `process` with its direct children and wait until the kernel has let go of them.

    A process that is gone, or whose pid now belongs to another, is left alone.

    Raises:
        DeployError: it is still there after `END_TIMEOUT` seconds.
    """
    if process.alive:
        with ExitStack() as stack:
            handles = [_open(stack, pid) for pid in (process.pid, *_children(process.pid))]
            # Checked again now that the handles are open: from here on they can only mean these processes.
            if process.alive:
                for handle in handles:
                    _kill(process, handle)
    # The caller may be the parent (a test that booted the host): do not leave a zombie behind.
    with suppress(ChildProcessError):
        os.waitpid(process.pid, os.WNOHANG)


def _kill(process: ProcessIdentity, handle: int | None) -> None:
    if handle is None:
        return
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(handle, signal.SIGKILL)
    if not select.select([handle], [], [], END_TIMEOUT)[0]:
        raise DeployError(f"Process {process.pid} is still there {END_TIMEOUT:.0f} s after SIGKILL")


def _open(stack: ExitStack, pid: int) -> int | None:
    try:
        handle = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    stack.callback(os.close, handle)
    return handle


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _stat(pid: int) -> tuple[str, int] | None:
    """State letter and start time of `pid`, None when there is no such process."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command in parentheses may hold spaces: count fields after it.
    fields = text.rpartition(")")[2].split()
    return fields[0], int(fields[19])


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
