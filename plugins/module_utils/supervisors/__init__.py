"""Supervisors: what keeps a service's process alive."""

from __future__ import annotations

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import Supervisor
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.process import ProcessSupervisor
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.systemd import SystemdSupervisor


def supervisor_for(kind: str, service: str, folder: ServiceFolder) -> Supervisor:
    """The supervisor of a service.

    Args:
        kind: systemd or process.
        service: the service's name.
        folder: where the service lies on this host.
    Raises:
        DeployError: there is no such kind.
    """
    if kind == "systemd":
        return SystemdSupervisor(f"inference-{service}.service")
    if kind == "process":
        return ProcessSupervisor(folder)
    raise DeployError(f"unknown supervisor {kind!r}", "set inference_supervisor to systemd or process")
