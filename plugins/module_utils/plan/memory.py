"""What a model takes on each GPU: its weights, and its KV cache a token. Bytes throughout."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.model_config import ModelConfig
from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import (
    ATTENTION,
    DRAFT,
    EMBEDDING,
    HEAD,
    KEY_VALUE,
    OUTSIDE,
    REPLICATED,
    SHARDED,
    VISION,
    VISION_REPLICATED,
    ModelFacts,
)
from ansible_collections.deployer.sglang.plugins.module_utils.plan.parallelism import Parallelism
from ansible_collections.deployer.sglang.plugins.module_utils.plan.segments import reserved

# Bytes of an element, by SGLang's names of dtypes (`--dtype`, `--kv-cache-dtype`).
DTYPES = {"half": 2.0, "float16": 2.0, "bfloat16": 2.0, "bf16": 2.0, "float": 4.0, "float32": 4.0}
# An FP4 KV cache holds a scale of one byte for each 16 elements, MXFP8 one for each 32
# (sglang/srt/model_executor/pool_configurator.py).
KV_DTYPES = {"fp8_e5m2": 1.0, "fp8_e4m3": 1.0, "mxfp8": 1 + 1 / 32, "fp4_e2m1": 0.5 + 1 / 16}
# `--quantization` of a checkpoint that is not quantised: linear layers become one byte a weight while they load.
ONLINE_8BIT = ("fp8", "w8a8_fp8", "w8a8_int8")
ONLINE_4BIT = ("bitsandbytes",)  # with a scale for each block of 64
WINDOW_TOKENS = 0.8  # of the full pool's (`--swa-full-tokens-ratio`, its default in 0.5.23)
IN_LAYERS = frozenset((SHARDED, ATTENTION, KEY_VALUE, REPLICATED))
ENDS = frozenset((EMBEDDING, HEAD))
ROTARY_BYTES = 4  # of an element: on a GPU the table stays in float32 (layers/rotary_embedding/base.py, 0.5.15)
INDEX_BLOCK = 128  # elements of the sparse index that share a scale of 4 bytes (DeepSeek-V3.2)


@dataclass(frozen=True)
class KvCost:
    """Bytes of KV cache that one token takes on one GPU: in layers that keep all of it, and in windowed ones."""

    full: float
    window: float = 0.0

    def per_token(self, window_tokens: float = WINDOW_TOKENS) -> float:
        """Bytes of pool that one token of capacity costs; windowed layers keep `window_tokens` of a token for one."""
        return self.full + window_tokens * self.window


def element_size(dtype: str) -> float:
    """Bytes of a weight as it is loaded: half precision unless `--dtype float32` is asked for."""
    return DTYPES.get(dtype, 2.0)


def kv_cost(config: ModelConfig, parallelism: Parallelism, options: Mapping[str, Any]) -> KvCost:
    """The KV cache of one token on one GPU.

    Attention with heads: layers x (head_dim + value_head_dim) x KV heads of this GPU x bytes; a GPU holds a whole KV
    head at least, so that they are replicated once tensor parallelism exceeds them. Latent attention: layers x
    (kv_lora_rank + qk_rope_head_dim) x bytes, the same on every GPU; a sparse index adds one byte an element and 4
    bytes a block of 128. Source: `_compute_cell_size` and `_compute_dsa_indexer_cell_size` of SGLang 0.5.23's
    model_executor/pool_configurator.py, `get_num_kv_heads` of its configs/model_config.py; 0.4.9's
    `profile_max_num_token` is the same for what it knows.

    Args:
        config: the model's shape.
        parallelism: of the service.
        options: the service's options, canonical.
    """
    kept = math.ceil((config.layers - config.stateless_layers - config.window_layers) / parallelism.pipeline)
    windowed = math.ceil(config.window_layers / parallelism.pipeline)
    dtype = str(options.get("kv_cache_dtype", "auto"))
    size = KV_DTYPES.get(dtype, DTYPES.get(dtype, element_size(str(options.get("dtype", "auto")))))
    if config.latent is not None:
        index = config.latent.index_head_dim
        layer = (config.latent.kv_rank + config.latent.rope_head_dim) * size
        layer += index + index // INDEX_BLOCK * 4
    else:
        heads = max(1, config.kv_heads // parallelism.attention)
        layer = heads * (config.head_dim + config.value_head_dim) * size
    return KvCost(kept * layer, windowed * layer)


def weight_bytes(model: ModelFacts, parallelism: Parallelism, options: Mapping[str, Any]) -> int:
    """Bytes of weights on the GPU that holds the most of them.

    Matrices of layers are split over the tensor-parallel group, those of attention over the GPUs that share its heads;
    key and value projections are repeated once there are more GPUs than KV heads; norms, biases, routers and latent
    down-projections are on every GPU. With pipeline parallelism the embedding is on the first stage and the output head
    on the last. Draft layers count where speculative decoding loads them. Source: the layer classes of SGLang 0.5.23
    (layers/linear.py, layers/vocab_parallel_embedding.py, models/deepseek_v2.py).

    Args:
        model: what the folder says.
        parallelism: of the service.
        options: the service's options, canonical.
    """
    if not model.parts:  # pickles or gguf: nothing but the size of the files is known
        return math.ceil(model.weight_bytes / (parallelism.tensor * parallelism.pipeline))
    shares = _shares(model.config, parallelism, options)
    size = {part: _loaded_bytes(part, dtypes, model, options) * shares[part] for part, dtypes in model.parts.items()}
    in_layers = sum(size.get(part, 0) for part in IN_LAYERS)
    ends = [size.get(EMBEDDING, 0), size.get(HEAD, 0)]
    rest = sum(size.get(part, 0) for part in (VISION, VISION_REPLICATED, DRAFT, OUTSIDE))
    together = sum(ends) if parallelism.pipeline == 1 else max(ends)
    return math.ceil(in_layers * _stage(model.config, parallelism) + together + rest)


def loaded_bytes(model: ModelFacts, parallelism: Parallelism, options: Mapping[str, Any]) -> int:
    """What loading the weights takes of the memory of the GPU that gets the most of them, as SGLang's start log has it.

    The weights in the segments that torch's allocator keeps them in, and the table of the rotary embedding. In which
    order SGLang allocates the tensors of a layer depends on the architecture and is not known here: the layers come one
    after another, and in each the largest tensor comes first (docs/gpu-proof.md has what other orders would change).
    What quantising the weights as they load leaves behind is not counted.

    Args:
        model: what the folder says; where the shapes of its tensors are not known, and on any other device than CUDA's,
            its bytes are the answer.
        parallelism: of the service.
        options: the service's options, canonical.
    """
    if not model.allocations or options.get("device", "cuda") != "cuda":
        return weight_bytes(model, parallelism, options)
    shares, stage = _shares(model.config, parallelism, options), _stage(model.config, parallelism)
    sizes: list[tuple[float, int]] = []
    ends: list[tuple[float, int]] = []
    for one in model.allocations:
        size = sum(_loaded_bytes(part, dtypes, model, options) * shares[part] for part, dtypes in one.parts.items())
        count = math.ceil(one.count * stage) if IN_LAYERS & one.parts.keys() else one.count
        (ends if ENDS & one.parts.keys() else sizes).append((size, count))
    ends = ends if parallelism.pipeline == 1 else sorted(ends)[-1:]
    table = model.config.positions * _rotary_width(model.config) * ROTARY_BYTES
    return reserved([table, *_layer_after_layer(sorted(ends + sizes, reverse=True))])


def _layer_after_layer(kinds: Sequence[tuple[float, int]]) -> Iterator[float]:
    """The sizes of tensors of which there are so many, one of each in every layer as long as there are any."""
    layer = 0
    while kinds:
        yield from (size for size, _ in kinds)
        layer += 1
        kinds = [(size, count) for size, count in kinds if count > layer]


def _rotary_width(config: ModelConfig) -> int:
    """Elements of a row of the table of the rotary embedding: sines and cosines of a head."""
    return config.latent.rope_head_dim if config.latent is not None else config.head_dim


def _shares(config: ModelConfig, parallelism: Parallelism, options: Mapping[str, Any]) -> Mapping[str, float]:
    """Of each part of the weights, the share that a GPU has of what is on its stage."""
    tensor = parallelism.tensor
    return {
        SHARDED: 1 / tensor,
        ATTENTION: 1 / parallelism.attention,
        KEY_VALUE: max(1 / parallelism.attention, 1 / config.kv_heads),
        REPLICATED: 1,
        # With DP attention every group has the whole embedding (models/*.py: `enable_tp=not
        # is_dp_attention_enabled()`).
        EMBEDDING: 1 if parallelism.attention_data > 1 else 1 / tensor,
        HEAD: 1 / tensor,
        VISION: 1 / tensor,
        VISION_REPLICATED: 1,
        DRAFT: 1 / tensor if options.get("speculative_algorithm") else 0,
        OUTSIDE: 1,
    }


def _stage(config: ModelConfig, parallelism: Parallelism) -> float:
    """Of the layers, those of the longest stage of the pipeline."""
    return math.ceil(config.layers / parallelism.pipeline) / config.layers


def _loaded_bytes(part: str, dtypes: Mapping[str, int], model: ModelFacts, options: Mapping[str, Any]) -> float:
    """Bytes of a part once it is loaded: an unquantised checkpoint is converted to the dtype that is asked for."""
    if model.config.quantization:
        return sum(dtypes.values())
    target = element_size(str(options.get("dtype", "auto")))
    if part in (SHARDED, ATTENTION, KEY_VALUE):
        quantization = str(options.get("quantization", ""))
        target = 1.0 if quantization in ONLINE_8BIT else 0.5625 if quantization in ONLINE_4BIT else target
    stored = {"F64": 8, "F32": 4, "F16": 2, "BF16": 2}
    return sum(size * target / stored[dtype] if dtype in stored else size for dtype, size in dtypes.items())
