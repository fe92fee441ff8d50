"""systemd keeps the service: a unit in /etc for what was committed, one in /run while a release proves itself.

The unit in /run/systemd/system.control takes precedence over the one in /etc (systemd.unit(5), "Unit File Load Path")
and is gone after a power cut: the host then comes up with what was committed last.
"""

from __future__ import annotations

import os
import subprocess

from ansible_collections.deployer.sglang.plugins.module_utils import procfs
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import read_text, sync_directory, write_file
from ansible_collections.deployer.sglang.plugins.module_utils.release import LAUNCH_FILE, StagedRelease
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import logrotate
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import RunState, run_state

COMMITTED = "/etc/systemd/system"
CANDIDATE = "/run/systemd/system.control"
# A candidate that dies is a failed candidate: it must not be started again behind the gate's back.
# One write of the unit is the switch: a host that loses power in the middle of a commit starts the old release or the
# new one, each with its own unit, whatever `current` names.
COMMITTED_RULES = "\n# What was committed.\n[Service]\nExecStart=\nExecStart={launch}\n"
CANDIDATE_RULES = (
    "\n# This release has not passed its gate yet.\n[Service]\nRestart=no\nExecStart=\nExecStart={launch}\n"
)


class SystemdSupervisor:
    """One unit.

    Args:
        unit: its name, such as inference-code2sql.service.
    """

    def __init__(self, unit: str) -> None:
        self.unit = unit

    def state(self) -> RunState:
        """Main process and control group of the unit, as systemd has them."""
        shown = self._show("MainPID", "ControlGroup", "Result", "ExecMainStatus", "ExecMainCode")
        pids = {p for p in procfs.cgroup_pids(shown["ControlGroup"]) if procfs.read_process(p) is not None}
        ended = ""
        if shown["ExecMainCode"] not in ("", "0"):
            ended = f"exit status {shown['ExecMainStatus']} ({shown['Result']})"
        return run_state(int(shown["MainPID"] or 0) or None, pids, ended)

    def start_candidate(self, staged: StagedRelease) -> None:
        """Start the release from a unit in /run, which does not outlive this boot."""
        os.makedirs(CANDIDATE, exist_ok=True)
        rules = CANDIDATE_RULES.format(launch=_launch(staged))
        write_file(os.path.join(CANDIDATE, self.unit), staged.unit + rules)
        self._start()

    def start_committed(self, staged: StagedRelease) -> None:
        """Start it from the unit in /etc."""
        self._drop_candidate()
        self._write_committed(staged)
        self._start()
        systemctl("enable", self.unit)
        logrotate.ensure(staged.release.service, staged)

    def commit(self, staged: StagedRelease) -> None:
        """Write the unit to /etc, enable it, and forget the one in /run; the process runs on."""
        self._write_committed(staged)
        self._drop_candidate()
        systemctl("enable", self.unit)
        systemctl("daemon-reload")
        # Runs already, unless it died since the gate: the candidate was not to be started again, this unit is.
        systemctl("start", self.unit)
        logrotate.ensure(staged.release.service, staged)

    def install(self, staged: StagedRelease) -> None:
        """Have the release started at boot, and nothing now: it runs already, and not by this unit."""
        self._write_committed(staged)
        systemctl("daemon-reload")
        systemctl("enable", self.unit)

    def forget(self) -> None:
        """Disable the unit and remove it."""
        path = os.path.join(COMMITTED, self.unit)
        self._drop_candidate()
        if os.path.exists(path):
            systemctl("disable", self.unit)
            os.unlink(path)
            sync_directory(COMMITTED)
        systemctl("daemon-reload")

    def request_stop(self, timeout: int) -> None:
        """SIGTERM to the main process, SIGKILL to all that is left after the unit's TimeoutStopSec."""
        if self._show("LoadState")["LoadState"] == "loaded":
            systemctl("stop", self.unit, timeout=timeout + 60)
            self._drop_candidate()
            systemctl("daemon-reload")

    def log_tail(self, lines: int) -> str:
        """The last lines in the journal of the unit's newest start."""
        command = ["journalctl", "--no-pager", "--output=cat", f"--lines={lines}"]
        invocation = self._show("InvocationID")["InvocationID"]
        command += [f"_SYSTEMD_INVOCATION_ID={invocation}"] if invocation else [f"--unit={self.unit}"]
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
        return done.stdout.strip()

    def _start(self) -> None:
        systemctl("daemon-reload")
        systemctl("reset-failed", self.unit, check=False)  # nothing to reset is no failure
        systemctl("start", self.unit)

    def _write_committed(self, staged: StagedRelease) -> None:
        """The unit in /etc, left alone when it is right: a full disk must not keep it from starting."""
        path = os.path.join(COMMITTED, self.unit)
        text = staged.unit + COMMITTED_RULES.format(launch=_launch(staged))
        if read_text(path) != text:
            write_file(path, text)

    def _drop_candidate(self) -> None:
        path = os.path.join(CANDIDATE, self.unit)
        if os.path.exists(path):
            os.unlink(path)
            sync_directory(CANDIDATE)

    def _show(self, *properties: str) -> dict[str, str]:
        text = systemctl("show", "--property", ",".join(properties), self.unit)
        found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
        return {name: found.get(name, "") for name in properties}


def systemctl(*words: str, timeout: int = 90, check: bool = True) -> str:
    """Run systemctl and give its output.

    Raises:
        DeployError: it is missing, fails, or takes longer than `timeout` seconds.
    """
    try:
        done = subprocess.run(
            ["systemctl", *words], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout
        )
    except FileNotFoundError:
        raise DeployError("systemctl is not on this host", "set inference_supervisor: process") from None
    except subprocess.TimeoutExpired:
        raise DeployError(f"systemctl {' '.join(words)} took longer than {timeout} s", "see systemctl status") from None
    if check and done.returncode != 0:
        raise DeployError(
            f"systemctl {' '.join(words)} failed: {done.stderr.strip()}", "see journalctl -xe on the host"
        )
    return done.stdout


def _launch(staged: StagedRelease) -> str:
    folder = Store(staged.release.root).service(staged.release.service).release(staged.id)
    return os.path.join(folder, LAUNCH_FILE)
