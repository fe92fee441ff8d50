"""What a model takes on each GPU: its weights, and its KV cache a token. Bytes throughout."""

from __future__ import annotations

import math
from collections.abc import Mapping
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

# Bytes of an element, by SGLang's names of dtypes (`--dtype`, `--kv-cache-dtype`).
DTYPES = {"half": 2.0, "float16": 2.0, "bfloat16": 2.0, "bf16": 2.0, "float": 4.0, "float32": 4.0}
# An FP4 KV cache holds a scale of one byte for each 16 elements, MXFP8 one for each 32
# (sglang/srt/model_executor/pool_configurator.py).
KV_DTYPES = {"fp8_e5m2": 1.0, "fp8_e4m3": 1.0, "mxfp8": 1 + 1 / 32, "fp4_e2m1": 0.5 + 1 / 16}
# `--quantization` of a checkpoint that is not quantised: linear layers become one byte a weight while they load.
ONLINE_8BIT = ("fp8", "w8a8_fp8", "w8a8_int8")
ONLINE_4BIT = ("bitsandbytes",)  # with a scale for each block of 64
WINDOW_TOKENS = 0.8  # of the full pool's (`--swa-full-tokens-ratio`, its default in 0.5.23)
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
    size = {part: _loaded_bytes(part, dtypes, model, options) for part, dtypes in model.parts.items()}
    config, tensor = model.config, parallelism.tensor
    in_layers = (
        size.get(SHARDED, 0) / tensor
        + size.get(ATTENTION, 0) / parallelism.attention
        + size.get(KEY_VALUE, 0) * max(1 / parallelism.attention, 1 / config.kv_heads)
        + size.get(REPLICATED, 0)
    )
    stage = math.ceil(config.layers / parallelism.pipeline) / config.layers
    # With DP attention every group has the whole embedding (models/*.py: `enable_tp=not is_dp_attention_enabled()`).
    embedding = size.get(EMBEDDING, 0) / (1 if parallelism.attention_data > 1 else tensor)
    head = size.get(HEAD, 0) / tensor
    ends = embedding + head if parallelism.pipeline == 1 else max(embedding, head)
    vision = size.get(VISION, 0) / tensor + size.get(VISION_REPLICATED, 0)
    draft = size.get(DRAFT, 0) / tensor if options.get("speculative_algorithm") else 0
    return math.ceil(in_layers * stage + ends + vision + draft + size.get(OUTSIDE, 0))


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
