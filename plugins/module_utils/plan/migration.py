"""What answers a client would get otherwise than before, when SGLang takes over from LLaMA-Factory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.gpus import Gpu
from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import HostFacts, Listener, Running
from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import ModelFacts
from ansible_collections.deployer.sglang.plugins.module_utils.plan.findings import Finding, finding
from ansible_collections.deployer.sglang.plugins.module_utils.plan.gpus import gpu_named
from ansible_collections.deployer.sglang.plugins.module_utils.service import Service

# LLaMA-Factory's GeneratingArguments (hparams/generating_args.py, 0.9.5) against what SGLang takes where neither the
# request nor generation_config.json says (its SamplingParams).
LLAMAFACTORY = {
    "temperature": 0.95,
    "top_p": 0.7,
    "top_k": 50,
    "repetition_penalty": 1.0,
    "max_new_tokens": 1024,
}
KEPT_BY_THE_MODEL = "temperature, top_p, top_k and repetition_penalty from generation_config.json"
SGLANG = {
    "temperature": 1.0,
    "top_p": 1.0,
    "top_k": "off",
    "repetition_penalty": 1.0,
    "max_new_tokens": "to the context",
}


def migration_findings(
    where: str, service: Service, model: ModelFacts, templates: Mapping[str, str]
) -> Iterator[Finding]:
    """Template and sampling defaults that differ from the predecessor's.

    Args:
        where: key of the service.
        service: the new one.
        model: its folder.
        templates: LLaMA-Factory's templates, with the system prompt that each adds by itself.
    """
    before = service.predecessor
    if before is None or (before.engine, service.engine) != ("llamafactory", "sglang"):
        return
    template = str(before.options.get("template", "default"))
    prompt = str(before.options.get("default_system") or templates.get(template, ""))
    if "chat_template" not in service.options and model.chat_template and prompt not in model.chat_template:
        yield finding(
            "chat-template-differs",
            f"{where}.predecessor.options.template",
            f"template {template!r} adds the system prompt {_short(prompt)!r} where a client sends none, "
            "and the model's own chat template does not",
            "let clients send it, or give a template with it in options.chat_template; compare usage.prompt_tokens",
        )
    openai = service.options.get("sampling_defaults") == "openai"
    differing = _differing(before.options, service.options, model)
    if differing:
        yield finding(
            "sampling-differs",
            f"{where}.predecessor",
            "a request that sets none is sampled otherwise than before: " + ", ".join(differing),
            f"let clients set them; {'sampling_defaults: model' if openai else 'SGLang'} takes {KEPT_BY_THE_MODEL}",
        )


def _differing(before: Mapping[str, Any], after: Mapping[str, Any], model: ModelFacts) -> list[str]:
    """`temperature 0.95 -> 0.6` for every default that changes."""
    from_model = {} if after.get("sampling_defaults") == "openai" else dict(model.sampling)
    found = []
    for name, default in LLAMAFACTORY.items():
        old, new = before.get(name, default), from_model.get(name, SGLANG[name])
        if name == "max_new_tokens":
            new = SGLANG[name]  # SGLang takes no such default from the model
        if not _same(old, new):
            found.append(f"{name} {old} -> {new}")
    return found


def _same(old: Any, new: Any) -> bool:
    """Whether two values mean the same to an engine, as 1 and 1.0 do."""
    try:
        return float(old) == float(new)
    except (OverflowError, TypeError, ValueError):
        return str(old) == str(new)


def running_findings(where: str, service: Service, running: Running | None) -> Iterator[Finding]:
    """What the deployed release promises its clients and the next one would not."""
    if running is not None and running.served_name and running.served_name != service.model.name:
        yield finding(
            "served-name-differs",
            f"{where}.model.name",
            f"{service.model.name!r} is not what release {running.release} serves, {running.served_name!r}",
            f"set model.name: {running.served_name}, or tell your clients and accept this",
        )


def to_adopt(service: Service, host: HostFacts) -> Listener | None:
    """What somebody else started on the service's port and a rollout takes over."""
    return next((one for one in host.listeners if one.port == service.port and one.adopts and not one.service), None)


def serving_by_hand(service: Service, host: HostFacts) -> Listener | None:
    """What somebody else started and serves the service's port now, whoever ends it."""
    return to_adopt(service, host) or started_by_hand(service, host)


def adoption_finding(where: str, listener: Listener) -> Finding:
    """What the cut-over records and stops, and a rollback starts again."""
    return finding(
        "service-adopted",
        f"{where}.port",
        f"{listener.who} serves port {listener.port} and was not deployed: the cut-over records it as a release and "
        "stops it",
        "nothing to do: rollback --to @adopted starts exactly that command again",
    )


def log_finding(where: str, listener: Listener) -> Finding:
    """A log that grows until the disk is full."""
    return finding(
        "log-unrotated",
        f"{where}.port",
        f"{listener.who} writes to {listener.log}, which nothing rotates",
        "nothing to do once it is replaced: the log of what is deployed is bounded, and so is that of what a rollback "
        "starts again, where the host has logrotate",
    )


def started_by_hand(service: Service, host: HostFacts) -> Listener | None:
    """The predecessor where somebody started it by hand: on its port, and computing on one of its GPUs.

    Args:
        service: with its predecessor.
        host: the host's facts.
    """
    before = service.predecessor
    if before is None or service.name in host.services:
        return None
    gpus = [gpu for name in before.gpus if (gpu := gpu_named(name, host.gpus.gpus)) is not None]
    computing = {process.pid for gpu in gpus for process in gpu.processes if not process.service}
    holders = (one for one in host.listeners if one.port == before.port and not one.service)
    return next((one for one in holders if computing & set(one.pids)), None)


def as_if_ended(host: HostFacts, service: str, listener: Listener) -> HostFacts:
    """The host as it is for a service once what listens there has ended: its port and memory are the service's."""

    def owned(gpu: Gpu) -> Gpu:
        processes = (replace(one, service=service) if one.pid in listener.pids else one for one in gpu.processes)
        return replace(gpu, processes=tuple(processes))

    listeners = tuple(replace(one, service=service) if one is listener else one for one in host.listeners)
    return replace(host, listeners=listeners, gpus=replace(host.gpus, gpus=tuple(map(owned, host.gpus.gpus))))


def by_hand_finding(where: str, listener: Listener) -> Finding:
    """A predecessor that the deployment did not start and will not end."""
    return finding(
        "predecessor-by-hand",
        f"{where}.predecessor",
        f"{listener.who} was started by hand and answers on port {listener.port}: the plan counts it as ended, and "
        "the cut-over is refused while it runs",
        "stage while it answers (deploy.yml --skip-tags cutover), end it just before the rollout",
    )


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
