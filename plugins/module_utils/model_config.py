"""What a checkpoint's config.json says of the model's shape, whatever its family calls things.

Names are read as SGLang reads them (sglang/srt/configs/model_config.py), so that the plan counts as
the engine does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

# Where multimodal checkpoints keep the part that this is about.
TEXT_PARTS = ("text_config", "llm_config", "language_config")
VISION_PARTS = ("vision_config", "visual")

LAYERS = ("num_hidden_layers", "n_layer", "num_layers")
HIDDEN = ("hidden_size", "n_embd", "d_model")
HEADS = ("num_attention_heads", "n_head")
KV_HEADS = ("n_head_kv", "num_kv_heads", "num_key_value_heads", "multi_query_group_num", "num_attention_groups")
VOCABULARY = ("vocab_size", "padded_vocab_size")
EXPERTS = ("n_routed_experts", "num_experts", "num_local_experts", "moe_num_experts")
VISION_HEADS = ("num_heads", "num_attention_heads")
# In this order (SGLang's CONTEXT_LENGTH_KEYS).
POSITIONS = (
    "max_sequence_length",
    "seq_length",
    "max_seq_len",
    "model_max_length",
    "max_position_embeddings",
    "n_positions",
)
DEFAULT_POSITIONS = 2048  # SGLang's get_context_length where no key says it

# Architectures for which SGLang keeps a second, smaller pool for sliding-window layers (is_hybrid_swa_model, 0.5.23);
# for every other one, a layer with a window takes as much KV cache as one without.
WINDOW_POOLS = ("GptOss", "Gemma4", "MiMoV2", "Step3p5", "GraniteSWA", "GraniteMoeSWA", "Laguna", "Mellum")
LLAMA4 = "Llama4ForConditionalGeneration"
KV_LESS = ("linear_attention", "mamba", "mamba2", "recurrent", "conv")

FIX = "copy config.json again from the model's source"
LARGEST = 2**40  # beyond any field of a real config


class ShapeUnknown(DeployError):
    """A config.json that leaves out, or calls by a name that is not known here, what a model's shape is made of."""


@dataclass(frozen=True)
class Latent:
    """Multi-head latent attention (DeepSeek): the ranks of what is cached, and the width of the sparse index, or 0."""

    kv_rank: int
    rope_head_dim: int
    index_head_dim: int = 0


@dataclass(frozen=True)
class ModelConfig:
    """The shape of a model.

    Attributes:
        layers: decoder layers. Of these, `window_layers` cache only a sliding window, in a pool of their own, and
            `stateless_layers` have no KV cache at all (linear attention, Mamba).
        head_dim: size of a query and key head; `value_head_dim` that of a value head.
        positions: longest context in tokens, rope scaling counted as SGLang counts it.
        experts: routed experts a layer; 0 for a dense model.
        quantization: method of the checkpoint (`fp8`, `awq`, …), '' for none.
        vision_heads: attention heads of the vision part; 0 where there is none, or it does not say.
        vision_layers, vision_hidden: its size as SGLang reads it; a ViT-L/14 where config.json names it otherwise.
    """

    architecture: str
    model_type: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    value_head_dim: int
    vocabulary: int
    positions: int
    intermediate: int = 0
    experts: int = 0
    expert_intermediate: int = 0
    latent: Latent | None = None
    window: int = 0
    window_layers: int = 0
    stateless_layers: int = 0
    quantization: str = ""
    quantization_block: int = 0
    dtype: str = ""
    vision: bool = False
    vision_heads: int = 0
    vision_layers: int = 0
    vision_hidden: int = 0


def parse_config(value: Any, path: str) -> ModelConfig:
    """The shape that the JSON value of a config.json describes.

    Args:
        value: the parsed file.
        path: the file, for messages.
    Raises:
        ShapeUnknown: a field is missing that says what the model's shape is.
        DeployError: a field is not what it must be; the message names file and field.
    """
    if not isinstance(value, Mapping):
        raise DeployError(f"{path} is not a JSON object", FIX)
    whole = _Fields(value, path)
    architectures = value.get("architectures")
    if not isinstance(architectures, list) or not architectures or not isinstance(architectures[0], str):
        raise DeployError(f"{path}: architectures is {architectures!r}", FIX)
    text = next((part for name in TEXT_PARTS if (part := whole.part(name)) and part.has(LAYERS)), whole)
    vision = next((part for name in VISION_PARTS if (part := whole.part(name))), None)
    layers = text.count(LAYERS)
    hidden, heads = text.count(HIDDEN), text.count(HEADS)
    latent = _latent(text)
    head_dim = text.count(("head_dim",), default=max(1, hidden // heads))
    kinds = _layer_kinds(architectures[0], text, layers)
    quantization = whole.part("quantization_config") or text.part("quantization_config")
    return ModelConfig(
        architecture=architectures[0],
        model_type=whole.text("model_type"),
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=1 if text.flag("multi_query") else text.count(KV_HEADS, default=heads),
        head_dim=head_dim,
        value_head_dim=text.count(("v_head_dim",), default=head_dim) if latent is None else head_dim,
        vocabulary=text.count(VOCABULARY, default=whole.count(VOCABULARY, default=1)),
        positions=_positions(text),
        intermediate=text.count(("intermediate_size", "ffn_hidden_size", "n_inner"), default=0, least=0),
        experts=text.count(EXPERTS, default=0, least=0),
        expert_intermediate=text.count(("moe_intermediate_size",), default=0, least=0),
        latent=latent,
        window=text.count(("sliding_window",), default=0, least=0),
        window_layers=sum(kind == "window" for kind in kinds),
        stateless_layers=sum(kind == "stateless" for kind in kinds),
        quantization=quantization.text("quant_method") if quantization else "",
        quantization_block=_block(quantization),
        dtype=text.text("torch_dtype") or text.text("dtype") or whole.text("torch_dtype") or whole.text("dtype"),
        vision=vision is not None,
        vision_heads=vision.count(VISION_HEADS, default=0, least=0) if vision else 0,
        vision_layers=vision.count(("num_hidden_layers",), default=24) if vision else 0,
        vision_hidden=vision.count(("hidden_size",), default=1024) if vision else 0,
    )


def _latent(text: _Fields) -> Latent | None:
    if not text.has(("kv_lora_rank",)):
        return None
    return Latent(
        text.count(("kv_lora_rank",)),
        text.count(("qk_rope_head_dim",)),
        text.count(("index_head_dim",), default=0, least=0),
    )


def _positions(text: _Fields) -> int:
    """As SGLang's get_context_length: some kinds of rope scaling are counted in the field already."""
    factor = 1.0
    scaling = text.part("rope_scaling")
    if scaling and not scaling.has(("original_max_position_embeddings",)) and scaling.text("rope_type") != "llama3":
        factor = scaling.number("factor", 1.0)
    return int(factor * text.count(POSITIONS, default=DEFAULT_POSITIONS))


def _layer_kinds(architecture: str, text: _Fields, layers: int) -> Sequence[str]:
    """For every layer: full, window (in a pool of its own) or stateless."""
    if architecture == LLAMA4:  # every fourth layer sees the whole context (get_hybrid_layer_ids)
        return ["full" if (index + 1) % 4 == 0 else "window" for index in range(min(layers, 4096))]
    windows = architecture.startswith(WINDOW_POOLS)
    kinds = []
    for kind in text.words(("layer_types", "layers_block_type"))[:layers]:
        if kind in KV_LESS:
            kinds.append("stateless")
        else:
            kinds.append("window" if windows and kind == "sliding_attention" else "full")
    interval = text.count(("full_attention_interval",), default=0, least=0)
    if not kinds and interval > 1:  # Qwen3-Next: every n-th layer has full attention, the others linear
        return ["full" if (index + 1) % interval == 0 else "stateless" for index in range(min(layers, 4096))]
    return kinds


def _block(quantization: _Fields | None) -> int:
    """Rows of a quantisation block (`weight_block_size: [128, 128]`) or group (`group_size: 128`).

    A shard of a weight must hold whole ones.
    """
    value = quantization.value if quantization else {}
    block = value.get("weight_block_size")
    size = block[0] if isinstance(block, list) and block else value.get("group_size")
    return size if type(size) is int and 0 < size < LARGEST else 0


class _Fields:
    """The fields of one object of the file, each checked as it is read."""

    def __init__(self, value: Mapping[str, Any], path: str, prefix: str = "") -> None:
        self.value = value
        self.path = path
        self.prefix = prefix

    def has(self, names: Sequence[str]) -> bool:
        return any(self.value.get(name) is not None for name in names)

    def part(self, name: str) -> _Fields | None:
        value = self.value.get(name)
        return _Fields(value, self.path, f"{self.prefix}{name}.") if isinstance(value, Mapping) and value else None

    def count(self, names: Sequence[str], default: int | None = None, least: int = 1) -> int:
        """The first of `names` that is there, a whole number of at least `least`."""
        for name in names:
            value = self.value.get(name)
            if value is None:
                continue
            if isinstance(value, list) and value and all(type(number) is int for number in value):
                value = max(value)  # one number a layer: the widest decides
            if isinstance(value, bool) or not isinstance(value, int) or not least <= value < LARGEST:
                raise DeployError(f"{self.path}: {self.prefix}{name} is {_short(value)}", FIX)
            return value
        if default is None:
            raise ShapeUnknown(
                f"{self.path} has no {self.prefix}{names[0]}", "nothing: the engine knows its own models"
            )
        return default

    def number(self, name: str, default: float) -> float:
        value = self.value.get(name)
        if value is None:
            return default
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < math.inf:
            raise DeployError(f"{self.path}: {self.prefix}{name} is {_short(value)}", FIX)
        return float(min(value, 2**20))

    def text(self, name: str) -> str:
        value = self.value.get(name)
        if value is None:
            return ""
        if not isinstance(value, str):
            raise DeployError(f"{self.path}: {self.prefix}{name} is {_short(value)}", FIX)
        return value

    def flag(self, name: str) -> bool:
        return self.value.get(name) is True

    def words(self, names: Sequence[str]) -> list[str]:
        for name in names:
            value = self.value.get(name)
            if isinstance(value, list):
                return [str(word) for word in value]
        return []


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:59] + "…"
