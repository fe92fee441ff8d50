"""SGLang's sizing of its KV cache: default fractions by hand from its sources, and the arithmetic on top of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.model_config import Latent, ModelConfig
from ansible_collections.deployer.sglang.plugins.module_utils.plan.memory import KvCost
from ansible_collections.deployer.sglang.plugins.module_utils.plan.parallelism import Parallelism
from ansible_collections.deployer.sglang.plugins.module_utils.plan.pool import (
    COMMUNICATION,
    CUDA_CONTEXT,
    GIB,
    MIB,
    default_fraction,
    running_requests,
    size_pool,
    whole_number,
)

OLD, NEW = "0.4.9.post2", "0.5.23"
TEXT = ModelConfig("LlamaForCausalLM", "llama", 32, 4096, 32, 8, 128, 128, 128_256, 131_072)
LATENT = replace(TEXT, latent=Latent(512, 64))
VISION = replace(
    TEXT, architecture="Qwen2_5_VLForConditionalGeneration", vision=True, vision_layers=24, vision_hidden=1024
)
ONE, TWO, FOUR, EIGHT = (Parallelism(tensor=tensor) for tensor in (1, 2, 4, 8))
# MiB of memory in all that nvidia-smi reports, which is what SGLang reads (get_nvgpu_memory_capacity).
T4, RTX_4090, A100_40, H100, H200, B200 = 15_360, 24_564, 40_960, 81_559, 143_771, 183_359


# sglang 0.4.9.post2, srt/server_args.py, ServerArgs.__post_init__: GiB by the size of a GPU, and some for each GPU.
@pytest.mark.parametrize(
    ("gpu", "parallelism", "options", "reserved"),
    [
        (T4, ONE, {}, (2.8 + 1 / 10) * 1024),
        (RTX_4090, ONE, {}, (2.8 + 1 / 10) * 1024),
        (RTX_4090, TWO, {}, (2.8 + 2 / 10) * 1024),
        (A100_40, ONE, {}, (9.5 + 1 / 2) * 1024),
        (H100, ONE, {}, (9.5 + 1 / 2) * 1024),
        (H100, EIGHT, {}, (9.5 + 8 / 2) * 1024),
        (H100, Parallelism(tensor=4, pipeline=2), {}, (9.5 + 8 / 2) * 1024),
        (H200, ONE, {}, (12 + 1 / 2) * 1024),
        (H200, EIGHT, {}, (12 + 8 / 2) * 1024),
        (B200, ONE, {}, 32 * 1024),
        (B200, EIGHT, {}, 32 * 1024),
        (35 * 1024, ONE, {}, (9.5 + 1 / 2) * 1024),
        (90 * 1024, ONE, {}, (12 + 1 / 2) * 1024),
        (160 * 1024, ONE, {}, 32 * 1024),
        (H100, ONE, {"speculative_algorithm": "EAGLE"}, (9.5 + 1 / 2) * 1024 + 2 * 1024),
        (H200, Parallelism(tensor=8, attention_data=8), {}, (12 + 8 / 2) * 1024 + 4 * 1024),
        # What the newer version counts, this one does not know.
        (H100, ONE, {"disable_cuda_graph": True, "chunked_prefill_size": 2048}, (9.5 + 1 / 2) * 1024),
    ],
)
def test_the_default_fraction_of_0_4_9(
    gpu: int, parallelism: Parallelism, options: dict[str, Any], reserved: float
) -> None:
    fraction = round((gpu - reserved) / gpu, 3)
    assert default_fraction(gpu * MIB, TEXT, parallelism, options, OLD) == fraction
    assert default_fraction(gpu * MIB, VISION, parallelism, options, OLD) == fraction * 0.9


# sglang 0.5.23, srt/arg_groups/memory_hook.py: 512 MiB; 1.5 for each token of a prefill chunk; an eighth of a GiB for
# each GPU; 2 for each request of the largest decode graph; 8 for each prefill graph, of which there are, up to 2048
# tokens, 8 + 14 + 8 + 8 + 4 = 42, to 4096 50, to 8192 58, to 16384 74 (generate_prefill_cuda_graph_batch_sizes).
@pytest.mark.parametrize(
    ("gpu", "parallelism", "options", "reserved"),
    [
        (T4, ONE, {}, 512 + 2048 * 1.5 + 1024 / 8 + 8 * 2 + 42 * 8),
        (T4, FOUR, {}, 512 + 2048 * 1.5 + 4 * 1024 / 8 + 8 * 2 + 42 * 8),
        (RTX_4090, ONE, {}, 512 + 4096 * 1.5 + 1024 / 8 + 48 * 2 + 50 * 8),
        (RTX_4090, FOUR, {}, 512 + 4096 * 1.5 + 4 * 1024 / 8 + 160 * 2 + 50 * 8),
        (A100_40, ONE, {}, 512 + 4096 * 1.5 + 1024 / 8 + 32 * 2 + 50 * 8),
        (A100_40, EIGHT, {}, 512 + 4096 * 1.5 + 8 * 1024 / 8 + 160 * 2 + 50 * 8),
        (H100, ONE, {}, 512 + 8192 * 1.5 + 1024 / 8 + 256 * 2 + 58 * 8),
        (H100, EIGHT, {}, 512 + 8192 * 1.5 + 8 * 1024 / 8 + 512 * 2 + 58 * 8),
        (H200, TWO, {}, 512 + 8192 * 1.5 + 2 * 1024 / 8 + 256 * 2 + 58 * 8),
        (H200, FOUR, {}, 512 + 8192 * 1.5 + 4 * 1024 / 8 + 512 * 2 + 58 * 8),
        (B200, ONE, {}, 512 + 16_384 * 1.5 + 1024 / 8 + 512 * 2 + 74 * 8),
        # A class of GPUs ends below its limit of 20, 35, 60 or 160 GiB.
        (20 * 1024 - 1, ONE, {}, 512 + 2048 * 1.5 + 1024 / 8 + 8 * 2 + 42 * 8),
        (20 * 1024, ONE, {}, 512 + 4096 * 1.5 + 1024 / 8 + 48 * 2 + 50 * 8),
        (35 * 1024, ONE, {}, 512 + 4096 * 1.5 + 1024 / 8 + 32 * 2 + 50 * 8),
        (60 * 1024, ONE, {}, 512 + 8192 * 1.5 + 1024 / 8 + 256 * 2 + 58 * 8),
        (160 * 1024 - 1, ONE, {}, 512 + 8192 * 1.5 + 1024 / 8 + 256 * 2 + 58 * 8),
        (160 * 1024, ONE, {}, 512 + 16_384 * 1.5 + 1024 / 8 + 512 * 2 + 74 * 8),
        # Options that change an amount.
        (H100, ONE, {"chunked_prefill_size": "16384"}, 512 + 16_384 * 1.5 + 1024 / 8 + 256 * 2 + 74 * 8),
        (A100_40, ONE, {"chunked_prefill_size": 1024}, 512 + 2048 * 1.5 + 1024 / 8 + 32 * 2 + 38 * 8),
        (A100_40, ONE, {"max_total_tokens": 512}, 512 + 4096 * 1.5 + 1024 / 8 + 32 * 2 + 30 * 8),
        (A100_40, ONE, {"max_running_requests": 16}, 512 + 4096 * 1.5 + 1024 / 8 + 16 * 2 + 50 * 8),
        (A100_40, ONE, {"max_running_requests": 999}, 512 + 4096 * 1.5 + 1024 / 8 + 32 * 2 + 50 * 8),
        (A100_40, ONE, {"disable_cuda_graph": True}, 512 + 4096 * 1.5 + 1024 / 8),
        (A100_40, ONE, {"disable_prefill_cuda_graph": True}, 512 + 4096 * 1.5 + 1024 / 8 + 32 * 2),
        (A100_40, ONE, {"disable_decode_cuda_graph": True}, 512 + 4096 * 1.5 + 1024 / 8 + 50 * 8),
        (A100_40, ONE, {"cuda_graph_backend_prefill": "disabled"}, 512 + 4096 * 1.5 + 1024 / 8 + 32 * 2),
        (A100_40, ONE, {"cuda_graph_backend_decode": "disabled"}, 512 + 4096 * 1.5 + 1024 / 8 + 50 * 8),
        # A backend outranks the switch (parse_cuda_graph_config).
        (
            A100_40,
            ONE,
            {"disable_cuda_graph": True, "cuda_graph_backend_decode": "full"},
            512 + 4096 * 1.5 + 1024 / 8 + 32 * 2,
        ),
        # No prefill graphs in a pipeline, unless they are asked for (apply_cuda_graph_compatibility).
        (A100_40, Parallelism(pipeline=2), {}, 512 + 4096 * 1.5 + 2 * 1024 / 8 + 32 * 2),
        (
            A100_40,
            Parallelism(pipeline=2),
            {"cuda_graph_backend_prefill": "breakable"},
            512 + 4096 * 1.5 + 2 * 1024 / 8 + 32 * 2 + 50 * 8,
        ),
        # Above 60 GiB it is 10 GiB at least.
        (H100, ONE, {"chunked_prefill_size": 2048}, 10 * 1024),
        (A100_40, ONE, {"chunked_prefill_size": 2048}, 512 + 2048 * 1.5 + 1024 / 8 + 32 * 2 + 42 * 8),
        # DP attention: 3 for each request of a graph and group, and 1.5 more where the graph holds more than 300.
        (
            H200,
            Parallelism(tensor=8, attention_data=8),
            {},
            512 + 8192 * 1.5 + 8 * 1024 / 8 + 512 * 2 + 512 * 8 * (3 + 1.5) + 58 * 8,
        ),
        (
            H200,
            Parallelism(tensor=2, attention_data=2),
            {},
            512 + 8192 * 1.5 + 2 * 1024 / 8 + 256 * 2 + 256 * 2 * 3 + 58 * 8,
        ),
    ],
)
def test_the_default_fraction_of_0_5_23(
    gpu: int, parallelism: Parallelism, options: dict[str, Any], reserved: float
) -> None:
    expected = round((gpu - reserved) / gpu, 3)
    assert default_fraction(gpu * MIB, TEXT, parallelism, options, NEW) == expected
    assert default_fraction(gpu * MIB, TEXT, parallelism, options, "") == expected  # unknown: as the newest


@pytest.mark.parametrize("gpu", [H100, H200])
def test_latent_attention_reserves_one_amount_for_all_its_prefill_graphs(gpu: int) -> None:
    reserved = 512 + 8192 * 1.5 + 8 * 1024 / 8 + 512 * 2 + 1.5 * 1024
    assert default_fraction(gpu * MIB, LATENT, EIGHT, {}, NEW) == round((gpu - reserved) / gpu, 3)


@pytest.mark.parametrize(
    ("layers", "hidden", "share"),
    [
        (24, 1024, 0.95),  # a ViT-L/14 is the measure
        (24, 1280, 0.95 * (1 - 0.1 * (1280**2 / 1024**2 - 1))),  # Qwen2.5-VL, whose `depth` is not read
        (45, 3200, 0.95 * 0.8),  # InternViT-6B: never less than this
        (12, 768, 0.95 * 1.05),  # a ViT-B/16: never more
    ],
)
def test_the_larger_an_image_encoder_the_less_is_left_for_the_pool(layers: int, hidden: int, share: float) -> None:
    small = replace(VISION, vision_layers=layers, vision_hidden=hidden)
    standard = default_fraction(H100 * MIB, VISION, ONE, {}, NEW)
    assert default_fraction(H100 * MIB, small, ONE, {}, NEW) == pytest.approx(standard / 0.95 * share)


def test_a_multimodal_model_has_no_prefill_graphs_unless_its_architecture_is_known_to_bear_them() -> None:
    # disable_breakable_cudagraph_if_incompatible, "multimodal model"; 0.95 is adjust_mem_fraction_for_vlm of a ViT-L/14
    without = 512 + 8192 * 1.5 + 1024 / 8 + 256 * 2
    captured = without + 58 * 8
    known = replace(VISION, architecture="Qwen3_5ForConditionalGeneration")
    asked = {"cuda_graph_backend_prefill": "breakable"}
    for config, options, reserved in ((VISION, {}, without), (known, {}, captured), (VISION, asked, captured)):
        assert default_fraction(H100 * MIB, config, ONE, options, NEW) == round((H100 - reserved) / H100, 3) * 0.95


@given(
    gpu=st.integers(1, 2**19),
    tensor=st.sampled_from([1, 2, 8, 64]),
    pipeline=st.sampled_from([1, 4]),
    groups=st.sampled_from([1, 2, 8]),
    config=st.sampled_from([TEXT, LATENT, VISION]),
    version=st.sampled_from([OLD, NEW, "", "0.6.0", "garbage"]),
    options=st.dictionaries(
        st.sampled_from(["chunked_prefill_size", "max_running_requests", "max_total_tokens", "max_prefill_tokens"]),
        st.integers(-1, 10**6) | st.none() | st.text(max_size=3) | st.booleans(),
    ),
)
def test_a_default_fraction_is_one_whatever_the_gpu_and_the_options(
    gpu: int,
    tensor: int,
    pipeline: int,
    groups: int,
    config: ModelConfig,
    version: str,
    options: dict[str, Any],
) -> None:
    parallelism = Parallelism(tensor=tensor, pipeline=pipeline, attention_data=groups)
    assert 0 < default_fraction(gpu * MIB, config, parallelism, options, version) < 1


def sized(weights: int, options: dict[str, Any], parallelism: Parallelism = ONE, cost: KvCost | None = None) -> Any:
    total, available = 80 * GIB, 79 * GIB
    return size_pool(total, available, weights, cost or KvCost(163_840), TEXT, parallelism, options, NEW)


@pytest.mark.parametrize(("parallelism", "extra"), [(ONE, 0), (TWO, GIB), (Parallelism(pipeline=2), GIB)])
def test_the_pool_is_the_fraction_of_what_is_free_before_loading_less_the_weights(
    parallelism: Parallelism, extra: int
) -> None:
    overhead = 610 * MIB + extra  # of the CUDA context, and of NCCL where GPUs work together
    pool = sized(28 * GIB, {"mem_fraction_static": 0.85}, parallelism)
    assert (pool.overhead, CUDA_CONTEXT, COMMUNICATION) == (overhead, 610 * MIB, GIB)
    assert (pool.total, pool.available, pool.weights, pool.fraction) == (80 * GIB, 79 * GIB, 28 * GIB, 0.85)
    assert pool.kv == int((79 * GIB - overhead) * 0.85) - 28 * GIB
    assert (pool.tokens, pool.capped) == (pool.kv // 163_840, False)
    assert pool.needed == int(28 * GIB / 0.85) + overhead


@pytest.mark.parametrize("fraction", [None, "high", 0, -0.5, 1.5, float("nan"), 10**400, [0.8]])
def test_a_fraction_that_is_none_leaves_the_default(fraction: Any) -> None:
    default = default_fraction(80 * GIB, TEXT, ONE, {}, NEW)
    assert sized(0, {"mem_fraction_static": fraction}).fraction == default
    assert sized(0, {"mem_fraction_static": "0.7"}).fraction == 0.7


def test_weights_beyond_the_fraction_leave_no_token_and_say_how_much_is_missing() -> None:
    pool = sized(70 * GIB, {"mem_fraction_static": 0.5})
    assert (pool.tokens, pool.capped) == (0, False)
    assert pool.kv == int((79 * GIB - 610 * MIB) * 0.5) - 70 * GIB < 0
    assert pool.needed > pool.available


def test_a_windowed_pool_has_the_tokens_of_its_ratio() -> None:
    cost = KvCost(full=1000, window=1000)
    given_half = {"mem_fraction_static": 0.5, "swa_full_tokens_ratio": 0.5}
    kv = int((79 * GIB - 610 * MIB) * 0.5)
    assert sized(0, {"mem_fraction_static": 0.5}, cost=cost).tokens == int(kv / 1800)
    assert sized(0, given_half, cost=cost).tokens == int(kv / 1500)
    assert sized(0, given_half, cost=KvCost(0)).tokens == kv  # nothing is cached: no division by nothing


@given(more=st.integers(-3, 3) | st.integers(-(10**7), 10**7), weights=st.integers(0, 90 * GIB))
def test_max_total_tokens_caps_and_never_raises(more: int, weights: int) -> None:
    options: dict[str, Any] = {"mem_fraction_static": 0.85}
    fits = sized(weights, options).tokens
    wanted = max(1, fits + more)
    pool = sized(weights, {**options, "max_total_tokens": wanted})
    assert (pool.tokens, pool.capped) == (min(fits, wanted), wanted < fits)


def test_max_total_tokens_may_be_written_as_people_write_it() -> None:
    pool = sized(28 * GIB, {"mem_fraction_static": 0.85, "max_total_tokens": "128k"})
    assert (pool.tokens, pool.capped) == (128_000, True)


# resolve_max_num_reqs of SGLang 0.5.23's mem_cache/kv_cache_configurator.py; 0.4.9 has the same bounds
@pytest.mark.parametrize(
    ("tokens", "context", "groups", "wanted", "expected"),
    [
        (100_000, 100_000, 1, None, 2048),  # 512 for each request of full length, but 2048 at least
        (600_000, 100_000, 1, None, 3072),
        (10_000_000, 100_000, 1, None, 4096),  # and 4096 at most
        (1000, 100_000, 1, None, 500),  # two tokens each at least
        (1, 100_000, 1, None, 1),
        (100_000, 0, 1, None, 4096),
        (100_000, 4096, 1, 64, 64),
        (100_000, 4096, 8, 64, 8),  # the groups of DP attention share the number
        (100_000, 4096, 8, 4, 1),
        (100, 4096, 1, 64, 50),
        (10_000_000, 4096, 1, 9000, 9000),  # the bounds are of SGLang's own estimate
        (100_000, 4096, 1, "1k", 1000),
    ],
)
def test_running_requests_are_bounded_as_sglang_bounds_them(
    tokens: int, context: int, groups: int, wanted: Any, expected: int
) -> None:
    options = {} if wanted is None else {"max_running_requests": wanted}
    assert running_requests(tokens, context, Parallelism(tensor=8, attention_data=groups), options) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (8192, 8192),
        (-1, -1),
        ("8192", 8192),
        (" 8192 ", 8192),
        ("-1", -1),
        ("128k", 128_000),
        ("1.5k", 1500),
        ("1.001k", 1001),  # and not what 1.001 x 1000 is in floats
        ("2M", 2_000_000),
        ("1Ki", 1024),
        ("4Mi", 4 * 2**20),
        ("1G", 10**9),
        ("1Gi", 2**30),
        ("1T", 10**12),
        ("1Ti", 2**40),
        ("x", None),
        ("", None),
        ("k", None),
        ("1K", None),
        ("1e3", None),
        ("٣", None),
        ("9" * 5000, None),
        (True, None),
        (False, None),
        (1.5, None),
        (8192.0, None),
        (None, None),
        ([8192], None),
    ],
)
def test_a_whole_number_is_read_as_sglang_reads_it(value: Any, expected: int | None) -> None:
    assert whole_number(value) == expected
