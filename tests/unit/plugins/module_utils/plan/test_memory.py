"""What models take of a GPU, against calculations by hand; the dimensions are those of each published config.json."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.model_config import Latent, ModelConfig
from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import ModelFacts
from ansible_collections.deployer.sglang.plugins.module_utils.plan.memory import (
    KvCost,
    kv_cost,
    loaded_bytes,
    weight_bytes,
)
from ansible_collections.deployer.sglang.plugins.module_utils.plan.parallelism import Parallelism, parallelism_of
from tests.doubles.published_models import NAMES, TOTAL_SIZE

QWEN, MOE, LLAMA, MIXTRAL, VISION, DEEPSEEK = NAMES
ONE = Parallelism()
# A model of grouped-query attention: 36 layers, 8 KV heads of 64, as openai/gpt-oss-120b has them.
SMALL = ModelConfig("GptOssForCausalLM", "gpt_oss", 36, 2880, 64, 8, 64, 64, 201_088, 131_072)


@pytest.mark.parametrize(
    ("name", "tensor", "expected"),
    [
        # Two tensors, K and V: 2 x layers x KV heads of this GPU x head_dim x 2 bytes. SGLang 0.5.23,
        # model_executor/pool_configurator.py, `_compute_cell_size`; a GPU has at least one KV head.
        (QWEN, 1, 2 * 40 * 8 * 128 * 2),
        (QWEN, 8, 2 * 40 * 1 * 128 * 2),
        (MOE, 1, 2 * 48 * 4 * 128 * 2),
        (MOE, 2, 2 * 48 * 2 * 128 * 2),
        (MOE, 4, 2 * 48 * 1 * 128 * 2),
        (MOE, 8, 2 * 48 * 1 * 128 * 2),
        (LLAMA, 1, 2 * 80 * 8 * 128 * 2),
        (LLAMA, 8, 2 * 80 * 1 * 128 * 2),
        (LLAMA, 16, 2 * 80 * 1 * 128 * 2),
        (MIXTRAL, 1, 2 * 32 * 8 * 128 * 2),
        (VISION, 1, 2 * 28 * 4 * 128 * 2),
        (VISION, 4, 2 * 28 * 1 * 128 * 2),
        # One latent vector of kv_lora_rank + qk_rope_head_dim, the same on every GPU: arXiv:2405.04434, section 2.1.
        (DEEPSEEK, 1, 61 * (512 + 64) * 2),
        (DEEPSEEK, 8, 61 * (512 + 64) * 2),
        (DEEPSEEK, 16, 61 * (512 + 64) * 2),
    ],
)
def test_a_token_of_kv_cache_takes_what_the_dimensions_give(
    published_facts: dict[str, ModelFacts], name: str, tensor: int, expected: int
) -> None:
    config = published_facts[name].config
    assert kv_cost(config, Parallelism(tensor=tensor), {}) == KvCost(expected)
    assert kv_cost(config, Parallelism(tensor=tensor), {"kv_cache_dtype": "fp8_e5m2"}) == KvCost(expected / 2)


def test_the_published_figures_of_a_token_are_met(published_facts: dict[str, ModelFacts]) -> None:
    per_token = {name: kv_cost(facts.config, ONE, {}).per_token() for name, facts in published_facts.items()}
    expected = {QWEN: 163_840, MOE: 98_304, LLAMA: 327_680, MIXTRAL: 131_072, VISION: 57_344, DEEPSEEK: 70_272}
    assert per_token == expected


@pytest.mark.parametrize(
    ("options", "size"),
    [
        ({}, 2),
        ({"kv_cache_dtype": "auto"}, 2),
        ({"kv_cache_dtype": "bfloat16", "dtype": "float32"}, 2),
        ({"dtype": "float32"}, 4),
        ({"kv_cache_dtype": "fp8_e5m2"}, 1),
        ({"kv_cache_dtype": "fp8_e4m3", "dtype": "float32"}, 1),
        ({"kv_cache_dtype": "fp4_e2m1"}, 1 / 2 + 1 / 16),  # two a byte, and a scale of one byte for 16
        ({"kv_cache_dtype": "mxfp8"}, 1 + 1 / 32),  # a scale of one byte for 32
    ],
)
def test_an_element_of_kv_cache_takes_what_its_dtype_says(options: dict[str, Any], size: float) -> None:
    assert kv_cost(SMALL, ONE, options) == KvCost(36 * 2 * 8 * 64 * size)


def test_windowed_layers_cost_apart_and_stateless_layers_nothing() -> None:
    layer = 2 * 8 * 64 * 2
    cost = kv_cost(replace(SMALL, window=128, window_layers=18), ONE, {})
    assert cost == KvCost(full=18 * layer, window=18 * layer)
    assert cost.per_token() == (18 + 0.8 * 18) * layer  # --swa-full-tokens-ratio is 0.8 unless it is given
    assert cost.per_token(0.5) == (18 + 0.5 * 18) * layer
    assert kv_cost(replace(SMALL, stateless_layers=27), ONE, {}) == KvCost(9 * layer)
    assert kv_cost(replace(SMALL, stateless_layers=36), ONE, {}) == KvCost(0)


def test_a_value_head_of_another_size_counts_with_its_own() -> None:
    assert kv_cost(replace(SMALL, head_dim=192, value_head_dim=128), ONE, {}) == KvCost(36 * 8 * (192 + 128) * 2)


def test_a_sparse_index_adds_its_bytes_to_every_layer_whatever_the_dtype() -> None:
    # DeepSeek-V3.2: index_head_dim 128, a byte an element and 4 bytes of scale a block of 128
    # (`_compute_dsa_indexer_cell_size`).
    config = replace(SMALL, layers=61, latent=Latent(512, 64, 128))
    assert kv_cost(config, Parallelism(tensor=8), {}) == KvCost(61 * ((512 + 64) * 2 + 132))
    assert kv_cost(config, Parallelism(tensor=8), {"kv_cache_dtype": "fp8_e5m2"}) == KvCost(61 * (512 + 64 + 132))


def test_pipeline_stages_and_attention_groups_decide_what_a_gpu_caches() -> None:
    layer = 2 * 64 * 2
    assert kv_cost(SMALL, Parallelism(pipeline=2), {}) == KvCost(18 * 8 * layer)
    assert kv_cost(SMALL, Parallelism(pipeline=5), {}) == KvCost(8 * 8 * layer)  # 36 / 5: the longest stage has 8
    assert kv_cost(SMALL, Parallelism(tensor=8, attention_data=4), {}) == KvCost(36 * 4 * layer)  # 8 heads over 2 GPUs
    assert kv_cost(SMALL, Parallelism(tensor=8, attention_data=8), {}) == KvCost(36 * 8 * layer)


# Split over the tensor-parallel group: matrices of layers, embedding, output head, vision tower. K and V projections:
# split until there are more GPUs than KV heads. On every GPU: norms, biases, routers, latent down-projections.
SPLIT = {
    QWEN: 2 * (40 * (2 * 5120 * 40 * 128 + 3 * 5120 * 17_408) + 2 * 151_936 * 5120),
    MOE: 2 * (48 * (2 * 2048 * 32 * 128 + 128 * 3 * 2048 * 768) + 2 * 151_936 * 2048),
    LLAMA: 2 * (80 * (2 * 8192**2 + 3 * 8192 * 28_672) + 2 * 128_256 * 8192),
    MIXTRAL: 2 * (32 * (2 * 4096**2 + 8 * 3 * 4096 * 14_336) + 2 * 32_000 * 4096),
    VISION: 2
    * (
        28 * (2 * 3584**2 + 3 * 3584 * 18_944)
        + 2 * 152_064 * 3584
        + 32 * (4 * 1280**2 + 3 * 1280 * 3420)
        + (4 * 1280) ** 2
        + 4 * 1280 * 3584
    ),
}
KEY_VALUE = {
    QWEN: 2 * 40 * 2 * 5120 * 8 * 128,
    MOE: 2 * 48 * 2 * 2048 * 4 * 128,
    LLAMA: 2 * 80 * 2 * 8192 * 8 * 128,
    MIXTRAL: 2 * 32 * 2 * 4096 * 8 * 128,
    VISION: 2 * 28 * 2 * 3584 * 4 * 128,
}
KV_HEADS = {QWEN: 8, MOE: 4, LLAMA: 8, MIXTRAL: 8, VISION: 4}
REPLICATED = {
    QWEN: 2 * (40 * (2 * 5120 + 2 * 128) + 5120),
    MOE: 2 * (48 * (2 * 2048 + 2 * 128 + 128 * 2048) + 2048),
    LLAMA: 2 * (80 * 2 * 8192 + 8192),
    MIXTRAL: 2 * (32 * (2 * 4096 + 8 * 4096) + 4096),
    VISION: 2
    * (
        28 * (2 * 3584 + (28 + 2 * 4) * 128)
        + 3584
        + 1280 * 3 * 2 * 14**2
        + 32 * (2 * 1280 + 4 * 1280 + 2 * 3420 + 1280)
        + (1280 + 4 * 1280 + 3584)
    ),
}


@pytest.mark.parametrize("name", list(SPLIT))
def test_the_calculation_by_hand_accounts_for_every_byte(name: str) -> None:
    expected = {  # from an independent calculation
        QWEN: (28_696_903_680, 838_860_800, 849_920),
        MOE: (60_837_330_944, 201_326_592, 25_587_712),
        LLAMA: (138_420_420_608, 2_684_354_560, 2_637_824),
        MIXTRAL: (92_866_084_864, 536_870_912, 2_629_632),
        VISION: (16_374_104_064, 205_520_896, 4_708_352),
    }
    assert (SPLIT[name], KEY_VALUE[name], REPLICATED[name]) == expected[name]
    assert sum(expected[name]) == TOTAL_SIZE[name]


@pytest.mark.parametrize("tensor", [1, 2, 4, 8, 16])
@pytest.mark.parametrize("name", list(SPLIT))
def test_a_gpu_has_its_share_of_the_matrices_and_all_that_is_replicated(
    published_facts: dict[str, ModelFacts], name: str, tensor: int
) -> None:
    shared = SPLIT[name] / tensor + KEY_VALUE[name] * max(1 / tensor, 1 / KV_HEADS[name])
    assert weight_bytes(published_facts[name], Parallelism(tensor=tensor), {}) == math.ceil(shared + REPLICATED[name])


DEEPSEEK_SPLIT, DEEPSEEK_REPLICATED = 672_011_978_240, 1_138_633_568  # without layer 61, from the same calculation


@pytest.mark.parametrize("tensor", [8, 16, 32])
def test_deepseek_loads_its_draft_layer_only_to_speculate(published_facts: dict[str, ModelFacts], tensor: int) -> None:
    facts, parallelism = published_facts[DEEPSEEK], Parallelism(tensor=tensor)
    draft = TOTAL_SIZE[DEEPSEEK] - DEEPSEEK_SPLIT - DEEPSEEK_REPLICATED
    plain = DEEPSEEK_SPLIT / tensor + DEEPSEEK_REPLICATED
    assert weight_bytes(facts, parallelism, {}) == math.ceil(plain)
    assert weight_bytes(facts, parallelism, {"speculative_algorithm": "EAGLE"}) == math.ceil(plain + draft / tensor)


def test_dtype_float32_doubles_what_is_loaded_and_leaves_quantised_checkpoints(
    published_facts: dict[str, ModelFacts],
) -> None:
    single = {"dtype": "float32"}
    assert weight_bytes(published_facts[QWEN], ONE, single) == 2 * TOTAL_SIZE[QWEN]
    assert weight_bytes(published_facts[QWEN], ONE, {"dtype": "float16"}) == TOTAL_SIZE[QWEN]
    deepseek = published_facts[DEEPSEEK]
    assert weight_bytes(deepseek, ONE, single) == weight_bytes(deepseek, ONE, {})
    stored = replace(published_facts[QWEN], parts={"sharded": {"F32": 400, "BF16": 200, "F64": 800, "I8": 1}})
    assert weight_bytes(stored, ONE, {}) == 100 * 2 * 3 + 1  # converted to half precision, unless they are no floats


@pytest.mark.parametrize("quantization", ["fp8", "w8a8_fp8", "w8a8_int8"])
def test_online_quantization_halves_the_linear_layers_and_nothing_else(
    published_facts: dict[str, ModelFacts], quantization: str
) -> None:
    ends = 2 * 2 * 151_936 * 5120  # embedding and head stay as they are
    expected = (SPLIT[QWEN] - ends + KEY_VALUE[QWEN]) / 2 + ends + REPLICATED[QWEN]
    assert weight_bytes(published_facts[QWEN], ONE, {"quantization": quantization}) == expected
    deepseek = published_facts[DEEPSEEK]
    assert weight_bytes(deepseek, ONE, {"quantization": quantization}) == weight_bytes(deepseek, ONE, {})
    assert weight_bytes(published_facts[QWEN], ONE, {"quantization": "awq"}) == TOTAL_SIZE[QWEN]


def test_a_pipeline_stage_has_its_layers_and_one_end(published_facts: dict[str, ModelFacts]) -> None:
    end = 2 * 151_936 * 5120  # embedding on the first stage, head on the last, as large
    layers = TOTAL_SIZE[QWEN] - 2 * end - 2 * 5120
    for stages, longest in ((2, 20), (3, 14)):
        expected = layers * longest / 40 + end + 2 * 5120
        assert weight_bytes(published_facts[QWEN], Parallelism(pipeline=stages), {}) == math.ceil(expected)


def test_dp_attention_has_attention_and_embedding_whole_in_each_group(published_facts: dict[str, ModelFacts]) -> None:
    # SGLang 0.5.23, models/deepseek_v2.py: attention over attn_tp_size, the embedding with enable_tp=False, experts and
    # head over tp_size. MLA up-projections and o_proj: 128 heads; a scale of 4 bytes for each block of 128 x 128.
    up = 128 * 192 * 1536 + 128 * 256 * 512 + 7168 * 128 * 128
    attention = 61 * up * (1 + 4 / 128**2)
    embedding = 2 * 129_280 * 7168
    rest = DEEPSEEK_SPLIT - attention - embedding
    for groups in (8, 2):
        expected = rest / 8 + attention / (8 // groups) + embedding + DEEPSEEK_REPLICATED
        parallelism = Parallelism(tensor=8, attention_data=groups)
        assert weight_bytes(published_facts[DEEPSEEK], parallelism, {}) == math.ceil(expected)


def test_weights_without_headers_are_split_evenly(published_facts: dict[str, ModelFacts]) -> None:
    pickles = replace(published_facts[QWEN], parts={}, weight_bytes=1001)
    assert weight_bytes(pickles, Parallelism(tensor=2, pipeline=2), {}) == 251


MIB = 2**20
# Qwen3-14B: 40,960 positions of 128 sines and cosines in float32.
QWEN_TABLE = 20 * MIB


def test_what_loading_takes_is_counted_in_segments_and_with_the_rotary_table(
    published_facts: dict[str, ModelFacts],
) -> None:
    facts = published_facts[QWEN]
    # Embedding and head of 1483.75 MiB each; a layer has 70, 50, 340 and 170 MiB; all norms together are 0.8 MiB.
    assert loaded_bytes(facts, ONE, {}) == (2 * 1484 + 40 * (70 + 50 + 340 + 170) + 2) * MIB + QWEN_TABLE
    # Over 8 GPUs: 185.47 for the ends; 42.5 and 21.25 MiB have segments of 44 and 22; 8.75 and 6.25 share one of 20.
    assert loaded_bytes(facts, Parallelism(tensor=8), {}) == (2 * 186 + 40 * (44 + 22 + 20) + 2) * MIB + QWEN_TABLE
    # Over two stages: half of the layers, and one of the ends.
    assert loaded_bytes(facts, Parallelism(pipeline=2), {}) == (1484 + 20 * 630 + 2) * MIB + QWEN_TABLE


@pytest.mark.parametrize("tensor", [1, 2, 4, 8])
@pytest.mark.parametrize("name", NAMES)
def test_segments_add_little_to_what_large_models_hold(
    published_facts: dict[str, ModelFacts], name: str, tensor: int
) -> None:
    facts, parallelism = published_facts[name], Parallelism(tensor=tensor)
    held = weight_bytes(facts, parallelism, {})
    assert held < loaded_bytes(facts, parallelism, {}) < 1.1 * held


@pytest.mark.parametrize("quantization", ["fp8", "bitsandbytes"])
def test_what_is_quantised_as_it_loads_takes_what_it_is_then(
    published_facts: dict[str, ModelFacts], quantization: str
) -> None:
    options = {"quantization": quantization}
    held = weight_bytes(published_facts[QWEN], ONE, options)
    assert held < loaded_bytes(published_facts[QWEN], ONE, options) < 1.03 * held
    deepseek = published_facts[DEEPSEEK]
    assert loaded_bytes(deepseek, Parallelism(tensor=8), options) == loaded_bytes(deepseek, Parallelism(tensor=8), {})


def test_draft_layers_take_nothing_until_they_are_loaded(published_facts: dict[str, ModelFacts]) -> None:
    eight, deepseek = Parallelism(tensor=8), published_facts[DEEPSEEK]
    plain = loaded_bytes(deepseek, eight, {})
    more = loaded_bytes(deepseek, eight, {"speculative_algorithm": "EAGLE"}) - plain
    draft = TOTAL_SIZE[DEEPSEEK] - DEEPSEEK_SPLIT - DEEPSEEK_REPLICATED
    assert more == pytest.approx(draft / 8, rel=0.03)


@pytest.mark.parametrize(("changes", "options"), [({"allocations": ()}, {}), ({}, {"device": "cpu"})])
def test_without_the_shapes_of_the_tensors_or_cuda_their_bytes_are_what_is_known(
    published_facts: dict[str, ModelFacts], changes: dict[str, Any], options: dict[str, Any]
) -> None:
    facts, two = replace(published_facts[QWEN], **changes), Parallelism(tensor=2)
    assert loaded_bytes(facts, two, options) == weight_bytes(facts, two, options)


@pytest.mark.parametrize(
    ("options", "expected", "gpus", "attention"),
    [
        ({}, Parallelism(), 1, 1),
        ({"tensor_parallel_size": 8}, Parallelism(tensor=8), 8, 8),
        ({"tensor_parallel_size": "4", "pipeline_parallel_size": 2}, Parallelism(tensor=4, pipeline=2), 8, 4),
        ({"tensor_parallel_size": 2, "data_parallel_size": 4}, Parallelism(tensor=2, data=4), 8, 2),
        (
            {"tensor_parallel_size": 8, "data_parallel_size": 4, "enable_dp_attention": True},
            Parallelism(tensor=8, attention_data=4),
            8,
            2,
        ),
        (
            {"tensor_parallel_size": 8, "data_parallel_size": 4, "enable_dp_attention": False},
            Parallelism(tensor=8, data=4),
            32,
            8,
        ),
        (
            {"tensor_parallel_size": 4, "data_parallel_size": 2, "attention_data_parallel_size": 4},
            Parallelism(tensor=4, data=2, attention_data=4),
            8,
            1,
        ),
        (
            {"tensor_parallel_size": 4, "data_parallel_size": 2, "attention_data_parallel_size": 4}
            | {"enable_dp_attention": True},
            Parallelism(tensor=4, data=2, attention_data=4),
            8,
            1,
        ),
        (
            {"tensor_parallel_size": 16, "nnodes": 2, "expert_parallel_size": 16},
            Parallelism(tensor=16, expert=16, nodes=2),
            8,
            16,
        ),
        ({"tensor_parallel_size": 1, "nnodes": 2}, Parallelism(nodes=2), 1, 1),
        ({"tensor_parallel_size": 2, "attention_data_parallel_size": 4}, Parallelism(2, attention_data=4), 2, 1),
    ],
)
def test_options_give_the_parallelism_and_the_gpus_of_a_host(
    options: dict[str, Any], expected: Parallelism, gpus: int, attention: int
) -> None:
    parallelism = parallelism_of("sglang", options)
    assert parallelism == expected
    assert (parallelism.gpus, parallelism.attention) == (gpus, attention)
    assert parallelism_of("llamafactory", options) == Parallelism()


@pytest.mark.parametrize(
    "value", [0, -1, 1025, 10**400, True, 2.0, None, "", "two", "1.5", "-1", "²", "٣", "9" * 5000, [2], {"size": 2}]
)
@pytest.mark.parametrize(
    "name",
    [
        "tensor_parallel_size",
        "pipeline_parallel_size",
        "data_parallel_size",
        "attention_data_parallel_size",
        "expert_parallel_size",
        "nnodes",
    ],
)
def test_a_degree_that_is_none_is_named(name: str, value: Any) -> None:
    with pytest.raises(DeployError) as caught:
        parallelism_of("sglang", {name: value})
    assert caught.value.problem == f"options.{name} is {value!r}"
    assert caught.value.fix == "give a whole number from 1 to 1024"
