"""What a supervisor has to do: start a release, stop it provably, and say what runs."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from ansible_collections.deployer.sglang.plugins.module_utils import procfs
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.release import RELEASE_VARIABLE, StagedRelease

POLL = 0.1  # seconds between two looks at /proc


@dataclass(frozen=True)
class RunState:
    """What runs for a service now.

    Args:
        main_pid: the process that was started, None when it is not there (any more).
        pids: every living process of the service, leftovers included.
        start_time: of the main process, clock ticks since boot.
        release: the id of the release that the main process runs; None where it says none.
        exit: how the main process ended, for people; '' while it runs or when nothing is known.
    """

    main_pid: int | None
    pids: frozenset[int]
    start_time: int = 0
    release: str | None = None
    exit: str = ""

    @property
    def running(self) -> bool:
        """True when the process that was started is alive."""
        return self.main_pid is not None


class Supervisor(Protocol):
    """Keeps one service's process. Every method acts on this host, as the user who calls it."""

    def state(self) -> RunState:
        """What runs now."""

    def start_candidate(self, staged: StagedRelease) -> None:
        """Start a release that has yet to prove itself: it is not started again when it dies, nor at boot."""

    def start_committed(self, staged: StagedRelease) -> None:
        """Start the release that was committed before."""

    def commit(self, staged: StagedRelease) -> None:
        """Make the running candidate the one that is kept alive and started at boot."""

    def forget(self) -> None:
        """Keep nothing any more: what was stopped is not started again, at boot or ever."""

    def request_stop(self, timeout: int) -> None:
        """Ask the processes to end; return when they have, or after `timeout` seconds."""

    def log_tail(self, lines: int) -> str:
        """The last lines that the newest process has logged."""


def run_state(main_pid: int | None, pids: set[int], exit_status: str = "") -> RunState:
    """The state for a main process and its family, read from /proc; a main process that is gone becomes None."""
    main = procfs.read_process(main_pid) if main_pid else None
    if main is None or main.state in "ZX":
        return RunState(None, frozenset(pids), exit=exit_status)
    release = procfs.variable_of(main.pid, RELEASE_VARIABLE)
    return RunState(main.pid, frozenset(pids | {main.pid}), main.start_time, release)


def wait_until(condition: Callable[[], bool], timeout: float) -> bool:
    """Look again and again until `condition` holds; False when it did not within `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() >= deadline:
            return False
        time.sleep(POLL)
    return True


def stop(supervisor: Supervisor, port: int, timeout: int) -> None:
    """End the service and prove it: none of its processes is left, and its port is free.

    A killed scheduler can outlive its parent with GPU memory and ports (sglang issues 23627, 31645), so that the
    parent's end proves nothing. Leftovers of ours are killed; someone else's process is named and left alone.

    Args:
        supervisor: of the service.
        port: that nobody may listen on afterwards.
        timeout: seconds that the engine gets for its drain.
    Raises:
        DeployError: a process of ours cannot be ended, or someone else listens on the port.
    """
    # A control group that systemd gave up can still hold a process in a hung driver call: look for these themselves.
    before = [process for pid in supervisor.state().pids if (process := procfs.read_process(pid)) is not None]

    def left() -> set[int]:
        return set(supervisor.state().pids) | {process.pid for process in before if procfs.lives(process)}

    supervisor.request_stop(timeout)

    def none_left() -> bool:
        for pid in left():  # again and again: what is no shell may start the engine anew until it is gone itself
            kill(pid)
        return not left()

    if not wait_until(none_left, 30):
        names = "; ".join(procfs.describe(pid) for pid in sorted(left()))
        raise DeployError(f"processes of the service do not end: {names}", "look for a hung driver call (dmesg)")
    if not wait_until(lambda: not procfs.listening_inodes(port), 10):
        raise DeployError(
            f"port {port} is held by {procfs.describe_listeners(port)}", "end that process, or use another port"
        )


def kill(pid: int) -> None:
    """SIGKILL, for a process that may be gone already."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return
