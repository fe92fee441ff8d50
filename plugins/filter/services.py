"""Filters over the service description."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils import service
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.deadline import LONGEST, first_timeout
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.judging import prompts_of, settings_of
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.asking import PROBES
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.load import STARTING, longest
from ansible_collections.deployer.sglang.plugins.module_utils.service_description import (
    findings_problems,
    parse_services,
    placement_problems,
    unknown_settings,
)
from ansible_collections.deployer.sglang.plugins.module_utils.weights.sources import (
    EVERY_HOST,
    HOST,
    parse_source,
)

LARGE_MODEL = 10**12  # bytes of weights; their size on a host is not known here


def service_problems(services: Any, environments: Any) -> list[str]:
    """What is wrong with the description, a line each with key and fix."""
    try:
        parse_services(services, environments)
    except DeployError as error:
        return error.detail.splitlines()
    return []


def cutover_seconds(services: Any, environments: Any) -> int:
    """For how long Ansible waits for the cut-over of one of the services.

    Longer than any that goes well: up to three gates - of what runs already, of the new release, and of the one before
    it - of which each may load a terabyte of weights or show progress to its last deadline, be asked, and hold. Ansible
    gives up then; the host, which works on its own, goes on.
    """
    parsed, _ = parse_services(services, environments)
    return 3 * max(_gate_seconds(one) for _, one in service.with_predecessors(parsed)) + 600


def _gate_seconds(one: service.Service) -> int:
    """Until a release of this service has been stopped, started, and gated."""
    gate, handover = one.gate, one.handover
    loading = max(LONGEST * gate.ready_timeout, first_timeout(gate.ready_timeout, LARGE_MODEL))
    asked: float = sum(2 * max(gate.request_timeout, int(each.max_latency)) for each in gate.generations)
    asked += _measuring_seconds(gate)
    kept_away = handover.drain_timeout + 2 * handover.gateway_timeout
    return (
        loading + gate.min_healthy_time + 5 * gate.request_timeout + math.ceil(asked) + 2 * one.stop_timeout + kept_away
    )


def _measuring_seconds(gate: service.Gate) -> float:
    """That its parity and its load take at most, of one release."""
    seconds = 0.0
    if gate.parity is not None:
        seconds += (len(prompts_of(gate).messages) + PROBES) * gate.request_timeout
    if gate.load is not None:
        seconds += STARTING + len(gate.load.rates) * longest(settings_of(gate.load))
    return seconds


def environments_used(services: Any, environments: Any) -> list[dict[str, str]]:
    """The environments of the services and their predecessors: name, lock or prefix, and backend."""
    parsed, known = parse_services(services, environments)
    used = [known[name] for name in service.environments_used(parsed)]
    return [{"name": e.name, "lock": e.lock or "", "prefix": e.prefix or "", "backend": e.backend} for e in used]


def models_used(services: Any, environments: Any) -> list[dict[str, Any]]:
    """The models of the services and their predecessors, each source once, as M(deployer.sglang.model) takes them."""
    parsed, _ = parse_services(services, environments)
    return [
        {
            "name": service.folder_name(model),
            "source": model.source,
            "exclude": list(model.exclude),
            "include": list(model.include),
            "fetch_on": model.fetch_on,
        }
        for model in service.models_used(parsed)
    ]


def models_on_hosts(services: Any, environments: Any) -> list[dict[str, Any]]:
    """Those of `models_used` whose folder is on hosts already, each with its `host`; '' for every host."""
    found = []
    for model in models_used(services, environments):
        source = parse_source(model["source"])
        if source.kind in (HOST, EVERY_HOST):
            found.append({**model, "host": source.host})
    return found


def models_elsewhere(services: Any, environments: Any) -> list[dict[str, Any]]:
    """Those of `models_used` that one host has, or is to fetch, for the others: each with that `host`."""
    found = []
    for model in models_used(services, environments):
        source = parse_source(model["source"])
        host = source.host or model["fetch_on"]
        if host:
            found.append({**model, "host": host})
    return found


def results_by_host(hosts: list[str], variables: Any, name: str) -> dict[str, Any]:
    """What hosts have registered under a name; those that have nothing are left out."""
    return {host: variables[host][name] for host in hosts if name in variables[host]}


def weights_missing(results: Mapping[str, Any]) -> bool:
    """Whether any host misses a file of a model; results of M(deployer.sglang.model) by host."""
    found = [result for result in results.values() if result and result.get("relay")]
    return any(one.get("missing") for result in found for one in result.get("models", ()))


def differing_models(results: Mapping[str, Any]) -> list[str]:
    """Models that are said to be on every host and are not the same there, a line each; results as above."""
    seen: dict[str, dict[str, list[str]]] = {}
    for host, result in results.items():
        for one in (result or {}).get("models", ()):
            if one.get("in_place"):
                seen.setdefault(str(one["path"]), {}).setdefault(str(one["digest"]), []).append(host)
    lines = []
    for path, digests in seen.items():
        if len(digests) > 1:
            said = "; ".join(f"{digest[:12]} on {', '.join(hosts)}" for digest, hosts in digests.items())
            lines.append(f"{path} is not the same on every host: {said}. Fix: compare the folders, and make them equal")
    return lines


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
            "differing_models": differing_models,
            "models_elsewhere": models_elsewhere,
            "models_on_hosts": models_on_hosts,
            "models_used": models_used,
            "weights_missing": weights_missing,
            "results_by_host": results_by_host,
            "service_ports": service_ports,
            "unknown_settings": lambda names: unknown_settings(list(names)),
        }
