"""Whether a model can be split the way the options ask for, and whether its folder is whole."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.model_config import ModelConfig
from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import ModelFacts
from ansible_collections.deployer.sglang.plugins.module_utils.plan.findings import Finding, finding
from ansible_collections.deployer.sglang.plugins.module_utils.plan.parallelism import Parallelism
from ansible_collections.deployer.sglang.plugins.module_utils.plan.pool import whole_number
from ansible_collections.deployer.sglang.plugins.module_utils.service import Service

VOCABULARY_PADDING = 64  # DEFAULT_VOCAB_PADDING_SIZE in SGLang's layers/vocab_parallel_embedding.py
LONGER_CONTEXT = "SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN"


def folder_findings(where: str, model: ModelFacts) -> Iterator[Finding]:
    """What is missing, damaged or dangerous in the model's folder."""
    for path, problem, fix in model.problems:
        message = problem.removeprefix(path).strip()
        yield finding("weights-incomplete", path, message, fix)
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
    key = f"{where}.options.tensor_parallel_size"
    group = parallelism.attention
    if config.heads % group:
        fix = f"take one of {_divisors(config.heads)}"
        yield finding("heads-not-divisible", key, f"{config.heads} attention heads over {group} GPUs", fix)
    if config.latent is None and max(config.kv_heads, group) % min(config.kv_heads, group):
        yield finding(
            "kv-heads-not-divisible",
            key,
            f"{config.kv_heads} KV heads over {group} GPUs: neither divides the other",
            f"take one of {_divisors(config.heads, lambda n: not max(config.kv_heads, n) % min(config.kv_heads, n))}",
        )
    padded = math.ceil(config.vocabulary / VOCABULARY_PADDING) * VOCABULARY_PADDING
    if padded % parallelism.tensor:
        message = f"a vocabulary of {config.vocabulary}, padded to {padded}, over {parallelism.tensor} GPUs"
        yield finding("vocabulary-not-divisible", key, message, f"take one of {_divisors(VOCABULARY_PADDING)}")
    if config.vision_heads % group and options.get("mm_enable_dp_encoder") is not True:
        yield finding(
            "vision-heads-not-divisible",
            key,
            f"{config.vision_heads} heads of the vision part over {group} GPUs",
            f"take one of {_divisors(math.gcd(config.vision_heads, config.heads))}, or set mm_enable_dp_encoder: true",
        )
    if config.experts and config.experts % parallelism.expert:
        message = f"{config.experts} experts over {parallelism.expert} groups"
        fix = f"take one of {_divisors(config.experts)}"
        yield finding("experts-not-divisible", f"{where}.options.expert_parallel_size", message, fix)
    yield from _widths(key, config, parallelism)


def _widths(key: str, config: ModelConfig, parallelism: Parallelism) -> Iterator[Finding]:
    """Widths of the feed-forward layers; of a block-quantised checkpoint every GPU must hold whole blocks."""
    block = config.quantization_block or 1
    blocks = f", in blocks of {block}" if block > 1 else ""
    suitable = ", ".join(str(tensor) for tensor in range(1, 17) if not _uneven(config, tensor, parallelism.expert))
    for name, width, share in _uneven(config, parallelism.tensor, parallelism.expert):
        yield finding(
            "width-not-divisible",
            key,
            f"{name} of width {width} over {share} GPUs{blocks}",
            f"take one of {suitable}" if suitable else "use a checkpoint that is quantised in another way",
        )


def _uneven(config: ModelConfig, tensor: int, expert: int) -> list[tuple[str, int, int]]:
    """Layers, width and GPUs that share it, of what `tensor` GPUs in `expert` groups cannot share out evenly."""
    layers = []
    if config.experts:
        layers.append(("experts", config.expert_intermediate or config.intermediate, max(1, tensor // expert)))
    if not config.experts or config.latent is not None:  # DeepSeek's first layers are dense
        layers.append(("feed-forward layers", config.intermediate, tensor))
    block = config.quantization_block or 1
    return [(name, width, share) for name, width, share in layers if width % share or (width // share) % block]


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


def _divisors(number: int, suits: Any = lambda n: True) -> str:
    """The numbers of GPUs of one host that divide `number`, for people."""
    return ", ".join(str(n) for n in range(1, 17) if number % n == 0 and suits(n))
