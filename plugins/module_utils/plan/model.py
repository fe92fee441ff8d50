"""Whether a model can be split the way the options ask for, and whether its folder is whole."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.model_config import ModelConfig
from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import ModelFacts
from ansible_collections.deployer.sglang.plugins.module_utils.plan.findings import Finding, finding
from ansible_collections.deployer.sglang.plugins.module_utils.plan.parallelism import Parallelism
from ansible_collections.deployer.sglang.plugins.module_utils.plan.pool import whole_number
from ansible_collections.deployer.sglang.plugins.module_utils.service import Service

VOCABULARY_PADDING = 64  # DEFAULT_VOCAB_PADDING_SIZE in SGLang's layers/vocab_parallel_embedding.py
# SGLang 0.5 pads the heads of these encoders (`update_vit_attn_dummy_heads_config`).
PADDED_VISION = ("InternVL", "InternS1", "Glm4v", "GlmOcr", "Glm5")
TENSOR = "tensor_parallel_size"
LONGER_CONTEXT = "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"


class ModelUnseen(DeployError):
    """The model is where nobody looked before the plan was made."""


def folder_findings(where: str, model: ModelFacts, options: Mapping[str, Any]) -> Iterator[Finding]:
    """What is missing, damaged or dangerous in the model's folder."""
    for path, problem, fix in model.problems:
        message = problem.removeprefix(path).strip()
        yield finding("weights-incomplete", path, message, fix)
    if not model.tokenizer and "tokenizer_path" not in options:
        yield finding(
            "tokenizer-missing",
            f"{where}.model.source",
            "the folder has no tokenizer (tokenizer.json, tokenizer.model, vocab.json or the like)",
            "copy it from the base model, as training does not always save it",
        )
    if model.pickles:
        names = ", ".join(model.pickles[:3]) + (" …" if len(model.pickles) > 3 else "")
        yield finding(
            "weights-pickle",
            f"{where}.model.source",
            f"the weights are pickles, which run code when they are loaded: {names}",
            "convert them to safetensors (save_pretrained does), or accept this for weights of your own",
        )


def split_findings(
    where: str, config: ModelConfig, parallelism: Parallelism, options: Mapping[str, Any]
) -> Iterator[Finding]:
    """Dimensions of the model that the tensor-parallel group cannot share out evenly.

    Source: the assertions in SGLang's layers (linear.py, vocab_parallel_embedding.py, models/*.py) that end a start
    after minutes.
    """
    sizes = ", ".join(map(str, fitting_sizes(config, parallelism, options)))
    for identifier, option, message in _unsplittable(config, parallelism, options):
        if option == "expert_parallel_size":
            groups = [str(n) for n in range(1, 17) if config.experts % n == 0]
            fix = f"take one of {', '.join(groups)}"
        else:
            fix = f"take one of {sizes}" if sizes else "none suits: change the other degrees of parallelism"
        if identifier == "vision-heads-not-divisible":
            fix += ", or set mm_enable_dp_encoder: true"
        yield finding(identifier, f"{where}.options.{option}", message, fix)


def fitting_sizes(config: ModelConfig, parallelism: Parallelism, options: Mapping[str, Any]) -> list[int]:
    """The tensor-parallel sizes, up to 16, that share out everything evenly, all else as it is."""
    groups = parallelism.attention_data
    sizes = (size for size in range(1, 17) if size % groups == 0 and (size >= parallelism.expert or not config.experts))
    return [
        size
        for size in sizes
        if not any(
            option == TENSOR for _, option, _ in _unsplittable(config, replace(parallelism, tensor=size), options)
        )
    ]


def _unsplittable(
    config: ModelConfig, parallelism: Parallelism, options: Mapping[str, Any]
) -> Iterator[tuple[str, str, str]]:
    """What cannot be shared out: finding, option, message."""
    group = parallelism.attention
    if config.heads % group:
        yield "heads-not-divisible", TENSOR, f"{config.heads} attention heads over {group} GPUs"
    if config.latent is None and max(config.kv_heads, group) % min(config.kv_heads, group):
        message = f"{config.kv_heads} KV heads over {group} GPUs: neither divides the other"
        yield "kv-heads-not-divisible", TENSOR, message
    padded = math.ceil(config.vocabulary / VOCABULARY_PADDING) * VOCABULARY_PADDING
    if padded % parallelism.tensor:
        size = f"{config.vocabulary}" + (f", padded to {padded}" if padded != config.vocabulary else "")
        yield "vocabulary-not-divisible", TENSOR, f"a vocabulary of {size} over {parallelism.tensor} GPUs"
    whole_vision = options.get("mm_enable_dp_encoder") is True or config.architecture.startswith(PADDED_VISION)
    if config.vision_heads % group and not whole_vision:
        message = f"{config.vision_heads} heads of the vision part over {group} GPUs"
        yield "vision-heads-not-divisible", TENSOR, message
    if config.experts and config.experts % parallelism.expert:
        message = f"{config.experts} experts over {parallelism.expert} groups"
        yield "experts-not-divisible", "expert_parallel_size", message
    block = config.quantization_block or 1
    blocks = f", in blocks of {block}" if block > 1 else ""
    for name, width, share in _widths(config, parallelism):
        if width % share or (width // share) % block:
            yield "width-not-divisible", TENSOR, f"{name} of width {width} over {share} GPUs{blocks}"


def _widths(config: ModelConfig, parallelism: Parallelism) -> Iterator[tuple[str, int, int]]:
    """Feed-forward layers, their width, and how many GPUs share it; block-quantised ones in whole blocks."""
    if config.experts:
        share = max(1, parallelism.tensor // parallelism.expert)
        yield "experts", config.expert_intermediate or config.intermediate, share
    if not config.experts or config.latent is not None:  # DeepSeek's first layers are dense
        yield "feed-forward layers", config.intermediate, parallelism.dense or parallelism.tensor


def context_findings(where: str, config: ModelConfig, service: Service) -> Iterator[Finding]:
    """A context that the model was not made for: SGLang refuses it while it loads."""
    wanted = whole_number(service.options.get("context_length"))
    allowed = service.environment_variables.get(LONGER_CONTEXT, "0").lower() in ("1", "true", "yes")
    if wanted and wanted > config.positions and not allowed and "json_model_override_args" not in service.options:
        yield finding(
            "context-too-long",
            f"{where}.options.context_length",
            f"{wanted} tokens, and the model's longest context is {config.positions}",
            f"remove it or take at most {config.positions}; rope scaling goes into json_model_override_args",
        )
