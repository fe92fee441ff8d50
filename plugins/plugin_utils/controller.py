"""The process that carries a run on the controller: what names it, and whether one that was written down is gone."""

from __future__ import annotations

import hashlib
import os
import socket

from ansible_collections.deployer.sglang.plugins.module_utils.procfs import boot_id, start_time_of
from ansible_collections.deployer.sglang.plugins.module_utils.rollout_lock import Holder

MACHINE = "/etc/machine-id"


def playbook_process() -> int:
    """The process id of ansible-playbook, whose workers run the actions."""
    return os.getppid()


def holder(who: str, what: str, now: float, run: str = "", pid: int = 0) -> Holder:
    """This run as the holder of a lock.

    Args:
        who: asks for it.
        what: it does.
        now: seconds since the epoch.
        run: its id; '' for one that follows from ansible-playbook's process.
        pid: a further process that carries it; 0 for none.
    """
    pids = [one for one in (playbook_process(), pid) if one]
    processes = tuple((one, start_time_of(one)) for one in dict.fromkeys(pids))
    machine, boot, namespace = machine_id(), boot_id(), pid_namespace()
    own = f"{machine} {boot} {namespace} {processes[0]}"
    identity = run or hashlib.sha256(own.encode()).hexdigest()[:12]
    return Holder(identity, who, socket.gethostname(), what, now, machine, boot, namespace, processes)


def is_gone(other: Holder) -> bool:
    """True when it is known that no process of a run exists any more: it was one of this very machine."""
    if not other.machine or other.machine != machine_id() or other.controller != socket.gethostname():
        return False
    if other.boot != boot_id():
        return bool(other.boot)  # this machine was booted since
    if other.namespace != pid_namespace():
        return False  # another container's: its process ids mean nothing here
    return bool(other.processes) and not any(_exists(pid, start) for pid, start in other.processes)


def machine_id() -> str:
    """What tells this machine from others; '' where it is not known."""
    try:
        with open(MACHINE, encoding="ascii") as stream:
            return stream.read().strip()
    except (OSError, UnicodeDecodeError):
        return ""


def pid_namespace() -> str:
    """Within one of them, a process id names a process; '' where it is not known."""
    try:
        return os.readlink("/proc/self/ns/pid")
    except OSError:
        return ""


def _exists(pid: int, start_time: int) -> bool:
    """True while the process is there; also where /proc shows other users' processes to nobody (hidepid)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        pass
    found = start_time_of(pid)
    return not found or found == start_time


def has_terminal() -> bool:
    """True when ansible-playbook, whose worker this is, can ask the operator: its standard input is a terminal."""
    try:
        descriptor = os.open(f"/proc/{playbook_process()}/fd/0", os.O_RDONLY | os.O_NOCTTY | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        return os.isatty(descriptor)
    finally:
        os.close(descriptor)
