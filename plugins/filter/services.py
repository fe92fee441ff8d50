"""Filters over the service description."""

from __future__ import annotations

import re
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import list_files
from ansible_collections.deployer.sglang.plugins.module_utils.models import check_source
from ansible_collections.deployer.sglang.plugins.module_utils.service import Service
from ansible_collections.deployer.sglang.plugins.module_utils.service_description import (
    parse_services,
    placement_problems,
    unknown_settings,
)
from ansible_collections.deployer.sglang.plugins.plugin_utils.sources import check_bundle, controller_path


def service_problems(services: Any, environments: Any) -> list[str]:
    """What is wrong with the description, a line each with key and fix."""
    try:
        parse_services(services, environments)
    except DeployError as error:
        return error.detail.splitlines()
    return []


def missing_sources(services: Any, environments: Any, inventory_folder: str) -> list[str]:
    """What the description names on this controller and what is not there, a line each with the fix."""
    locks = [one["lock"] for one in environments_used(services, environments) if one["lock"]]
    sources = [one["source"] for one in models_used(services, environments)]
    checks = [(check_bundle, lock) for lock in locks] + [(_check_model, source) for source in sources]
    found = []
    for check, path in checks:
        try:
            check(controller_path(path, inventory_folder))
        except (DeployError, OSError) as error:
            found.append(str(error).partition("\n")[0])
    return found


def _check_model(source: str) -> None:
    check_source(list_files(source), source)


def cutover_seconds(services: Any, environments: Any) -> int:
    """The longest that a cut-over of one of the services can take: the new release, and the old one after it.

    Each may wait for readiness, be asked, hold, and drain; the two may be stopped twice.
    """
    parsed, _ = parse_services(services, environments)
    longest = max(
        one.gate.ready_timeout + one.gate.min_healthy_time + 4 * one.gate.request_timeout + 2 * one.stop_timeout
        for one in _all(parsed)
    )
    return 3 * longest + 600


def environments_used(services: Any, environments: Any) -> list[dict[str, str]]:
    """The environments of the services and their predecessors: name, and lock or prefix."""
    parsed, known = parse_services(services, environments)
    names = dict.fromkeys(service.environment for service in _all(parsed))
    return [{"name": name, "lock": known[name].lock or "", "prefix": known[name].prefix or ""} for name in names]


def gpus_used(services: Any, environments: Any) -> list[str]:
    """The GPUs of the services and their predecessors, indices and UUIDs, each once."""
    parsed, _ = parse_services(services, environments)
    return list(dict.fromkeys(gpu for service in _all(parsed) for gpu in service.gpus))


def models_used(services: Any, environments: Any) -> list[dict[str, str]]:
    """The models of the services and their predecessors, each source once: folder name on the host, and source."""
    parsed, _ = parse_services(services, environments)
    sources: dict[str, str] = {}
    for service in _all(parsed):
        sources.setdefault(service.model.source, re.sub(r"[/:]", "-", service.model.name))
    return [{"name": name, "source": source} for source, name in sources.items()]


def service_ports(services: Any) -> list[dict[str, Any]]:
    """Name and port of every service: what the modules that look at a host need of it."""
    return [{"name": service["name"], "port": service["port"]} for service in services]


def _all(services: tuple[Service, ...]) -> list[Service]:
    return [one for service in services for one in (service, service.predecessor) if one is not None]


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """The filters of this file by name."""
        return {
            "cutover_seconds": cutover_seconds,
            "gpus_used": gpus_used,
            "missing_sources": missing_sources,
            "placement_problems": lambda placement: placement_problems(*placement),
            "service_problems": service_problems,
            "environments_used": environments_used,
            "models_used": models_used,
            "service_ports": service_ports,
            "unknown_settings": lambda names: unknown_settings(list(names)),
        }
