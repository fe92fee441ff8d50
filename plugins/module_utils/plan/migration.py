"""What answers a client would get otherwise than before, when SGLang takes over from LLaMA-Factory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import Running
from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import ModelFacts
from ansible_collections.deployer.sglang.plugins.module_utils.plan.findings import Finding, finding
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
    own = "chat_template" in service.options
    if not own and not model.chat_template:
        yield finding(
            "chat-template-differs",
            f"{where}.options.chat_template",
            f"the model brings no chat template, and LLaMA-Factory used its own, {template!r}",
            "export the model with its template (llamafactory-cli export), or give one in options.chat_template",
        )
    elif not own and prompt and prompt not in model.chat_template:
        yield finding(
            "chat-template-differs",
            f"{where}.predecessor.options.template",
            f"template {template!r} adds the system prompt {_short(prompt)!r} where a client sends none, "
            "and the model's own chat template does not",
            "let clients send it, or give a template with it in options.chat_template; compare usage.prompt_tokens",
        )
    differing = _differing(before.options, service.options, model)
    if differing:
        yield finding(
            "sampling-differs",
            f"{where}.predecessor",
            "a request that sets none is sampled otherwise than before: " + ", ".join(differing),
            "let clients set them, or put them into the model's generation_config.json",
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


def _short(text: str) -> str:
    return text if len(text) <= 60 else text[:59] + "…"
