"""A host's plan as JSON holds it: what `deployer plan --json` prints, and tables are made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.gpus import Gpu
from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import HostFacts
from ansible_collections.deployer.sglang.plugins.module_utils.plan.findings import exit_code
from ansible_collections.deployer.sglang.plugins.module_utils.plan.gpus import free_for
from ansible_collections.deployer.sglang.plugins.module_utils.plan.host_plan import HostPlan
from ansible_collections.deployer.sglang.plugins.module_utils.plan.migration import serving_by_hand
from ansible_collections.deployer.sglang.plugins.module_utils.plan.service_plan import ServicePlan
from ansible_collections.deployer.sglang.plugins.module_utils.plan.strategy import strategy_of


@dataclass(frozen=True)
class Launch:
    """What would run: `release` is its id, '' while the weights have not been hashed yet."""

    release: str
    argv: tuple[str, ...]
    variables: Mapping[str, str]


def plan_report(plan: HostPlan, host: HostFacts, launches: Mapping[tuple[str, str], Launch]) -> dict[str, Any]:
    """The plan as data.

    Args:
        plan: of the host.
        host: its facts.
        launches: what would run, by service and role; may lack what cannot be known.
    """
    return {
        "services": [_service(one, host, launches.get((one.service.name, one.role))) for one in plan.services],
        "findings": [dataclasses.asdict(one) for one in plan.findings],
        "checks": [
            {
                "name": check.name,
                "detail": check.detail,
                "finding": dataclasses.asdict(check.finding) if check.finding else None,
            }
            for check in plan.checks
        ],
        "exit_code": exit_code(one.severity for one in plan.findings),
    }


def _service(plan: ServicePlan, host: HostFacts, launch: Launch | None) -> dict[str, Any]:
    service, pool = plan.service, plan.pool
    running = host.services.get(service.name)
    by_hand = serving_by_hand(service, host) if plan.role == "service" else None
    return {
        "service": service.name,
        "role": plan.role,
        "engine": service.engine,
        "version": plan.version,
        "environment": service.environment,
        "model": {"name": service.model.name, "source": service.model.source},
        "current": dataclasses.asdict(running) if running else None,
        "by_hand": by_hand.who if by_hand else "",
        "next": launch.release if launch else "",
        "strategy": dataclasses.asdict(strategy_of(service, plan.gpus, host)) if plan.role == "service" else None,
        "gpus_wanted": list(service.gpus),
        "gpus": [_gpu(gpu, service.name) for gpu in plan.gpus],
        "parallelism": dataclasses.asdict(plan.parallelism),
        "weight_bytes": plan.weights,
        "memory": {**dataclasses.asdict(pool), "needed": pool.needed} if pool else None,
        "kv_bytes_per_token": plan.kv_bytes,
        "kv_tokens": plan.tokens,
        "context": plan.context,
        "requests": plan.requests,
        "longest_requests": plan.longest,
        "ports": {str(port): use for port, use in plan.ports.items()},
        "argv": list(launch.argv) if launch else [],
        "variables": dict(launch.variables) if launch else {},
    }


def _gpu(gpu: Gpu, service: str) -> dict[str, Any]:
    return {
        "index": gpu.index,
        "uuid": gpu.uuid,
        "product": gpu.product,
        "memory_total": gpu.memory_total,
        "memory_free": free_for(gpu, (service,)),
    }
