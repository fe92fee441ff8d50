"""Which tensors of a checkpoint are one tensor in SGLang."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.allocations import Allocation, allocations_of
from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import ModelFacts, part_of
from ansible_collections.deployer.sglang.plugins.module_utils.safetensors import Tensor
from tests.doubles.published_models import NAMES, TOTAL_SIZE


def allocated(*tensors: tuple[str, int], layers: int = 2) -> list[Allocation]:
    made = {name: Tensor("BF16", (columns, 8), 2 * 8 * columns) for name, columns in tensors}
    return list(allocations_of(made, lambda name, tensor: part_of(name, tensor, layers)))


def test_query_key_and_value_are_one_tensor_a_layer_and_gate_and_up_another() -> None:
    layers = [
        (f"model.layers.{number}.{name}.weight", columns)
        for number in (0, 1)
        for name, columns in {
            "mlp.gate_proj": 6,
            "mlp.up_proj": 6,
            "mlp.down_proj": 3,
            "self_attn.k_proj": 2,
            "self_attn.o_proj": 3,
            "self_attn.q_proj": 4,
            "self_attn.v_proj": 2,
        }.items()
    ]
    assert allocated(("model.embed_tokens.weight", 9), *layers) == [
        Allocation({"embedding": {"BF16": 16 * 9}}, 1),
        Allocation({"sharded": {"BF16": 16 * 12}}, 2),
        Allocation({"sharded": {"BF16": 16 * 3}}, 2),
        Allocation({"attention": {"BF16": 16 * 4}, "key_value": {"BF16": 16 * 4}}, 2),
        Allocation({"attention": {"BF16": 16 * 3}}, 2),
    ]


def test_the_experts_of_a_layer_are_two_tensors_and_their_scales_two_more() -> None:
    experts = [
        (f"model.layers.1.mlp.experts.{number}.{name}", columns)
        for number in range(4)
        for name, columns in (("gate_proj.weight", 4), ("up_proj.weight", 4), ("down_proj.weight", 3))
    ]
    mixtral = [
        (f"model.layers.0.block_sparse_moe.experts.{number}.w{one}.weight", 4) for number in (0, 1) for one in (1, 3)
    ]
    scale = ("model.layers.1.mlp.experts.0.gate_proj.weight_scale_inv", 1)
    sizes = [sum(one.parts["sharded"].values()) for one in allocated(*experts, scale, *mixtral)]
    assert sizes == [16 * 4 * 8, 16 * 4 * 3, 16, 16 * 4 * 4]


def test_layers_that_differ_and_draft_layers_are_counted_apart() -> None:
    names = [(f"model.layers.{number}.mlp.down_proj.weight", columns) for number, columns in enumerate((3, 5, 5, 5))]
    assert [(one.parts, one.count) for one in allocated(*names, layers=3)] == [
        ({"sharded": {"BF16": 48}}, 1),
        ({"sharded": {"BF16": 80}}, 2),
        ({"draft": {"BF16": 80}}, 1),
    ]


def test_names_that_number_layers_otherwise_tell_nothing() -> None:
    assert (
        len(allocated(*((f"model.layers.{number}.mlp.down_proj.weight", 3) for number in range(2000)), layers=2000))
        == 1
    )
    assert allocated(*((f"model.floor{number}.mlp.down_proj.weight", 3) for number in range(2000))) == []


@pytest.mark.parametrize("name", NAMES)
def test_no_byte_of_a_published_model_is_lost_or_counted_twice(
    published_facts: dict[str, ModelFacts], name: str
) -> None:
    facts = published_facts[name]
    found: dict[str, Counter[str]] = {}
    for one in facts.allocations:
        for part, dtypes in one.parts.items():
            found.setdefault(part, Counter()).update({dtype: size * one.count for dtype, size in dtypes.items()})
    assert found == facts.parts
    assert sum(math.fsum(dtypes.values()) for dtypes in found.values()) == TOTAL_SIZE[name]
    assert len(facts.allocations) < 100
