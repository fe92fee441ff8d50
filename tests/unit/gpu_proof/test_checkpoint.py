"""Checkpoints of published shapes: as many parameters as published, in files of a bounded size."""

from __future__ import annotations

import math
import string

import pytest

from demo import make_tiny_model
from tests.gpu_proof.checkpoint import SHAPES, configuration, letter_tokens, shards, tensors


@pytest.mark.parametrize(
    ("shape", "parameters"),
    [
        # Of the published checkpoints: half of `total_size` in their index, two bytes a parameter.
        ("qwen3-0.6b", 596_049_920),
        ("qwen3-8b", 8_190_735_360),
        ("qwen3-14b", 14_768_307_200),
    ],
)
def test_a_shape_has_the_published_number_of_parameters(shape: str, parameters: int) -> None:
    assert sum(math.prod(dimensions) for _, dimensions in tensors(SHAPES[shape])) == parameters


@pytest.mark.parametrize("shape", SHAPES)
def test_the_configuration_has_the_shape(shape: str) -> None:
    config = configuration(SHAPES[shape])
    found = dict(tensors(SHAPES[shape]))
    last = f"model.layers.{config['num_hidden_layers'] - 1}"
    assert found[f"{last}.self_attn.q_proj.weight"] == (
        config["num_attention_heads"] * config["head_dim"],
        config["hidden_size"],
    )
    assert found[f"{last}.mlp.down_proj.weight"] == (config["hidden_size"], config["intermediate_size"])
    assert f"model.layers.{config['num_hidden_layers']}.mlp.down_proj.weight" not in found
    assert ("lm_head.weight" in found) == (not config["tie_word_embeddings"])


def test_files_hold_every_tensor_once_and_are_no_larger_than_asked() -> None:
    wanted = [("a", (10,)), ("b", (20,)), ("c", (5,)), ("d", (5, 10)), ("e", (1,))]
    files = shards(wanted, most=60)
    assert files == [["a", "b"], ["c"], ["d"], ["e"]]
    assert [name for names in files for name in names] == [name for name, _ in wanted]


def test_letters_are_the_tokens_of_letters() -> None:
    vocabulary = {number: text for text, number in make_tiny_model.tokenizer()["model"]["vocab"].items()}
    assert "".join(vocabulary[number] for number in letter_tokens()) == string.ascii_letters
