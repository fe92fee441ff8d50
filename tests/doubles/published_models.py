"""Published checkpoints without their weights: the real config.json and every tensor's name, shape and dtype.

The data of the safetensors files is a hole, so that 689 GB cost some megabytes of disk. What such a folder is for is
arithmetic on headers: no engine gets an answer out of it, and whatever reads all of it reads zeros for a long time.

The JSON files in `published_configs/` hold the published values (of DeepSeek-V3 there is no generation_config.json);
only the chat templates are own, short ones in the format of the published. The shards are cut as transformers does,
at 5 GB in layer order, which gives about the published files and not exactly those.
"""

from __future__ import annotations

import json
import math
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIGS = Path(__file__).with_name("published_configs")
SHARD = 5_000_000_000  # bytes; `max_shard_size` of transformers' save_pretrained
BYTES = {"F32": 4, "BF16": 2, "F8_E4M3": 1}

# Bytes of all tensors, by the model's name on huggingface.co.
TOTAL_SIZE = {
    # metadata.total_size of the repository's model.safetensors.index.json: 2 bytes times the parameters in each.
    "Qwen/Qwen3-14B": 29_536_614_400,  # 14,768,307,200 parameters
    "Qwen/Qwen3-30B-A3B": 61_064_245_248,  # 30,532,122,624
    "meta-llama/Llama-3.1-70B-Instruct": 141_107_412_992,  # 70,553,706,496; the base model has the same
    "mistralai/Mixtral-8x7B-Instruct-v0.1": 93_405_585_408,  # 46,702,792,704; the base model has the same
    "Qwen/Qwen2.5-VL-7B-Instruct": 16_584_333_312,  # 8,292,166,656
    # From the parameters by dtype that huggingface.co/api/models/deepseek-ai/DeepSeek-V3?expand[]=safetensors gives:
    # 680,571,043,840 F8_E4M3 + 2 x 3,918,786,560 BF16 + 4 x 41,555,600 F32 (684,531,386,000 in total).
    # The 688,586,727,753 one meets are the sizes of the 163 files: 11,888,393 bytes more, for 91,991 tensors' headers.
    # In those 684,531,386,000 are 41,540,496 scales, and the layer of multi-token prediction (61) with its own copies
    # of the embedding and the head. Without both, and with the 58 x 256 F32 biases of the routers, there are
    # 671,026,419,200: "671B".
    "deepseek-ai/DeepSeek-V3": 688_574_839_360,
}
NAMES = tuple(TOTAL_SIZE)

Config = dict[str, Any]


@dataclass(frozen=True)
class Tensor:
    """A tensor as a safetensors header describes it."""

    dtype: str
    shape: tuple[int, ...]

    @property
    def nbytes(self) -> int:
        """Bytes of its data."""
        return BYTES[self.dtype] * math.prod(self.shape)


Tensors = dict[str, Tensor]


def publish(folder: Path, name: str) -> Path:
    """Write the model into `folder`, which is made when missing.

    Args:
        folder: becomes the model folder: config.json, tokenizer_config.json, generation_config.json where published,
            the index and the shards. The tokenizer is an empty stub.
        name: one of `NAMES`.
    Returns:
        `folder`.
    """
    shutil.copytree(CONFIGS / name.rpartition("/")[2], folder, dirs_exist_ok=True)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    shards = split(TENSORS[name](config))
    files = {f"model-{number:05}-of-{len(shards):05}.safetensors": shard for number, shard in enumerate(shards, 1)}
    for file, shard in files.items():
        write_hollow(folder / file, shard)
    index = {
        "metadata": {"total_size": sum(tensor.nbytes for shard in shards for tensor in shard.values())},
        "weight_map": dict(sorted((tensor, file) for file, shard in files.items() for tensor in shard)),
    }
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n", encoding="utf-8")
    (folder / "tokenizer.json").write_text("{}\n", encoding="utf-8")
    return folder


def split(tensors: Tensors) -> list[Tensors]:
    """The tensors in files of at most `SHARD` bytes each, in the order given."""
    shards: list[Tensors] = [{}]
    filled = 0
    for name, tensor in tensors.items():
        if filled + tensor.nbytes > SHARD and shards[-1]:
            shards.append({})
            filled = 0
        shards[-1][name] = tensor
        filled += tensor.nbytes
    return shards


def write_hollow(path: Path, tensors: Tensors) -> None:
    """A safetensors file of these tensors whose data was never written (github.com/huggingface/safetensors, "Format").

    The order is the library's: the widest dtype first, by name within.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, tensor in sorted(tensors.items(), key=lambda item: (-BYTES[item[1].dtype], item[0])):
        offsets = [end, end + tensor.nbytes]
        header[name] = {"dtype": tensor.dtype, "shape": list(tensor.shape), "data_offsets": offsets}
        end += tensor.nbytes
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as stream:
        stream.write(struct.pack("<Q", len(text)) + text)
        stream.truncate(8 + len(text) + end)


def bf16(*shape: int) -> Tensor:
    """A tensor of the dtype that all weights but DeepSeek's have."""
    return Tensor("BF16", shape)


def linear(name: str, outputs: int, inputs: int, *, bias: bool = False) -> Tensors:
    """A linear layer in BF16."""
    return {f"{name}.weight": bf16(outputs, inputs)} | ({f"{name}.bias": bf16(outputs)} if bias else {})


def quantised(name: str, outputs: int, inputs: int, *, block: int = 128) -> Tensors:
    """A linear layer in FP8 with a scale for each block, the last of them cut off."""
    scales = (math.ceil(outputs / block), math.ceil(inputs / block))
    return {
        f"{name}.weight": Tensor("F8_E4M3", (outputs, inputs)),
        f"{name}.weight_scale_inv": Tensor("F32", scales),
    }


def gated_mlp(name: str, hidden: int, intermediate: int, make: Callable[..., Tensors] = linear) -> Tensors:
    """gate_proj, up_proj and down_proj."""
    return (
        make(f"{name}.gate_proj", intermediate, hidden)
        | make(f"{name}.up_proj", intermediate, hidden)
        | make(f"{name}.down_proj", hidden, intermediate)
    )


def grouped_attention(config: Config, *, bias: bool = False) -> Tensors:
    """self_attn of grouped-query attention."""
    hidden, heads, kv_heads = (config[key] for key in ("hidden_size", "num_attention_heads", "num_key_value_heads"))
    head = config.get("head_dim", hidden // heads)
    return (
        linear("self_attn.q_proj", heads * head, hidden, bias=bias)
        | linear("self_attn.k_proj", kv_heads * head, hidden, bias=bias)
        | linear("self_attn.v_proj", kv_heads * head, hidden, bias=bias)
        | linear("self_attn.o_proj", hidden, heads * head)
    )


def decoder(config: Config, layer: Callable[[Config, int], Tensors]) -> Tensors:
    """Embedding, layers with their two norms, final norm and head; `layer` gives what else is in a layer."""
    hidden, vocabulary = config["hidden_size"], config["vocab_size"]
    tensors = linear("model.embed_tokens", vocabulary, hidden)
    for number in range(config["num_hidden_layers"]):
        tensors |= numbered(number, layer(config, number), hidden)
    return tensors | {"model.norm.weight": bf16(hidden)} | linear("lm_head", vocabulary, hidden)


def numbered(number: int, inside: Tensors, hidden: int) -> Tensors:
    """The tensors of layer `number`."""
    norms = {f"{norm}.weight": bf16(hidden) for norm in ("input_layernorm", "post_attention_layernorm")}
    return {f"model.layers.{number}.{name}": tensor for name, tensor in (norms | inside).items()}


def llama(config: Config) -> Tensors:
    """LlamaForCausalLM."""
    mlp = gated_mlp("mlp", config["hidden_size"], config["intermediate_size"])
    return decoder(config, lambda config, _: grouped_attention(config) | mlp)


def qwen3(config: Config) -> Tensors:
    """Qwen3ForCausalLM and, with experts, Qwen3MoeForCausalLM."""
    hidden = config["hidden_size"]
    inside = {f"self_attn.{norm}.weight": bf16(config["head_dim"]) for norm in ("q_norm", "k_norm")}
    if experts := config.get("num_experts"):
        inside |= linear("mlp.gate", experts, hidden)
        for expert in range(experts):
            inside |= gated_mlp(f"mlp.experts.{expert}", hidden, config["moe_intermediate_size"])
    else:
        inside |= gated_mlp("mlp", hidden, config["intermediate_size"])
    return decoder(config, lambda config, _: grouped_attention(config) | inside)


def mixtral(config: Config) -> Tensors:
    """MixtralForCausalLM; w1 is the gate, w3 goes up, w2 down."""
    hidden, intermediate, experts = (config[key] for key in ("hidden_size", "intermediate_size", "num_local_experts"))
    moe = linear("block_sparse_moe.gate", experts, hidden)
    for expert in range(experts):
        for name, shape in {
            "w1": (intermediate, hidden),
            "w2": (hidden, intermediate),
            "w3": (intermediate, hidden),
        }.items():
            moe |= linear(f"block_sparse_moe.experts.{expert}.{name}", *shape)
    return decoder(config, lambda config, _: grouped_attention(config) | moe)


def qwen2_5_vl(config: Config) -> Tensors:
    """Qwen2_5_VLForConditionalGeneration: the vision tower, then a Qwen2.5 whose q, k and v have biases."""
    mlp = gated_mlp("mlp", config["hidden_size"], config["intermediate_size"])
    text = decoder(config, lambda config, _: grouped_attention(config, bias=True) | mlp)
    return vision_tower(config["vision_config"]) | text


def vision_tower(vision: Config) -> Tensors:
    """visual.*: every linear layer has a bias, the convolution of the patches has none."""

    def biased(name: str, outputs: int, inputs: int) -> Tensors:
        return linear(name, outputs, inputs, bias=True)

    hidden, patch = vision["hidden_size"], vision["patch_size"]
    merged = hidden * vision["spatial_merge_size"] ** 2
    patches = (hidden, vision["in_chans"], vision["temporal_patch_size"], patch, patch)
    tensors = {"visual.patch_embed.proj.weight": bf16(*patches)}
    for number in range(vision["depth"]):
        block = f"visual.blocks.{number}"
        tensors |= {f"{block}.{norm}.weight": bf16(hidden) for norm in ("norm1", "norm2")}
        tensors |= biased(f"{block}.attn.qkv", 3 * hidden, hidden) | biased(f"{block}.attn.proj", hidden, hidden)
        tensors |= gated_mlp(f"{block}.mlp", hidden, vision["intermediate_size"], biased)
    return (
        tensors
        | {"visual.merger.ln_q.weight": bf16(hidden)}
        | biased("visual.merger.mlp.0", merged, merged)
        | biased("visual.merger.mlp.2", vision["out_hidden_size"], merged)
    )


def deepseek_v3(config: Config) -> Tensors:
    """DeepseekV3ForCausalLM: the main model, then one layer for each predicted token beyond the next.

    Such a layer is a further MoE layer with the projection of two norms before it and copies of embedding and head.
    """
    hidden, vocabulary, layers = (config[key] for key in ("hidden_size", "vocab_size", "num_hidden_layers"))
    tensors = decoder(config, deepseek_layer)
    for number in range(layers, layers + config["num_nextn_predict_layers"]):
        norms = {f"{norm}.weight": bf16(hidden) for norm in ("enorm", "hnorm", "shared_head.norm")}
        extra = (
            linear("embed_tokens", vocabulary, hidden)
            | norms
            | linear("eh_proj", hidden, 2 * hidden)
            | linear("shared_head.head", vocabulary, hidden)
        )
        tensors |= numbered(number, deepseek_layer(config, number) | extra, hidden)
    return tensors


def deepseek_layer(config: Config, number: int) -> Tensors:
    """Latent attention and, after the first dense layers, experts."""
    hidden = config["hidden_size"]
    tensors = latent_attention(config)
    if number < config["first_k_dense_replace"]:
        return tensors | gated_mlp("mlp", hidden, config["intermediate_size"], quantised)
    experts, intermediate = config["n_routed_experts"], config["moe_intermediate_size"]
    tensors |= linear("mlp.gate", experts, hidden)
    tensors |= {"mlp.gate.e_score_correction_bias": Tensor("F32", (experts,))}
    for expert in range(experts):
        tensors |= gated_mlp(f"mlp.experts.{expert}", hidden, intermediate, quantised)
    return tensors | gated_mlp("mlp.shared_experts", hidden, config["n_shared_experts"] * intermediate, quantised)


def latent_attention(config: Config) -> Tensors:
    """self_attn of multi-head latent attention."""
    hidden, heads, q_rank, kv_rank = (
        config[key] for key in ("hidden_size", "num_attention_heads", "q_lora_rank", "kv_lora_rank")
    )
    rope, nope, value = (config[key] for key in ("qk_rope_head_dim", "qk_nope_head_dim", "v_head_dim"))
    return (
        quantised("self_attn.q_a_proj", q_rank, hidden)
        | {"self_attn.q_a_layernorm.weight": bf16(q_rank)}
        | quantised("self_attn.q_b_proj", heads * (nope + rope), q_rank)
        | quantised("self_attn.kv_a_proj_with_mqa", kv_rank + rope, hidden)
        | {"self_attn.kv_a_layernorm.weight": bf16(kv_rank)}
        | quantised("self_attn.kv_b_proj", heads * (nope + value), kv_rank)
        | quantised("self_attn.o_proj", hidden, heads * value)
    )


TENSORS: dict[str, Callable[[Config], Tensors]] = {
    "Qwen/Qwen3-14B": qwen3,
    "Qwen/Qwen3-30B-A3B": qwen3,
    "meta-llama/Llama-3.1-70B-Instruct": llama,
    "mistralai/Mixtral-8x7B-Instruct-v0.1": mixtral,
    "Qwen/Qwen2.5-VL-7B-Instruct": qwen2_5_vl,
    "deepseek-ai/DeepSeek-V3": deepseek_v3,
}
