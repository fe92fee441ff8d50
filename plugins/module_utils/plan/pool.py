"""How many tokens of KV cache fit beside the weights: SGLang's sizing of its pool, computed before it is started."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.model_config import ModelConfig
from ansible_collections.deployer.sglang.plugins.module_utils.plan.memory import WINDOW_TOKENS, KvCost
from ansible_collections.deployer.sglang.plugins.module_utils.plan.parallelism import Parallelism

MIB, GIB = 2**20, 2**30

# What a process takes of a GPU before it loads anything. Measured: 2658 MiB in nvidia-smi for a torch process with one
# tensor of 2048 MiB (H100 and H200, driver 580).
CUDA_CONTEXT = 610 * MIB
# NCCL's buffers and SGLang's all-reduce workspace where GPUs work together. An estimate, not measured.
COMMUNICATION = 1 * GIB
# GiB of a GPU up to which a row holds; chunked_prefill_size; largest captured batch below 4 GPUs, and from 4 on.
GPU_CLASSES = (
    (20, 2048, 8, 8),
    (35, 4096, 48, 160),
    (60, 4096, 32, 160),
    (160, 8192, 256, 512),
    (float("inf"), 16384, 512, 512),
)
# Multimodal architectures whose prefill is captured as graphs; that of others is not
# (`multimodal_breakable_cuda_graph_supported_model_archs` of SGLang 0.5.23's configs/model_config.py).
CAPTURED_MULTIMODAL = (
    "Cohere2VisionForConditionalGeneration",
    "Glm5NextForConditionalGeneration",
    "InternS2MobiusForConditionalGeneration",
    "KimiK25ForConditionalGeneration",
    "KimiK3ForConditionalGeneration",
    "MiniMaxM3SparseForCausalLM",
    "MiniMaxM3SparseForConditionalGeneration",
    "MuseGlimmerForConditionalGeneration",
    "MuseSparkForConditionalGeneration",
    "PaddleOCRVLForConditionalGeneration",
    "Qwen3_5ForConditionalGeneration",
    "Qwen3_5MoeForConditionalGeneration",
    "Qwen4ExpForConditionalGeneration",
)
VISION_CACHE = 100 * MIB  # of image embeddings (SGLANG_VLM_CACHE_SIZE_MB, `mm_runtime_reservation_gb` of 0.5.23)
# SGLang's human_readable_int (utils/common.py): decimal and binary multiples.
SIZES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
LARGEST = 2**40  # beyond any number of tokens or requests; sums of such stay exact
_SIZE = re.compile(r"(-?[0-9]{1,15}(?:\.[0-9]{1,9})?)(k|M|G|T|Ki|Mi|Gi|Ti)?")
MOST_REQUESTS, LEAST_REQUESTS = 4096, 2048  # bounds of SGLang's own max_running_requests (resolve_max_num_reqs)


@dataclass(frozen=True)
class Pool:
    """What one GPU of the group has to give, and what comes of it. Bytes, apart from the tokens and the fraction.

    Attributes:
        total: memory of the smallest GPU of the group.
        available: free of it once whatever of ours runs there has stopped.
        overhead: taken by the process itself before it loads anything.
        weights: model weights.
        fraction: of the free memory, for weights and KV cache (`mem_fraction_static`).
        kv: left for the KV cache; negative when not even the weights fit.
        tokens: capacity of the KV cache of one attention group.
        capped: True when `max_total_tokens` and not the memory decides.
    """

    total: int
    available: int
    overhead: int
    weights: int
    fraction: float
    kv: int
    tokens: int
    capped: bool

    @property
    def needed(self) -> int:
        """Free memory that it takes to load the weights and have any KV cache at all."""
        return int(self.weights / self.fraction) + self.overhead


def size_pool(
    total: int,
    available: int,
    weights: int,
    cost: KvCost,
    config: ModelConfig,
    parallelism: Parallelism,
    options: Mapping[str, Any],
    version: str,
) -> Pool:
    """SGLang's sizing: KV cache = free memory before loading x fraction - weights.

    Source: `_profile_available_bytes` of SGLang 0.5.23's mem_cache/kv_cache_configurator.py, `profile_max_num_token` of
    0.4.9's model_executor/model_runner.py.

    Args:
        total: bytes of the smallest GPU of the group.
        available: bytes free on the fullest GPU of the group.
        weights: bytes of weights on one GPU.
        cost: of one token.
        config: the model's shape.
        parallelism: of the service.
        options: the service's options, canonical.
        version: of SGLang, '' when it is not known.
    """
    overhead = CUDA_CONTEXT + (COMMUNICATION if parallelism.tensor * parallelism.pipeline > 1 else 0)
    fraction = _fraction(options.get("mem_fraction_static")) or default_fraction(
        total, config, parallelism, options, version
    )
    reserved = VISION_CACHE if config.vision and not version.startswith("0.4.") else 0
    kv = int((available - overhead) * fraction) - weights - reserved
    window_tokens = _fraction(options.get("swa_full_tokens_ratio")) or WINDOW_TOKENS
    fits = max(0, int(kv / max(1.0, cost.per_token(window_tokens))))
    wanted = whole_number(options.get("max_total_tokens"))
    capped = wanted is not None and 0 < wanted < fits
    return Pool(
        total=total,
        available=available,
        overhead=overhead,
        weights=weights,
        fraction=fraction,
        kv=kv,
        tokens=wanted if wanted is not None and capped else fits,
        capped=capped,
    )


def running_requests(pool_tokens: int, context: int, parallelism: Parallelism, options: Mapping[str, Any]) -> int:
    """How many requests SGLang lets run at once in one attention group (resolve_max_num_reqs, 0.5.23).

    Args:
        pool_tokens: capacity of the KV cache.
        context: longest request in tokens.
        parallelism: of the service.
        options: the service's options, canonical.
    """
    wanted = whole_number(options.get("max_running_requests"))
    if wanted is not None:
        return max(1, min(wanted // parallelism.attention_data, pool_tokens // 2))
    estimate = min(max(int(pool_tokens / max(1, context) * 512), LEAST_REQUESTS), MOST_REQUESTS)
    return max(1, min(estimate, pool_tokens // 2))


def default_fraction(
    total: int, config: ModelConfig, parallelism: Parallelism, options: Mapping[str, Any], version: str
) -> float:
    """`mem_fraction_static` where the options give none: what is left when activations and CUDA graphs have theirs.

    Args:
        total: bytes of one GPU.
        config: the model's shape.
        parallelism: of the service.
        options: the service's options, canonical.
        version: of SGLang; the newest known formula where it is not known.
    """
    gpu = total / MIB
    if version.startswith("0.4."):
        return _fraction_04(gpu, config, parallelism, options)
    return _fraction_05(gpu, config, parallelism, options)


def _fraction_04(gpu: float, config: ModelConfig, parallelism: Parallelism, options: Mapping[str, Any]) -> float:
    """SGLang 0.4.9.post2, `ServerArgs.__post_init__` (srt/server_args.py). MiB."""
    size = parallelism.tensor * parallelism.pipeline
    classes = ((35, 2.8 + size / 10), (90, 9.5 + size / 2), (160, 12 + size / 2), (float("inf"), 32))
    reserved = 1024 * next(gib for limit, gib in classes if gpu < limit * 1024)
    reserved += 2048 if options.get("speculative_algorithm") else 0
    reserved += 4096 if parallelism.attention_data > 1 else 0
    fraction = round((gpu - reserved) / gpu, 3)
    return _bounded(fraction * 0.9 if config.vision else fraction)


def _fraction_05(gpu: float, config: ModelConfig, parallelism: Parallelism, options: Mapping[str, Any]) -> float:
    """SGLang 0.5.23, `handle_gpu_memory_settings` (srt/arg_groups/memory_hook.py). MiB.

    The prefill graph counts by its number of captured sizes, the decode graph by its largest batch.
    """
    _, chunk, few, many = next(row for row in GPU_CLASSES if gpu < row[0] * 1024)
    batch = few if parallelism.tensor < 4 else many
    given = whole_number(options.get("chunked_prefill_size"))
    if given is not None:
        chunk = given if given > 0 else whole_number(options.get("max_prefill_tokens")) or 16384
    running = whole_number(options.get("max_running_requests"))
    batch = min(batch, running) if running else batch
    reserved = 512 + max(chunk, 2048) * 1.5 + parallelism.tensor * parallelism.pipeline / 8 * 1024
    if _captured("decode", config, parallelism, options):
        reserved += batch * 2
    if parallelism.attention_data > 1:
        reserved += batch * parallelism.attention_data * (4.5 if batch > 300 else 3)
    if _captured("prefill", config, parallelism, options):
        reserved += 1536 if config.latent else len(_prefill_sizes(chunk, options)) * 8
    if gpu > 60 * 1024:
        reserved = max(reserved, 10 * 1024)
    fraction = round((gpu - reserved) / gpu, 3)
    return _bounded(fraction * _vision_share(config) if config.vision else fraction)


def _vision_share(config: ModelConfig) -> float:
    """What is left of the fraction beside an image encoder: less, the larger it is (`adjust_mem_fraction_for_vlm`)."""
    size = config.vision_layers * config.vision_hidden**2 / (24 * 1024**2)
    return 0.95 * max(0.8, min(1.05, 1 - 0.1 * (size - 1)))


def _prefill_sizes(chunk: int, options: Mapping[str, Any]) -> Sequence[int]:
    """Token counts of the captured prefill graphs (`generate_prefill_cuda_graph_batch_sizes`)."""
    most = min(chunk, whole_number(options.get("max_total_tokens")) or chunk, 2**20)
    sizes = [
        *range(4, 33, 4),
        *range(48, 257, 16),
        *range(288, 513, 32),
        *range(576, 1025, 64),
        *range(1280, 4097, 256),
        *range(4608, most + 1, 512),
    ]
    return [size for size in sizes if size <= most]


def _captured(phase: str, config: ModelConfig, parallelism: Parallelism, options: Mapping[str, Any]) -> bool:
    """Whether CUDA graphs of a phase are captured (srt/arg_groups/cuda_graph_hook.py)."""
    backend = options.get(f"cuda_graph_backend_{phase}")
    if backend is not None:
        return bool(backend != "disabled")
    if options.get("disable_cuda_graph") is True or options.get(f"disable_{phase}_cuda_graph") is True:
        return False
    uncaptured = config.vision and config.architecture not in CAPTURED_MULTIMODAL
    return phase == "decode" or not (parallelism.pipeline > 1 or uncaptured)


def _bounded(fraction: float) -> float:
    """A small GPU would otherwise come out with nothing at all."""
    return min(0.98, max(0.1, fraction))


def whole_number(value: Any) -> int | None:
    """An option's value as a whole number: `8192`, text that Ansible templated, or `128k`; None for anything else."""
    if isinstance(value, str):
        match = _SIZE.fullmatch(value.strip())
        number = Decimal(match.group(1)) * SIZES[match.group(2) or ""] if match else Decimal("0.5")
        value = int(number) if number == int(number) else None
    if not isinstance(value, int) or isinstance(value, bool):
        return None
    return max(-LARGEST, min(LARGEST, value))


def is_fraction(value: Any) -> bool:
    """Whether `value` can be a `mem_fraction_static`."""
    return _fraction(value) is not None


def _fraction(value: Any) -> float | None:
    try:
        number = float(value)
    except (OverflowError, TypeError, ValueError):
        return None
    return number if 0 < number < 1 else None
