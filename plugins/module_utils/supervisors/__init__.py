"""Supervisors: what keeps a service's process alive."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import read_json
from ansible_collections.deployer.sglang.plugins.module_utils.release import RELEASE_FILE
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import Supervisor
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.by_hand import BY_HAND, ByHand, read_marks
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.process import ProcessSupervisor
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.systemd import SystemdSupervisor
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.unit import UnitSupervisor

UNIT_KIND = "unit:"


def supervisor_for(kind: str, service: str, folder: ServiceFolder) -> Supervisor:
    """The supervisor of a service; what was adopted and still runs is in front of it.

    Args:
        kind: systemd, process, or `unit:NAME.service` for an adopted unit of the host's own.
        service: the service's name.
        folder: where the service lies on this host.
    Raises:
        DeployError: there is no such kind.
    """
    marks = read_marks(folder)
    if kind.startswith(UNIT_KIND):
        return UnitSupervisor(kind[len(UNIT_KIND) :], _adopted_release(kind, marks, folder))
    inner: Supervisor
    if kind == "systemd":
        inner = SystemdSupervisor(f"inference-{service}.service")
    elif kind == "process":
        inner = ProcessSupervisor(folder)
    else:
        raise DeployError(f"unknown supervisor {kind!r}", "set inference_supervisor to systemd or process")
    return ByHand(marks, inner) if marks is not None and marks["by"] == BY_HAND else inner


def _adopted_release(kind: str, marks: Mapping[str, Any] | None, folder: ServiceFolder) -> str | None:
    """The release that an adopted unit is: the one that was adopted last, where it was adopted more than once."""
    if marks is not None and f"{UNIT_KIND}{marks.get('unit')}" == kind:
        return str(marks["release"])
    found = []
    with contextlib.suppress(OSError):
        for entry in os.scandir(folder.releases):
            with contextlib.suppress(DeployError):
                value = read_json(os.path.join(entry.path, RELEASE_FILE))
                if isinstance(value, dict) and value.get("supervisor") == kind:
                    found.append((entry.stat().st_mtime, entry.name))
    return max(found)[1] if found else None
