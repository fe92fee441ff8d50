"""The plan of one service on one host: where it runs, what it takes, what is wrong with that."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.engines import engine_named
from ansible_collections.deployer.sglang.plugins.module_utils.engines.base import numbers_of
from ansible_collections.deployer.sglang.plugins.module_utils.environments.report import EnvironmentReport
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.gpus import Gpu
from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import HostFacts
from ansible_collections.deployer.sglang.plugins.module_utils.model_config import ShapeUnknown
from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import ModelFacts
from ansible_collections.deployer.sglang.plugins.module_utils.plan.findings import WARNING, Finding, finding, judged
from ansible_collections.deployer.sglang.plugins.module_utils.plan.gpus import free_for, gpu_findings, gpu_named
from ansible_collections.deployer.sglang.plugins.module_utils.plan.host_checks import version_of
from ansible_collections.deployer.sglang.plugins.module_utils.plan.memory import kv_cost, loaded_bytes, weight_bytes
from ansible_collections.deployer.sglang.plugins.module_utils.plan.memory_findings import (
    Sizing,
    pool_findings,
    sharing_findings,
)
from ansible_collections.deployer.sglang.plugins.module_utils.plan.migration import (
    migration_findings,
    running_findings,
)
from ansible_collections.deployer.sglang.plugins.module_utils.plan.model import (
    ModelUnseen,
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
    whole_number,
)
from ansible_collections.deployer.sglang.plugins.module_utils.plan.ports import derived_ports, port_findings
from ansible_collections.deployer.sglang.plugins.module_utils.service import Service

BENCHMARK_SINCE = "0.5.23"  # whose sglang.benchmark.serving makes the load of a gate


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
        weights: bytes that loading the weights takes of the GPU with the most of them.
        kv_bytes: of KV cache for one token on one GPU.
        pool: sizing of the GPU memory; None without GPUs or for an engine that has no pool.
        tokens: capacity of the KV cache, all groups together.
        context: longest request in tokens.
        requests: how many run at once.
        longest: how many of the longest fit at once.
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
    longest: int | None = None
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
    found = [*_environment_findings(where, service, environment), *_load_findings(where, service, version)]
    table = environment.options.get(service.engine)
    if not environment.problem[0] and (table or around.reachable):
        found += option_findings(where, service, table)
    found += gpu_findings(where, service.gpus, around.host.gpus, (service.name,), later=role == "predecessor")
    if role == "service":
        others = [one for one in around.others if one.name != service.name]
        found += port_findings(where, service, {p: use for p, use in ports.items() if use}, around.host, others)
        if service.model.named:
            found += running_findings(where, service, around.host.services.get(service.name))
    plan, more = _with_model(where, plan, around)
    return plan, found + more


def _with_model(where: str, plan: ServicePlan, around: Surroundings) -> tuple[ServicePlan, list[Finding]]:
    """The plan with what its model takes, and what is found in the model's folder."""
    service, way_back = plan.service, plan.role == "predecessor"
    options = engine_named(service.engine).canonical(service.options)
    model = around.models.get(service.model.source)
    said = way_back and any(one.model.source == service.model.source for one in around.others)
    if model is None:
        return plan, []
    if isinstance(model, DeployError):
        return plan, [] if said else [_unreadable(f"{where}.model.source", model)]
    found = [] if said else list(folder_findings(where, model, options))
    found += _template_findings(where, service, model)
    found += migration_findings(where, service, model, _templates(service, around.environments))
    sizing = _sglang if service.engine == "sglang" else _whole_model
    plan, more = sizing(where, plan, model, options, len(around.host.gpus.gpus))
    # What a rollback would find then is not known now: memory that is taken today is no reason to refuse.
    return plan, found + list(judged(more, {"does-not-fit": WARNING}) if way_back else more)


def _unreadable(key: str, error: DeployError) -> Finding:
    if isinstance(error, ShapeUnknown):
        return finding("model-shape-unknown", key, f"{error.problem}: memory is not planned", error.fix)
    if isinstance(error, ModelUnseen):
        fix = error.fix or "plan with the host that has it, or accept this"
        return finding("model-unseen", key, f"{error.problem}: memory is not planned", fix)
    return finding("model-unreadable", key, error.problem, error.fix or "give the folder of a Hugging Face model")


def _templates(service: Service, environments: Mapping[str, EnvironmentReport]) -> Mapping[str, str]:
    before = service.predecessor
    return environments[before.environment].templates if before and before.environment in environments else {}


def _template_findings(where: str, service: Service, model: ModelFacts) -> list[Finding]:
    """A model that cannot chat: SGLang answers a chat with an error, and the gate asks for one."""
    if service.engine != "sglang" or model.chat_template or "chat_template" in service.options:
        return []
    return [
        finding(
            "chat-template-missing",
            f"{where}.options.chat_template",
            "the model brings no chat template, and without one a chat is answered with an error",
            "export the model with its template (llamafactory-cli export), or give one in options.chat_template",
            WARNING if model.config.vision else "",  # for some of these SGLang has one by the model's name
        )
    ]


def _environment_findings(where: str, service: Service, environment: EnvironmentReport) -> list[Finding]:
    problem, fix = environment.problem
    if problem:
        fix = fix or "correct its prefix, or make its bundle again"
        return [finding("environment-missing", f"inference_environments.{environment.name}", problem, fix)]
    package = engine_named(service.engine).package
    if environment.versions and package not in environment.versions:
        fix = f"install it there ({environment.path})"
        if environment.backend:  # built from a lock, and never changed
            fix = f"add {package} to its environment.yml, lock it, and bundle it"
        return [
            finding(
                "engine-missing",
                f"{where}.environment",
                f"environment {environment.name} has no {package}",
                f"name an environment that has it, or {fix}",
            )
        ]
    return []


def _load_findings(where: str, service: Service, version: str) -> list[Finding]:
    if service.gate.load is None or not version or numbers_of(version) >= numbers_of(BENCHMARK_SINCE):
        return []
    said = f"its load is made by sglang.benchmark.serving as SGLang {BENCHMARK_SINCE} has it"
    return [
        finding(
            "gate-load-unproved",
            f"{where}.gate.load",
            f"{said}, and {version} may not: the cut-over is refused then, before anything is stopped",
            f"use an environment with SGLang {BENCHMARK_SINCE}, or ask for gate.generations with max_latency",
        )
    ]


def _sglang(
    where: str, plan: ServicePlan, model: ModelFacts, options: Mapping[str, Any], host_gpus: int
) -> tuple[ServicePlan, list[Finding]]:
    config, parallelism = model.config, plan.parallelism
    unsplittable = list(split_findings(where, config, parallelism, options))
    found = [*unsplittable, *context_findings(where, config, plan.service)]
    wanted = whole_number(options.get("context_length")) or 0
    context = min(wanted if wanted > 0 else config.positions, 2**40)
    if model.problems or parallelism.impossible:  # a size without the missing shards would be a wrong one
        return dataclasses.replace(plan, context=context), found
    cost = kv_cost(config, parallelism, options)
    weights = loaded_bytes(model, parallelism, options)
    plan = dataclasses.replace(plan, weights=weights, kv_bytes=cost.per_token(), context=context)
    fits: int | None = None
    if plan.gpus and not unsplittable:
        sizing = Sizing(
            model,
            parallelism,
            options,
            plan.version,
            total=min(gpu.memory_total for gpu in plan.gpus),
            available=min(free_for(gpu, (plan.service.name,)) for gpu in plan.gpus),
            capability=min(version_of(gpu.compute_capability) for gpu in plan.gpus),
            host_gpus=host_gpus,
        )
        pool = sizing.pool()
        fits = sizing.with_options(max_total_tokens=None).pool().tokens or None
        found += pool_findings(where, sizing, pool, context)
        plan = dataclasses.replace(plan, pool=pool)
    tokens = min(plan.pool.tokens if plan.pool else whole_number(options.get("max_total_tokens")) or 0, 2**40)
    if tokens > 0:
        requests = running_requests(tokens, context, parallelism, options)
        found += sharing_findings(where, tokens, requests, fits, options)
        groups = parallelism.attention_data * parallelism.data
        plan = dataclasses.replace(
            plan, tokens=tokens * groups, requests=requests * groups, longest=tokens // context * groups
        )
    found += _rough(where, model, options)
    return plan, found


def _whole_model(
    where: str, plan: ServicePlan, model: ModelFacts, options: Mapping[str, Any], host_gpus: int
) -> tuple[ServicePlan, list[Finding]]:
    """An engine that loads the whole model over its GPUs and lets the KV cache grow (LLaMA-Factory, transformers)."""
    plan = dataclasses.replace(plan, context=model.config.positions)
    if model.problems:
        return plan, []
    weights = weight_bytes(model, Parallelism(), options)
    bits = whole_number(options.get("quantization_bit"))
    weights = weights * bits // 16 if bits in (4, 8) else weights
    plan = dataclasses.replace(plan, weights=weights)
    free = sum(free_for(gpu, (plan.service.name,)) - CUDA_CONTEXT for gpu in plan.gpus)
    if not plan.gpus or weights <= free:
        return plan, []
    more = "give it more GPUs" if len(plan.gpus) < host_gpus else "take GPUs with more memory"
    message = f"the weights take {weights / GIB:.1f} GiB and {max(0, free) / GIB:.1f} GiB are free on its GPUs"
    return plan, [finding("does-not-fit", f"{where}.gpus", message, more)]


def _rough(where: str, model: ModelFacts, options: Mapping[str, Any]) -> list[Finding]:
    """What the formulas do not cover."""
    reasons = {
        "its linear-attention layers keep a state for each request": model.config.stateless_layers,
        "its weights are not safetensors, and only the size of their files is known": not model.parts,
        "the draft model takes memory too": options.get("speculative_draft_model_path"),
        "LoRA adapters take memory too": options.get("lora_paths"),
        "what cpu_offload_gb keeps off the GPU depends on the layers": options.get("cpu_offload_gb"),
    }
    return [
        finding("memory-estimate-rough", f"{where}.model", f"{reason}, which is not counted", "leave some room for it")
        for reason, holds in reasons.items()
        if holds
    ]
