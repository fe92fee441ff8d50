"""A host without systemd: the service is a process group of its own, known by a pid file and its start time.

Nothing starts it again when it dies or when the host boots: the next deployment does, or who runs the program `start`
in the service's folder then. Beside it a small program keeps its log from filling the disk.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils import procfs
from ansible_collections.deployer.sglang.plugins.module_utils.files import pretty_json, read_json, read_text, write_file
from ansible_collections.deployer.sglang.plugins.module_utils.program_text import source_of
from ansible_collections.deployer.sglang.plugins.module_utils.release import (
    LAUNCH_FILE,
    RELEASE_VARIABLE,
    StagedRelease,
)
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import log_rotation, starter
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import RunState, run_state, wait_until
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.logrotate import log_files, rotates

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
        self._rotating: list[subprocess.Popen[bytes]] = []

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
        descriptor = self._new_log()
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
        self._rotate(self._child.pid, staged)

    def _new_log(self) -> int:
        """An empty log, and what was there before beside it."""
        folder, name = (
            os.open(self.folder.logs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC),
            os.path.basename(self.log),
        )
        try:
            if os.path.lexists(self.log):
                log_rotation.shift(folder, name)
                os.replace(name, f"{name}.1", src_dir_fd=folder, dst_dir_fd=folder)
            # Appending: what writes on at its old place makes a file of holes when the log is emptied under it.
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
            return os.open(name, flags, 0o640, dir_fd=folder)
        finally:
            os.close(folder)

    def _rotate(self, pid: int, staged: StagedRelease) -> None:
        """Have the log kept bounded while the process lives, and the file that an adopted one writes to as its user.

        One that the host's logrotate rotates is left to it.
        """
        adopted = staged.release.adopted
        started = procfs.start_time_of(pid)
        own = {"user": adopted["uid"], "group": adopted["gid"], "extra_groups": adopted["groups"]} if adopted else {}
        jobs: list[tuple[str, dict[str, Any]]] = [(self.log, {})]
        jobs += [(path, own if os.geteuid() == 0 else {}) for path in log_files(adopted.get("log", {}).values())]
        for path, identity in jobs:
            if rotates(path):
                continue
            # Without it the log grows, and the service is none the worse.
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                self._rotating.append(_rotating(path, pid, started, identity))

    def _record(self, pid: int, release_id: str) -> None:
        started = procfs.read_process(pid)
        start_time = started.start_time if started else 0
        record = {"pid": pid, "start_time": start_time, "boot_id": procfs.boot_id(), "release": release_id}
        write_file(self.pid_file, pretty_json(record))

    def start_committed(self, staged: StagedRelease) -> None:
        """The same: this supervisor knows no difference."""
        self.start_candidate(staged)

    def commit(self, staged: StagedRelease) -> None:
        """What runs, runs on; beside it lies the program that starts it when the host boots, for whoever runs that."""
        program = f"#!{sys.executable} -IS\n{source_of(starter)}"
        for name, text, mode in (("start", program, 0o755), (starter.ROTATION, source_of(log_rotation), 0o644)):
            path = os.path.join(self.folder.path, name)
            # Without room for it the service is none the worse.
            with contextlib.suppress(OSError):
                if read_text(path) != text:
                    write_file(path, text, mode)

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


def _rotating(path: str, pid: int, start_time: int, identity: Mapping[str, Any]) -> subprocess.Popen[bytes]:
    """A process that rotates the log of another one for as long as that one lives."""
    limits = (str(log_rotation.LARGEST), str(log_rotation.EVERY))
    words = [sys.executable, "-I", "-S", "-", path, str(pid), str(start_time), *limits]
    process = subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={},
        start_new_session=True,
        close_fds=True,
        **identity,
    )
    assert process.stdin is not None
    with process.stdin:
        process.stdin.write(source_of(log_rotation).encode())
    return process
