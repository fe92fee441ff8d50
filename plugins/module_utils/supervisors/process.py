"""A host without systemd: the service is a process group of its own, known by a pid file and its start time.

Nothing starts it again when it dies or when the host boots: the next deployment does.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess

from ansible_collections.deployer.sglang.plugins.module_utils import procfs
from ansible_collections.deployer.sglang.plugins.module_utils.files import pretty_json, read_json, write_file
from ansible_collections.deployer.sglang.plugins.module_utils.release import (
    LAUNCH_FILE,
    RELEASE_VARIABLE,
    StagedRelease,
)
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import RunState, run_state, wait_until

TAIL_BYTES = 64 * 1024
FAMILY_GRACE = 5  # seconds for the children of a process that has ended, before they are killed


class ProcessSupervisor:
    """One process group in a session of its own.

    Args:
        folder: the service's folder; the pid file lies in it, the log in its logs folder.
    """

    def __init__(self, folder: ServiceFolder) -> None:
        self.folder = folder
        self.pid_file = os.path.join(folder.path, "pid.json")
        self.log = os.path.join(folder.logs, "service.log")
        self._child: subprocess.Popen[bytes] | None = None  # known to the run that started it

    def state(self) -> RunState:
        """The process that the pid file names, when pid, start time and boot are the same, and its session's others."""
        known = read_json(self.pid_file)
        if not known or known["boot_id"] != procfs.boot_id():
            return RunState(None, frozenset())
        leader = procfs.read_process(known["pid"])
        if leader is not None and leader.start_time != known["start_time"]:
            return RunState(None, frozenset())  # the pid is someone else's now
        family = {p.pid for p in procfs.all_processes() if known["pid"] in (p.session, p.group)}
        if leader is None:  # the number may have been somebody else's since
            family = {pid for pid in family if procfs.variable_of(pid, RELEASE_VARIABLE) == known["release"]}
        status = self._child.poll() if self._child is not None and self._child.pid == known["pid"] else None
        return run_state(known["pid"], family, "" if status is None else f"exit status {status}")

    def start_candidate(self, staged: StagedRelease) -> None:
        """Run the release's launch script in a session of its own, its output in the log file."""
        os.makedirs(self.folder.logs, mode=0o750, exist_ok=True)
        if os.path.exists(self.log):
            os.replace(self.log, f"{self.log}.1")
        descriptor = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o640)
        try:
            # The child outlives this module: own session, no descriptor of ours, and nobody waits for it.
            self._child = subprocess.Popen(
                [os.path.join(self.folder.release(staged.id), LAUNCH_FILE)],
                stdin=subprocess.DEVNULL,
                stdout=descriptor,
                stderr=descriptor,
                # What was adopted changes to its folder itself, as its user: root may not enter that.
                cwd="/" if staged.release.adopted else staged.release.working_directory,
                start_new_session=True,
                close_fds=True,
            )
        finally:
            os.close(descriptor)
        try:
            self._record(self._child.pid, staged.id)
        except BaseException:
            os.killpg(self._child.pid, signal.SIGKILL)  # nobody would ever know of it
            raise

    def _record(self, pid: int, release_id: str) -> None:
        started = procfs.read_process(pid)
        start_time = started.start_time if started else 0
        record = {"pid": pid, "start_time": start_time, "boot_id": procfs.boot_id(), "release": release_id}
        write_file(self.pid_file, pretty_json(record))

    def start_committed(self, staged: StagedRelease) -> None:
        """The same: this supervisor knows no difference."""
        self.start_candidate(staged)

    def commit(self, staged: StagedRelease) -> None:
        """Nothing to do: what runs, runs on."""

    def forget(self) -> None:
        """Forget the process that has ended."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.pid_file)

    def request_stop(self, timeout: int) -> None:
        """SIGTERM to the process that was started, once: a second one orphans SGLang's detokenizer."""
        main = self.state().main_pid
        if main is None:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(main, signal.SIGTERM)
        if wait_until(lambda: not self.state().running, timeout):
            wait_until(lambda: not self.state().pids, FAMILY_GRACE)

    def log_tail(self, lines: int) -> str:
        """The last lines of the log file."""
        try:
            with open(self.log, "rb") as stream:
                stream.seek(0, os.SEEK_END)
                stream.seek(max(0, stream.tell() - TAIL_BYTES))
                text = stream.read().decode(errors="replace")
        except FileNotFoundError:
            return ""
        return "\n".join(text.strip().splitlines()[-lines:])
