"""config.json: every family's names give the model's shape, and what is wrong is named with file and field."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.model_config import (
    FIX,
    Latent,
    ModelConfig,
    ShapeUnknown,
    parse_config,
)
from tests.doubles.published_models import CONFIGS, NAMES

PATH = "/models/some/config.json"
LEAST: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "num_hidden_layers": 4,
    "hidden_size": 64,
    "num_attention_heads": 8,
}


def config_of(name: str) -> dict[str, Any]:
    config: dict[str, Any] = json.loads((CONFIGS / name.rpartition("/")[2] / "config.json").read_text("utf-8"))
    return config


def parse(**fields: Any) -> ModelConfig:
    """The smallest configuration with these fields; a field of None is left out."""
    return parse_config({key: value for key, value in {**LEAST, **fields}.items() if value is not None}, PATH)


# As the model cards and technical reports have it; positions as the published config.json, before any rope scaling
# that its user would have to switch on (Qwen3 and Qwen2.5-VL: YaRN is described in the card, and off).
PUBLISHED = {
    # huggingface.co/Qwen/Qwen3-14B, "Model Overview": 40 layers, 40 heads for Q and 8 for KV.
    "Qwen/Qwen3-14B": ModelConfig(
        architecture="Qwen3ForCausalLM",
        model_type="qwen3",
        layers=40,
        hidden=5120,
        heads=40,
        kv_heads=8,
        head_dim=128,
        value_head_dim=128,
        vocabulary=151_936,
        positions=40_960,
        intermediate=17_408,
        dtype="bfloat16",
    ),
    # huggingface.co/Qwen/Qwen3-30B-A3B, "Model Overview": 48 layers, 32 heads for Q and 4 for KV, 128 experts. A head
    # has 128 dimensions, which hidden / heads = 64 does not give away.
    "Qwen/Qwen3-30B-A3B": ModelConfig(
        architecture="Qwen3MoeForCausalLM",
        model_type="qwen3_moe",
        layers=48,
        hidden=2048,
        heads=32,
        kv_heads=4,
        head_dim=128,
        value_head_dim=128,
        vocabulary=151_936,
        positions=40_960,
        intermediate=6144,
        experts=128,
        expert_intermediate=768,
        dtype="bfloat16",
    ),
    # arXiv:2407.21783, table 3: 80 layers, model dimension 8192, FFN 28,672, 64 heads, 8 KV heads; 128K of context,
    # which max_position_embeddings holds with the factor 8 of its llama3 rope scaling counted already.
    "meta-llama/Llama-3.1-70B-Instruct": ModelConfig(
        architecture="LlamaForCausalLM",
        model_type="llama",
        layers=80,
        hidden=8192,
        heads=64,
        kv_heads=8,
        head_dim=8192 // 64,
        value_head_dim=128,
        vocabulary=128_256,
        positions=128 * 1024,
        intermediate=28_672,
        dtype="bfloat16",
    ),
    # arXiv:2401.04088, table 1: dim 4096, 32 layers, head_dim 128, hidden_dim 14,336, 32 heads, 8 KV heads, context
    # 32,768, vocabulary 32,000, 8 experts.
    "mistralai/Mixtral-8x7B-Instruct-v0.1": ModelConfig(
        architecture="MixtralForCausalLM",
        model_type="mixtral",
        layers=32,
        hidden=4096,
        heads=32,
        kv_heads=8,
        head_dim=128,
        value_head_dim=128,
        vocabulary=32_000,
        positions=32_768,
        intermediate=14_336,
        experts=8,
        dtype="bfloat16",
    ),
    # arXiv:2502.13923, table 1, the 7B column: LLM 28 layers, hidden 3584, 4 KV heads of 128, intermediate 18,944; ViT
    # 16 heads. Its sliding_window is there, no layer uses it.
    "Qwen/Qwen2.5-VL-7B-Instruct": ModelConfig(
        architecture="Qwen2_5_VLForConditionalGeneration",
        model_type="qwen2_5_vl",
        layers=28,
        hidden=3584,
        heads=28,
        kv_heads=4,
        head_dim=128,
        value_head_dim=128,
        vocabulary=152_064,
        positions=128_000,
        intermediate=18_944,
        window=32_768,
        dtype="bfloat16",
        vision=True,
        vision_heads=16,
        vision_layers=24,  # its depth goes by another name, or is not said
        vision_hidden=1280,
    ),
    # arXiv:2412.19437, section 4.2: 61 layers, hidden 7168, 128 heads, KV compression 512, decoupled head 64, 256
    # routed experts of 2048; section 3.3: FP8 in blocks of 128 x 128. Its yarn scaling of 40 x 4096 is counted already.
    "deepseek-ai/DeepSeek-V3": ModelConfig(
        architecture="DeepseekV3ForCausalLM",
        model_type="deepseek_v3",
        layers=61,
        hidden=7168,
        heads=128,
        kv_heads=128,
        head_dim=7168 // 128,
        value_head_dim=7168 // 128,
        vocabulary=129_280,
        positions=40 * 4096,
        intermediate=18_432,
        experts=256,
        expert_intermediate=2048,
        latent=Latent(kv_rank=512, rope_head_dim=64),
        quantization="fp8",
        quantization_block=128,
        dtype="bfloat16",
    ),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_published_configuration_gives_the_published_shape(name: str) -> None:
    assert parse_config(config_of(name), PATH) == PUBLISHED[name]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        pytest.param(
            {"num_hidden_layers": None, "hidden_size": None, "num_attention_heads": None}
            | {"n_layer": 48, "n_embd": 1600, "n_head": 25, "n_positions": 1024, "n_inner": None},
            {"layers": 48, "hidden": 1600, "heads": 25, "kv_heads": 25, "head_dim": 64, "positions": 1024},
            id="gpt2-xl",
        ),
        pytest.param({"multi_query": True}, {"kv_heads": 1, "heads": 8}, id="starcoder: one KV head for all"),
        pytest.param({"multi_query": False}, {"kv_heads": 8}, id="multi_query-off"),
        pytest.param(
            {"num_hidden_layers": None, "num_layers": 28, "multi_query_group_num": 2, "ffn_hidden_size": 13_696}
            | {"seq_length": 131_072},
            {"layers": 28, "kv_heads": 2, "intermediate": 13_696, "positions": 131_072},
            id="chatglm",
        ),
        pytest.param({"n_head_kv": 2, "num_key_value_heads": 4}, {"kv_heads": 2}, id="falcon"),
        pytest.param({"num_attention_groups": 1}, {"kv_heads": 1}, id="step3"),
        pytest.param({"num_key_value_heads": [4, 2, 4, 2]}, {"kv_heads": 4}, id="a number a layer: the widest"),
        pytest.param({"hidden_size": 4, "num_attention_heads": 8}, {"head_dim": 1}, id="more heads than width"),
        pytest.param({"head_dim": 192, "v_head_dim": 128}, {"head_dim": 192, "value_head_dim": 128}, id="mimo"),
        pytest.param({"moe_num_experts": 64, "n_routed_experts": None}, {"experts": 64}, id="ernie"),
        pytest.param({"torch_dtype": None, "dtype": "float16"}, {"dtype": "float16"}, id="transformers-5"),
    ],
)
def test_older_and_other_families_names_are_read(fields: dict[str, Any], expected: dict[str, Any]) -> None:
    config = parse(**fields)
    assert {name: getattr(config, name) for name in expected} == expected


def test_what_a_configuration_leaves_out_has_a_default() -> None:
    assert parse() == ModelConfig("LlamaForCausalLM", "", 4, 64, 8, 8, 8, 8, 1, 2048)


def test_full_attention_interval_leaves_every_nth_layer_with_a_cache() -> None:
    # huggingface.co/Qwen/Qwen3-Next-80B-A3B-Instruct: 48 layers, "12 * (3 * (Gated DeltaNet) -> 1 * (Gated Attention))"
    config = parse(architectures=["Qwen3NextForCausalLM"], num_hidden_layers=48, full_attention_interval=4)
    assert (config.layers, config.stateless_layers, config.window_layers) == (48, 36, 0)
    assert parse(num_hidden_layers=48, full_attention_interval=1).stateless_layers == 0


def test_layer_types_outrank_the_interval_and_count_every_kind_without_a_cache() -> None:
    kinds = ["linear_attention", "mamba", "conv", "recurrent", "mamba2", "full_attention", "attention"]
    config = parse(num_hidden_layers=7, layer_types=kinds, full_attention_interval=2)
    assert (config.stateless_layers, config.window_layers) == (5, 0)
    assert parse(num_hidden_layers=7, layers_block_type=kinds).stateless_layers == 5  # Jamba, Bamba
    assert parse(num_hidden_layers=2, layer_types=kinds).stateless_layers == 2  # types of layers that are not there


@pytest.mark.parametrize(
    ("architecture", "windowed"),
    [
        ("GptOssForCausalLM", 18),
        ("Gemma4ForConditionalGeneration", 18),
        ("Gemma3ForCausalLM", 0),
        ("Qwen3ForCausalLM", 0),
    ],
)
def test_windows_save_memory_only_where_sglang_has_a_pool_for_them(architecture: str, windowed: int) -> None:
    # huggingface.co/openai/gpt-oss-120b: 36 layers, every other one with a window of 128
    config = parse(
        architectures=[architecture],
        num_hidden_layers=36,
        sliding_window=128,
        layer_types=["sliding_attention", "full_attention"] * 18,
    )
    assert (config.window, config.window_layers, config.stateless_layers) == (128, windowed, 0)


def test_llama_4_keeps_its_shape_in_text_config_and_every_fourth_layer_whole() -> None:
    # huggingface.co/meta-llama/Llama-4-Scout-17B-16E: 48 layers, 40 heads, 8 KV heads, 16 experts, 10M of context
    text = {
        "num_hidden_layers": 48,
        "hidden_size": 5120,
        "num_attention_heads": 40,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "vocab_size": 202_048,
        "num_local_experts": 16,
        "intermediate_size": 8192,
        "max_position_embeddings": 10_485_760,
        "rope_scaling": {"factor": 16.0, "original_max_position_embeddings": 8192, "rope_type": "llama3"},
        "torch_dtype": "bfloat16",
    }
    whole = {
        "architectures": ["Llama4ForConditionalGeneration"],
        "model_type": "llama4",
        "text_config": text,
        "vision_config": {"num_attention_heads": 16, "hidden_size": 1408},
    }
    assert parse_config(whole, PATH) == ModelConfig(
        architecture="Llama4ForConditionalGeneration",
        model_type="llama4",
        layers=48,
        hidden=5120,
        heads=40,
        kv_heads=8,
        head_dim=128,
        value_head_dim=128,
        vocabulary=202_048,
        positions=10_485_760,
        intermediate=8192,
        experts=16,
        window_layers=36,
        dtype="bfloat16",
        vision=True,
        vision_heads=16,
        vision_layers=24,  # its depth goes by another name, or is not said
        vision_hidden=1408,
    )


@pytest.mark.parametrize("part", ["text_config", "llm_config", "language_config"])
def test_a_nested_text_part_is_read_and_what_stands_beside_it_counts(part: str) -> None:
    config = parse_config(
        {"architectures": ["InternVLChatModel"], "vocab_size": 9, "torch_dtype": "bfloat16", part: {**LEAST}}
        | {"hidden_size": 999, "quantization_config": {"quant_method": "awq"}},
        PATH,
    )
    assert (config.layers, config.hidden, config.vocabulary, config.dtype) == (4, 64, 9, "bfloat16")
    assert config.quantization == "awq"


def test_a_text_part_without_layers_is_no_model_of_its_own() -> None:
    assert parse(text_config={"vocab_size": 5}, vocab_size=7).vocabulary == 7


# get_context_length of SGLang's utils/hf_transformers/common.py
@pytest.mark.parametrize(
    ("scaling", "positions"),
    [
        (None, 4096),
        ({"type": "linear", "factor": 2.0}, 8192),
        ({"rope_type": "dynamic", "factor": 2.5}, 10_240),
        ({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 4096}, 4096),
        ({"rope_type": "llama3", "factor": 8.0}, 4096),
        ({"type": "llama3", "factor": 8.0}, 32_768),
        ({"type": "mrope", "mrope_section": [16, 24, 24]}, 4096),
    ],
)
def test_rope_scaling_counts_as_sglang_counts_it(scaling: Any, positions: int) -> None:
    assert parse(max_position_embeddings=4096, rope_scaling=scaling).positions == positions


def test_the_first_of_sglangs_names_for_the_context_decides() -> None:
    names = {"max_sequence_length": 1, "seq_length": 2, "max_seq_len": 3, "model_max_length": 4}
    names |= {"max_position_embeddings": 5, "n_positions": 6}
    while names:
        assert parse(**names).positions == min(names.values())
        del names[min(names, key=names.__getitem__)]
    assert parse().positions == 2048


@pytest.mark.parametrize(
    ("fields", "vision", "heads"),
    [
        ({}, False, 0),
        ({"vision_config": {}}, False, 0),
        ({"vision_config": {"num_heads": 16}}, True, 16),
        ({"vision_config": {"num_attention_heads": 25}}, True, 25),
        ({"vision_config": {"depth": 32}}, True, 0),
        ({"visual": {"heads": 16, "width": 1664}}, True, 0),
    ],
)
def test_a_vision_part_is_seen_with_its_heads(fields: dict[str, Any], vision: bool, heads: int) -> None:
    config = parse(**fields)
    assert (config.vision, config.vision_heads) == (vision, heads)


@pytest.mark.parametrize(
    ("quantization", "method", "block"),
    [
        (None, "", 0),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8", 128),
        ({"quant_method": "fp8", "weight_block_size": None}, "fp8", 0),
        ({"quant_method": "awq", "group_size": 64}, "awq", 64),
        ({"quant_method": "awq", "group_size": -1}, "awq", 0),
        ({"bits": 4}, "", 0),
        ({"quant_method": "fp8", "weight_block_size": [True, 128]}, "fp8", 0),
        ({"quant_method": "fp8", "weight_block_size": [0, 128]}, "fp8", 0),
        ({"quant_method": "fp8", "weight_block_size": 128}, "fp8", 0),
    ],
)
def test_quantization_is_read_with_its_block(quantization: Any, method: str, block: int) -> None:
    config = parse(quantization_config=quantization)
    assert (config.quantization, config.quantization_block) == (method, block)


def test_a_sparse_index_is_read_beside_the_latent_ranks() -> None:
    # huggingface.co/deepseek-ai/DeepSeek-V3.2
    config = parse(kv_lora_rank=512, qk_rope_head_dim=64, v_head_dim=128, index_head_dim=128)
    assert config.latent == Latent(512, 64, 128)


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        (None, f"{PATH} is not a JSON object"),
        ([LEAST], f"{PATH} is not a JSON object"),
        ({}, f"{PATH}: architectures is None"),
        ({**LEAST, "architectures": []}, f"{PATH}: architectures is []"),
        ({**LEAST, "architectures": "LlamaForCausalLM"}, f"{PATH}: architectures is 'LlamaForCausalLM'"),
        ({**LEAST, "architectures": [None]}, f"{PATH}: architectures is [None]"),
        ({**LEAST, "num_hidden_layers": None}, f"{PATH} has no num_hidden_layers"),
        ({"architectures": ["X"], "n_layer": 2, "n_embd": 2}, f"{PATH} has no num_attention_heads"),
        ({**LEAST, "hidden_size": "64"}, f"{PATH}: hidden_size is '64'"),
        ({**LEAST, "hidden_size": 64.0}, f"{PATH}: hidden_size is 64.0"),
        ({**LEAST, "num_attention_heads": True}, f"{PATH}: num_attention_heads is True"),
        ({**LEAST, "num_attention_heads": 0}, f"{PATH}: num_attention_heads is 0"),
        ({**LEAST, "num_key_value_heads": []}, f"{PATH}: num_key_value_heads is []"),
        ({**LEAST, "num_key_value_heads": [2, True]}, f"{PATH}: num_key_value_heads is [2, True]"),
        ({**LEAST, "num_experts": -1}, f"{PATH}: num_experts is -1"),
        ({**LEAST, "n_layer": 3, "num_hidden_layers": 2**40}, f"{PATH}: num_hidden_layers is {2**40}"),
        ({**LEAST, "vocab_size": "9" * 100}, f"{PATH}: vocab_size is '{'9' * 58}…"),
        ({**LEAST, "model_type": 5}, f"{PATH}: model_type is 5"),
        ({**LEAST, "torch_dtype": ["bfloat16"]}, f"{PATH}: torch_dtype is ['bfloat16']"),
        ({**LEAST, "kv_lora_rank": 512}, f"{PATH} has no qk_rope_head_dim"),
        ({**LEAST, "rope_scaling": {"factor": 0}}, f"{PATH}: rope_scaling.factor is 0"),
        ({**LEAST, "rope_scaling": {"factor": float("nan")}}, f"{PATH}: rope_scaling.factor is nan"),
        ({**LEAST, "rope_scaling": {"factor": float("inf")}}, f"{PATH}: rope_scaling.factor is inf"),
        ({**LEAST, "rope_scaling": {"factor": "4"}}, f"{PATH}: rope_scaling.factor is '4'"),
        ({**LEAST, "rope_scaling": {"rope_type": 1}}, f"{PATH}: rope_scaling.rope_type is 1"),
        ({**LEAST, "quantization_config": {"quant_method": 8}}, f"{PATH}: quantization_config.quant_method is 8"),
        ({**LEAST, "vision_config": {"num_heads": 1.5}}, f"{PATH}: vision_config.num_heads is 1.5"),
        (
            {"architectures": ["X"], "text_config": {"num_hidden_layers": 2}},
            f"{PATH} has no text_config.hidden_size",
        ),
    ],
)
def test_what_is_wrong_is_named_with_file_and_field(value: Any, problem: str) -> None:
    with pytest.raises(DeployError) as caught:
        parse_config(value, PATH)
    assert caught.value.problem == problem
    unknown = isinstance(caught.value, ShapeUnknown)
    assert unknown == (" has no " in problem)
    assert caught.value.fix == ("nothing: the engine knows its own models" if unknown else FIX)


def test_a_factor_beyond_every_float_is_no_traceback() -> None:
    assert parse(rope_scaling={"factor": 10**400}).positions > 2048


NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, 2**40, 2**63, 10**400, -(10**400), 1e308, True])
JSON = st.recursive(
    st.none() | NUMBERS | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)
# Every field that parse_config reads.
READ = [
    *("architectures", "model_type", "torch_dtype", "dtype", "text_config", "vision_config", "visual"),
    *("num_hidden_layers", "n_layer", "hidden_size", "n_embd", "num_attention_heads", "n_head", "num_key_value_heads"),
    *("multi_query", "head_dim", "v_head_dim", "vocab_size", "intermediate_size", "num_experts", "n_routed_experts"),
    *("moe_intermediate_size", "kv_lora_rank", "qk_rope_head_dim", "index_head_dim", "sliding_window", "layer_types"),
    *("full_attention_interval", "rope_scaling", "max_position_embeddings", "quantization_config"),
]
REQUIRED_BY = {"kv_lora_rank": "qk_rope_head_dim"}
INSIDE = {
    "rope_scaling": ["factor", "rope_type", "original_max_position_embeddings"],
    "quantization_config": ["quant_method", "weight_block_size"],
    "vision_config": ["num_heads", "num_attention_heads"],
    "text_config": READ,
}


def shape_or_refusal(value: Any) -> DeployError | None:
    """The refusal that any value may give, which says where, or None after a look at the shape that it gave."""
    try:
        config = parse_config(value, PATH)
    except DeployError as error:
        assert PATH in error.problem
        return error
    counts = (config.layers, config.hidden, config.heads, config.kv_heads, config.head_dim, config.value_head_dim)
    assert all(type(count) is int and count >= 1 for count in (*counts, config.vocabulary))
    assert 0 <= config.window_layers + config.stateless_layers <= config.layers
    return None


@given(value=JSON)
def test_any_json_gives_a_shape_or_a_refusal(value: Any) -> None:
    shape_or_refusal(value)


@settings(max_examples=500)
@given(name=st.sampled_from(NAMES), field=st.sampled_from(READ), value=JSON)
def test_a_published_configuration_with_any_value_in_a_field_gives_a_shape_or_names_the_field(
    name: str, field: str, value: Any
) -> None:
    error = shape_or_refusal({**config_of(name), field: value})
    if error is not None:
        assert field in error.problem or REQUIRED_BY.get(field, "no other") in error.problem


@settings(max_examples=500)
@given(data=st.data(), name=st.sampled_from(NAMES), part=st.sampled_from(list(INSIDE)), value=JSON)
def test_any_value_in_a_nested_part_gives_a_shape_or_names_part_and_field(
    data: st.DataObject, name: str, part: str, value: Any
) -> None:
    field = data.draw(st.sampled_from(INSIDE[part]))
    config = config_of(name)
    inside = {**LEAST, **config} if part == "text_config" else {**(config.get(part) or {})}
    error = shape_or_refusal({**config, part: {**inside, field: value}})
    if error is not None:
        assert f" {part}." in error.problem
        assert field in error.problem or REQUIRED_BY.get(field, "no other") in error.problem


@given(name=st.sampled_from(NAMES), data=st.data())
def test_a_published_configuration_without_some_fields_gives_a_shape_or_names_one_of_them(
    name: str, data: st.DataObject
) -> None:
    config = config_of(name)
    gone = data.draw(st.sets(st.sampled_from(sorted(config)), min_size=1))
    error = shape_or_refusal({key: value for key, value in config.items() if key not in gone})
    if error is not None:
        assert any(field in error.problem for field in gone)
