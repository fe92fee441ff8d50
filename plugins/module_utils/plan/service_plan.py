"""The plan of one service on one host: where it runs, what it takes, what is wrong with that."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.engines import engine_named
from ansible_collections.deployer.sglang.plugins.module_utils.environment_report import EnvironmentReport
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.gpus import Gpu
from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import HostFacts
from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import ModelFacts
from ansible_collections.deployer.sglang.plugins.module_utils.plan.findings import Finding, finding
from ansible_collections.deployer.sglang.plugins.module_utils.plan.gpus import free_for, gpu_findings, gpu_named
from ansible_collections.deployer.sglang.plugins.module_utils.plan.memory import kv_cost, weight_bytes
from ansible_collections.deployer.sglang.plugins.module_utils.plan.memory_findings import (
    pool_findings,
    sharing_findings,
)
from ansible_collections.deployer.sglang.plugins.module_utils.plan.migration import (
    migration_findings,
    running_findings,
)
from ansible_collections.deployer.sglang.plugins.module_utils.plan.model import (
    context_findings,
    folder_findings,
    split_findings,
)
from ansible_collections.deployer.sglang.plugins.module_utils.plan.options import option_findings
from ansible_collections.deployer.sglang.plugins.module_utils.plan.parallelism import Parallelism, parallelism_of
from ansible_collections.deployer.sglang.plugins.module_utils.plan.pool import (
    CUDA_CONTEXT,
    GIB,
    Pool,
    running_requests,
    size_pool,
    whole_number,
)
from ansible_collections.deployer.sglang.plugins.module_utils.plan.ports import derived_ports, port_findings
from ansible_collections.deployer.sglang.plugins.module_utils.service import Service


@dataclass(frozen=True)
class Surroundings:
    """What a service is planned against.

    Attributes:
        host: its facts.
        environments: by name.
        models: by source: the facts, or the error that reading them gave.
        others: every service that is described for the host.
        reachable: False when no host was asked and its facts are assumed.
    """

    host: HostFacts
    environments: Mapping[str, EnvironmentReport]
    models: Mapping[str, ModelFacts | DeployError]
    others: Sequence[Service] = ()
    reachable: bool = True


@dataclass(frozen=True)
class ServicePlan:
    """What a service comes to on a host. Bytes; `None` for what cannot be known.

    Attributes:
        gpus: those it gets.
        weights: bytes of weights on the GPU with the most of them.
        kv_bytes: of KV cache for one token on one GPU.
        pool: sizing of the GPU memory; None without GPUs or for an engine that has no pool.
        tokens: capacity of the KV cache, all groups together.
        context: longest request in tokens.
        requests: how many run at once.
        ports: port -> what it is for, '' for the service's own.
    """

    service: Service
    role: str
    version: str
    gpus: tuple[Gpu, ...] = ()
    parallelism: Parallelism = field(default_factory=Parallelism)
    weights: int | None = None
    kv_bytes: float | None = None
    pool: Pool | None = None
    tokens: int | None = None
    context: int | None = None
    requests: int | None = None
    ports: Mapping[int, str] = field(default_factory=dict)


def plan_service(service: Service, role: str, around: Surroundings) -> tuple[ServicePlan, list[Finding]]:
    """The plan of a service, its GPUs chosen, and what is found on the way.

    Args:
        service: as described, `gpus` resolved.
        role: `service`, or `predecessor`: what a rollback would start.
        around: the host and what is to run there.
    """
    where = f"inference_services[{service.name}]" + (".predecessor" if role == "predecessor" else "")
    engine = engine_named(service.engine)
    options = engine.canonical(service.options)
    parallelism = parallelism_of(service.engine, options)
    environment = around.environments.get(service.environment, EnvironmentReport(service.environment))
    version = environment.versions.get(engine.package, "")
    gpus = tuple(gpu for name in dict.fromkeys(service.gpus) if (gpu := gpu_named(name, around.host.gpus.gpus)))
    ports = {service.port: "", **derived_ports(service, parallelism, options)}
    plan = ServicePlan(service, role, version, gpus, parallelism, ports=ports)
    found = [*_environment_findings(where, service, environment)]
    if not environment.problem[0]:
        found += option_findings(where, service, environment.options.get(service.engine))
    found += gpu_findings(where, service.gpus, around.host.gpus, (service.name,))
    if role == "service":
        others = [one for one in around.others if one.name != service.name]
        found += port_findings(where, service, {p: use for p, use in ports.items() if use}, around.host, others)
        if service.model.named:
            found += running_findings(where, service, around.host.services.get(service.name))
    model = around.models.get(service.model.source)
    if isinstance(model, DeployError):
        found.append(finding("model-unreadable", f"{where}.model.source", model.problem, model.fix or "correct it"))
    elif model is not None:
        found += folder_findings(where, model)
        templates = _templates(service, around.environments)
        found += migration_findings(where, service, model, templates)
        sizing = _sglang if service.engine == "sglang" else _whole_model
        plan, more = sizing(where, plan, model, options, len(around.host.gpus.gpus))
        found += more
    return plan, found


def _templates(service: Service, environments: Mapping[str, EnvironmentReport]) -> Mapping[str, str]:
    before = service.predecessor
    return environments[before.environment].templates if before and before.environment in environments else {}


def _environment_findings(where: str, service: Service, environment: EnvironmentReport) -> list[Finding]:
    problem, fix = environment.problem
    if problem:
        fix = fix or "correct its prefix, or make its bundle again"
        return [finding("environment-missing", f"inference_environments.{environment.name}", problem, fix)]
    package = engine_named(service.engine).package
    if environment.versions and package not in environment.versions:
        return [
            finding(
                "engine-missing",
                f"{where}.environment",
                f"environment {environment.name} has no {package}",
                f"name an environment that has it, or install it there ({environment.path or 'its lock'})",
            )
        ]
    return []


def _sglang(
    where: str, plan: ServicePlan, model: ModelFacts, options: Mapping[str, Any], host_gpus: int
) -> tuple[ServicePlan, list[Finding]]:
    config, parallelism = model.config, plan.parallelism
    unsplittable = list(split_findings(where, config, parallelism, options))
    found = [*unsplittable, *context_findings(where, config, plan.service)]
    weights = weight_bytes(model, parallelism, options)
    cost = kv_cost(config, parallelism, options)
    wanted = whole_number(options.get("context_length")) or 0
    context = min(wanted if wanted > 0 else config.positions, 2**40)
    plan = dataclasses.replace(plan, weights=weights, kv_bytes=cost.per_token(), context=context)
    fits: int | None = None
    if plan.gpus and not unsplittable:
        own = (plan.service.name,)
        total = min(gpu.memory_total for gpu in plan.gpus)
        available = min(free_for(gpu, own) for gpu in plan.gpus)
        pool = size_pool(total, available, weights, cost, config, parallelism, options, plan.version)
        fits = int(pool.kv / max(1.0, cost.per_token())) if pool.kv > 0 else None
        found += pool_findings(where, pool, model, context, parallelism, options, plan.version, host_gpus)
        plan = dataclasses.replace(plan, pool=pool)
    tokens = min(plan.pool.tokens if plan.pool else whole_number(options.get("max_total_tokens")) or 0, 2**40)
    if tokens > 0:
        requests = running_requests(tokens, context, parallelism, options)
        found += sharing_findings(where, tokens, requests, fits, options)
        groups = parallelism.attention_data * parallelism.data
        plan = dataclasses.replace(plan, tokens=tokens * groups, requests=requests * groups)
    found += _rough(where, model)
    return plan, found


def _whole_model(
    where: str, plan: ServicePlan, model: ModelFacts, options: Mapping[str, Any], host_gpus: int
) -> tuple[ServicePlan, list[Finding]]:
    """An engine that loads the whole model over its GPUs and lets the KV cache grow (LLaMA-Factory, transformers)."""
    weights = weight_bytes(model, Parallelism(), options)
    plan = dataclasses.replace(plan, weights=weights, context=model.config.positions)
    free = sum(free_for(gpu, (plan.service.name,)) - CUDA_CONTEXT for gpu in plan.gpus)
    if not plan.gpus or weights <= free:
        return plan, []
    more = "give it more GPUs" if len(plan.gpus) < host_gpus else "take GPUs with more memory"
    message = f"the weights take {weights / GIB:.1f} GiB and {max(0, free) / GIB:.1f} GiB are free on its GPUs"
    return plan, [finding("does-not-fit", f"{where}.gpus", message, more)]


def _rough(where: str, model: ModelFacts) -> list[Finding]:
    """What the formulas do not cover."""
    reasons = []
    if model.config.stateless_layers:
        reasons.append("its linear-attention layers keep a state for each request, which is not counted")
    if not model.parts and model.weight_bytes:
        reasons.append("its weights are not safetensors, so only the size of their files is known")
    return [
        finding(
            "memory-estimate-rough", f"{where}.model", reason, "leave some room, and see the log of the first start"
        )
        for reason in reasons
    ]
