"""Whether a model can be split as asked, and whether its folder is whole."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.model_config import Latent, ModelConfig
from ansible_collections.deployer.sglang.plugins.module_utils.plan.model import (
    context_findings,
    folder_findings,
    split_findings,
)
from ansible_collections.deployer.sglang.plugins.module_utils.plan.parallelism import Parallelism
from tests.doubles.hosts import MODEL, described, model

QWEN3 = model().config
VISION = model("Qwen/Qwen2.5-VL-7B-Instruct").config
MOE = model("Qwen/Qwen3-30B-A3B").config
LATENT = dataclasses.replace(MOE, heads=128, kv_heads=128, latent=Latent(512, 64), intermediate=18432)
BLOCKS = dataclasses.replace(MOE, quantization="fp8", quantization_block=128)
SPLIT = "x.options.tensor_parallel_size"


def split(config: ModelConfig, options: Any = None, **degrees: int) -> dict[str, str]:
    findings = list(split_findings("x", config, Parallelism(**degrees), options or {}))
    assert all(one.subject in (SPLIT, "x.options.expert_parallel_size") for one in findings)
    return {one.id: f"{one.message}: {one.fix}" for one in findings}


@pytest.mark.parametrize(
    ("config", "degrees", "expected"),
    [
        (QWEN3, {"tensor": 8}, {}),
        (QWEN3, {"tensor": 1}, {}),
        (QWEN3, {"tensor": 3}, {"heads": "40 attention heads over 3 GPUs: take one of 1, 2, 4, 8"}),
        (
            QWEN3,
            {"tensor": 5},
            {"kv-heads": "8 KV heads over 5 GPUs: neither divides the other: take one of 1, 2, 4, 8"},
        ),
        (
            QWEN3,
            {"tensor": 6, "attention_data": 3},
            {"vocabulary": "a vocabulary of 151936 over 6 GPUs: none suits"},
        ),
        (dataclasses.replace(QWEN3, heads=48), {"tensor": 16}, {}),
        (VISION, {"tensor": 4}, {}),
        (VISION, {"tensor": 7}, {"vision-heads": "16 heads of the vision part over 7 GPUs: take one of 1, 2, 4"}),
        (MOE, {"tensor": 4, "expert": 4}, {}),
        (MOE, {"tensor": 6, "expert": 3}, {"experts": "128 experts over 3 groups: take one of 1, 2, 4, 8, 16"}),
        (
            BLOCKS,
            {"tensor": 4},
            {"width": "experts of width 768 over 4 GPUs, in blocks of 128: take one of 1, 2"},
        ),
        (BLOCKS, {"tensor": 4, "expert": 2}, {}),
        (LATENT, {"tensor": 8}, {}),
        (
            dataclasses.replace(QWEN3, intermediate=17410),
            {"tensor": 4},
            {"width": "feed-forward layers of width 17410"},
        ),
    ],
)
def test_dimensions_that_the_gpus_cannot_share_are_named_with_what_would(
    config: ModelConfig, degrees: dict[str, int], expected: dict[str, str]
) -> None:
    found = split(config, **degrees)
    assert {f"{name}-not-divisible" for name in expected} <= set(found)
    assert bool(expected) == bool(found)
    for name, text in expected.items():
        assert text in found[f"{name}-not-divisible"]


def test_the_vision_part_may_be_replicated_instead() -> None:
    assert "mm_enable_dp_encoder: true" in split(VISION, tensor=7)["vision-heads-not-divisible"]
    assert "vision-heads-not-divisible" not in split(VISION, {"mm_enable_dp_encoder": True}, tensor=7)


@pytest.mark.parametrize("config", [QWEN3, VISION, MOE, BLOCKS, LATENT])
@pytest.mark.parametrize("tensor", range(1, 17))
def test_what_a_fix_offers_is_free_of_that_finding(config: ModelConfig, tensor: int) -> None:
    for identifier, text in split(config, tensor=tensor).items():
        offered = re.findall(r"\d+", text.partition("take one of ")[2].partition(", or")[0])
        assert offered
        for number in map(int, offered):
            assert identifier not in split(config, tensor=number)


@pytest.mark.parametrize(
    ("options", "variables", "found"),
    [
        ({}, {}, False),
        ({"context_length": 40960}, {}, False),
        ({"context_length": 40961}, {}, True),
        ({"context_length": "128k"}, {}, True),
        ({"context_length": 131072}, {"SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN": 1}, False),
        ({"context_length": 131072}, {"SGLANG_ALLOW_OVERWRITE_LONGER_CONTEXT_LEN": "0"}, True),
        ({"context_length": 131072, "json_model_override_args": '{"rope_scaling": {}}'}, {}, False),
        ({"context_length": "long"}, {}, False),
        ({"context_length": [131072]}, {}, False),
    ],
)
def test_a_context_is_no_longer_than_the_models(
    options: dict[str, Any], variables: dict[str, Any], found: bool
) -> None:
    service = described({"options": {"tp": 2, **options}, "environment_variables": variables})[0]
    findings = list(context_findings("x", QWEN3, service))
    assert [one.id for one in findings] == ["context-too-long"] * found
    assert all("at most 40960" in one.fix and one.subject == "x.options.context_length" for one in findings)


def test_a_folder_is_whole_and_runs_no_code() -> None:
    assert list(folder_findings("x", model(), {})) == []
    shard = f"{MODEL}/model-00002-of-00006.safetensors"
    problems = ((shard, "is missing", "copy it"), (shard, f"{shard} is truncated", "copy it again"))
    pickles = tuple(f"pytorch_model-{number}.bin" for number in range(4))
    found = list(folder_findings("x", dataclasses.replace(model(), problems=problems, pickles=pickles), {}))
    assert [(one.id, one.subject) for one in found] == [
        ("weights-incomplete", shard),
        ("weights-incomplete", shard),
        ("weights-pickle", "x.model.source"),
    ]
    assert [one.message for one in found[:2]] == ["is missing", "is truncated"]
    assert found[2].message.endswith("pytorch_model-0.bin, pytorch_model-1.bin, pytorch_model-2.bin …")
