"""What somebody started by hand and the deployment adopted: until it ends it is the service, and then never again.

The record of its processes is compared with /proc at every look. Once they are gone, all that is asked goes to the
supervisor that keeps the service from then on.
"""

from __future__ import annotations

import contextlib
import os
import signal
import stat
from collections.abc import Collection, Mapping
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils import procfs
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.family import (
    family_of,
    is_shell,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import read_json
from ansible_collections.deployer.sglang.plugins.module_utils.procfs import Process
from ansible_collections.deployer.sglang.plugins.module_utils.release import StagedRelease
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import (
    RunState,
    Supervisor,
    kill,
    wait_until,
)
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.process import TAIL_BYTES
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.systemd import SystemdSupervisor

ADOPTED_FILE = "adopted.json"
BY_HAND = "hand"
WRAPPER_GRACE = 5  # seconds for `uv run` and children, once the engine has ended


def read_marks(folder: ServiceFolder) -> dict[str, Any] | None:
    """What was recorded of the service's adopted processes; None where none were, or it cannot be read."""
    try:
        marks = read_json(os.path.join(folder.path, ADOPTED_FILE))
    except DeployError:
        return None
    needed = ("release", "by", "pid", "start_time", "boot_id", "top_pid", "top_start_time", "family")
    return marks if isinstance(marks, dict) and all(name in marks for name in needed) else None


class ByHand:
    """An adopted process, in front of the supervisor that takes over when it has ended.

    Args:
        marks: what adopted.json holds.
        inner: the supervisor that keeps what the deployment starts.
    """

    def __init__(self, marks: dict[str, Any], inner: Supervisor) -> None:
        self.marks = marks
        self.inner = inner
        self._this_boot = marks["boot_id"] == procfs.boot_id()
        self._seen: dict[int, int] = dict(marks["family"]) if self._this_boot else {}
        self._started: StagedRelease | None = None

    @property
    def main(self) -> tuple[int, int] | None:
        """Pid and start time of the adopted engine; of the wrapper that is starting it anew, where there is one."""
        for name in ("", "top_"):
            pid, start_time = self.marks[f"{name}pid"], self.marks[f"{name}start_time"]
            if not self._this_boot or not procfs.runs(pid, start_time):
                continue
            found = procfs.read_process(pid)
            if name and found is not None and found.state == "T":
                continue  # stopped by `request_stop` that was killed: it starts nothing any more
            return pid, start_time
        return None

    def state(self) -> RunState:
        """The adopted process and what belongs to it, while it lives; then the inner supervisor's, and what is left."""
        main = self.main
        family = frozenset(self._family())
        if main is not None:
            return RunState(main[0], family | {main[0]}, main[1], self.marks["release"])
        now = self.inner.state()
        return RunState(now.main_pid, now.pids | family, now.start_time, now.release, now.exit)

    def start_candidate(self, staged: StagedRelease) -> None:
        """Start by the inner supervisor: nobody's hands start it now."""
        self._started = staged
        self.inner.start_candidate(staged)

    def start_committed(self, staged: StagedRelease) -> None:
        """The same for what was committed before."""
        self._started = staged
        self.inner.start_committed(staged)

    def commit(self, staged: StagedRelease) -> None:
        """Have what runs kept by the inner supervisor; the adopted process itself is not started a second time."""
        if self.main is None:
            self.inner.commit(staged)
        elif isinstance(self.inner, SystemdSupervisor):
            self.inner.install(staged)

    def forget(self) -> None:
        """Keep nothing any more."""
        self.inner.forget()

    def request_stop(self, timeout: int) -> None:
        """SIGTERM to the engine's process, once; scripts above it cannot start it again meanwhile."""
        if self.main is None:
            self.inner.request_stop(timeout)
            return
        family = self._family()
        shells = self._shells(family)
        for shell in shells:
            _signal(shell, signal.SIGSTOP)  # killed now, one that leads a session would take the engine along by SIGHUP
        try:
            engines = [pid for pid in self._engines(family, shells) if pid in family]
            for pid in engines:
                _signal(pid, signal.SIGTERM)
            ended = wait_until(lambda: not any(procfs.lives(family[pid]) for pid in engines), timeout)
            for shell in shells:
                kill(shell)
        finally:
            for shell in shells:  # one that was killed is not there any more
                _signal(shell, signal.SIGCONT)
        if ended:
            wait_until(lambda: not self._family(), WRAPPER_GRACE)

    def log_tail(self, lines: int) -> str:
        """The last lines of the adopted release's log file, while it is what runs; otherwise the inner supervisor's."""
        path, owner = self._log()
        return tail(path, owner, lines) if path else self.inner.log_tail(lines)

    def _log(self) -> tuple[str, int]:
        """The file that what runs now writes to, '' where it is none, and the user whose file it has to be."""
        if self._started is not None:
            adopted = self._started.release.adopted
            return (adopted["log"]["stdout"], adopted["uid"]) if adopted else ("", 0)
        if self.main is not None or self.inner.state().release == self.marks["release"]:
            return self.marks.get("log", ""), self.marks.get("uid", 0)
        return "", 0

    def _family(self) -> dict[int, Process]:
        """What lives of the adopted processes; what was once seen among them stays one of them."""
        if not self._this_boot:
            return {}
        known = [pid for pid, start in self._seen.items() if procfs.runs(pid, start)]
        top = Process(self.marks["top_pid"], 0, 0, "", self.marks["top_start_time"])
        found = family_of(top, known)
        self._seen.update({pid: process.start_time for pid, process in found.items()})
        return found

    def _shells(self, family: Mapping[int, Process]) -> list[int]:
        """The scripts at the top of the family, which may start the engine again when it ends."""
        found: list[int] = []
        waiting = [self.marks["top_pid"]]
        while waiting:
            pid = waiting.pop()
            if pid in family and is_shell(procfs.words_of(pid)):
                found.append(pid)
                waiting += [one.pid for one in family.values() if one.parent == pid]
        return found

    def _engines(self, family: Mapping[int, Process], shells: Collection[int]) -> list[int]:
        """Who gets SIGTERM: the engine that was adopted; where a wrapper has started another, what the wrapper runs."""
        if procfs.runs(self.marks["pid"], self.marks["start_time"]):
            return [self.marks["pid"]]
        top = self.marks["top_pid"]
        return [pid for pid, one in family.items() if pid not in shells and (pid == top or one.parent in shells)]


def tail(path: str, owner: int, lines: int) -> str:
    """The last lines of a log; '' where it is no plain file of its user's, who could point root at another's by it."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or (owner and found.st_uid != owner):
            return ""
        stream.seek(max(0, found.st_size - TAIL_BYTES))
        text = stream.read(TAIL_BYTES).decode(errors="replace")
    return "\n".join(text.strip().splitlines()[-lines:])


def _signal(pid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)
