"""Filters over the service description."""

from __future__ import annotations

from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils import service
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.service_description import (
    findings_problems,
    parse_services,
    placement_problems,
    unknown_settings,
)


def service_problems(services: Any, environments: Any) -> list[str]:
    """What is wrong with the description, a line each with key and fix."""
    try:
        parse_services(services, environments)
    except DeployError as error:
        return error.detail.splitlines()
    return []


def cutover_seconds(services: Any, environments: Any) -> int:
    """The longest that a cut-over of one of the services can take: the new release, and the old one after it.

    Each may wait for readiness, be asked, hold, and drain; the two may be stopped twice.
    """
    parsed, _ = parse_services(services, environments)
    longest = max(
        one.gate.ready_timeout + one.gate.min_healthy_time + 4 * one.gate.request_timeout + 2 * one.stop_timeout
        for _, one in service.with_predecessors(parsed)
    )
    return 3 * longest + 600


def environments_used(services: Any, environments: Any) -> list[dict[str, str]]:
    """The environments of the services and their predecessors: name, lock or prefix, and backend."""
    parsed, known = parse_services(services, environments)
    used = [known[name] for name in service.environments_used(parsed)]
    return [{"name": e.name, "lock": e.lock or "", "prefix": e.prefix or "", "backend": e.backend} for e in used]


def models_used(services: Any, environments: Any) -> list[dict[str, str]]:
    """The models of the services and their predecessors, each source once: folder name on the host, and source."""
    parsed, _ = parse_services(services, environments)
    return [{"name": name, "source": source} for source, name in service.model_folders(parsed).items()]


def service_ports(services: Any) -> list[dict[str, Any]]:
    """Name and port of every service: what the modules that look at a host need of it."""
    return [{"name": one["name"], "port": one["port"]} for one in services]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """The filters of this file by name."""
        return {
            "cutover_seconds": cutover_seconds,
            "findings_problems": findings_problems,
            "placement_problems": lambda placement: placement_problems(*placement),
            "service_problems": service_problems,
            "environments_used": environments_used,
            "models_used": models_used,
            "service_ports": service_ports,
            "unknown_settings": lambda names: unknown_settings(list(names)),
        }
