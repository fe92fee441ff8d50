"""A systemd unit of the host's own, adopted: started and stopped by systemd, its files left as they are."""

from __future__ import annotations

import dataclasses

from ansible_collections.deployer.sglang.plugins.module_utils.release import StagedRelease
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import RunState
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.systemd import SystemdSupervisor, systemctl

ENABLED = "enabled"


class UnitSupervisor:
    """One unit that the deployment did not write.

    Args:
        unit: its name, such as llama-factory.service.
        release_id: the adopted release that it is; its processes do not say so themselves.
    """

    def __init__(self, unit: str, release_id: str | None) -> None:
        self.unit = unit
        self.release_id = release_id
        self._systemd = SystemdSupervisor(unit)

    def state(self) -> RunState:
        """Main process and control group of the unit, as systemd has them."""
        now = self._systemd.state()
        return dataclasses.replace(now, release=self.release_id if now.running else None)

    def start_candidate(self, staged: StagedRelease) -> None:
        """Start the unit. Its own rules hold: a process that it starts again is another one, which the gate sees."""
        systemctl("reset-failed", self.unit, check=False)  # nothing to reset is no failure
        systemctl("start", self.unit)

    def start_committed(self, staged: StagedRelease) -> None:
        """Start the unit, and at boot where it was so."""
        self.start_candidate(staged)
        self.commit(staged)

    def commit(self, staged: StagedRelease) -> None:
        """Have it started at boot, where it was so when it was adopted."""
        if staged.release.adopted.get("enabled") == ENABLED:
            systemctl("enable", self.unit)

    def forget(self) -> None:
        """Start it no more at boot: it would take the port from what serves now. Its files stay."""
        systemctl("disable", self.unit)

    def request_stop(self, timeout: int) -> None:
        """Stop it as the unit itself says."""
        systemctl("stop", self.unit, timeout=timeout + 60)

    def log_tail(self, lines: int) -> str:
        """The last lines in the journal of the unit's newest start."""
        return self._systemd.log_tail(lines)
