"""The doubles of published checkpoints say what the published headers say, and cost no disk."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import jinja2
import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.weights.models import check_source
from tests.doubles.published_models import BYTES, NAMES, TOTAL_SIZE

DEEPSEEK = "deepseek-ai/DeepSeek-V3"

# huggingface.co's page of each model, and for DeepSeek-V3 its number of parameters with scales and layer 61.
PARAMETERS = {
    "Qwen/Qwen3-14B": 14_768_307_200,
    "Qwen/Qwen3-30B-A3B": 30_532_122_624,
    "meta-llama/Llama-3.1-70B-Instruct": 70_553_706_496,
    "mistralai/Mixtral-8x7B-Instruct-v0.1": 46_702_792_704,
    "Qwen/Qwen2.5-VL-7B-Instruct": 8_292_166_656,
    DEEPSEEK: 684_531_386_000,
}

# Entries of each published weight_map.
TENSORS = {
    "Qwen/Qwen3-14B": 40 * 11 + 3,
    "Qwen/Qwen3-30B-A3B": 48 * (9 + 128 * 3) + 3,
    "meta-llama/Llama-3.1-70B-Instruct": 80 * 9 + 3,
    "mistralai/Mixtral-8x7B-Instruct-v0.1": 32 * (7 + 8 * 3) + 3,
    "Qwen/Qwen2.5-VL-7B-Instruct": 28 * 12 + 3 + 32 * 12 + 6,
    DEEPSEEK: 91_991,
}

Header = dict[str, dict[str, Any]]


def read_header(path: Path) -> tuple[int, Header]:
    """Length of the header in bytes, and the tensors in it."""
    with path.open("rb") as stream:
        (length,) = struct.unpack("<Q", stream.read(8))
        header = json.loads(stream.read(length))
    assert header.pop("__metadata__") == {"format": "pt"}
    return length, header


def read_tensors(folder: Path) -> Header:
    return {
        name: entry for path in sorted(folder.glob("*.safetensors")) for name, entry in read_header(path)[1].items()
    }


@pytest.mark.parametrize("name", NAMES)
def test_the_headers_add_up_to_the_published_total(published: dict[str, Path], name: str) -> None:
    tensors = read_tensors(published[name])
    assert len(tensors) == TENSORS[name]
    assert sum(math.prod(entry["shape"]) for entry in tensors.values()) == PARAMETERS[name]
    assert sum(end - start for start, end in (entry["data_offsets"] for entry in tensors.values())) == TOTAL_SIZE[name]


@pytest.mark.parametrize("name", NAMES)
def test_the_files_are_valid_safetensors(published: dict[str, Path], name: str) -> None:
    for path in published[name].glob("*.safetensors"):
        length, header = read_header(path)
        end = 0
        for entry in header.values():
            assert entry["data_offsets"][0] == end
            end += BYTES[entry["dtype"]] * math.prod(entry["shape"])
            assert entry["data_offsets"][1] == end
        assert length % 8 == 0
        assert path.stat().st_size == 8 + length + end


@pytest.mark.parametrize("name", NAMES)
def test_the_index_names_the_shard_of_each_tensor(published: dict[str, Path], name: str) -> None:
    index = json.loads((published[name] / "model.safetensors.index.json").read_text())
    shards = {path.name: read_header(path)[1] for path in published[name].glob("*.safetensors")}
    assert index["metadata"]["total_size"] == TOTAL_SIZE[name]
    assert index["weight_map"] == {tensor: shard for shard, header in shards.items() for tensor in header}
    assert len(shards) > 1


@pytest.mark.parametrize("name", NAMES)
def test_a_deployment_accepts_the_folder(published: dict[str, Path], name: str) -> None:
    files = {path.name: str(path) for path in published[name].iterdir()}
    check_source(files, str(published[name]))


def test_all_together_cost_less_than_50_megabytes(published: dict[str, Path]) -> None:
    stats = [path.stat() for folder in published.values() for path in folder.iterdir()]
    assert sum(stat.st_size for stat in stats) > sum(TOTAL_SIZE.values())
    assert sum(stat.st_blocks * 512 for stat in stats) < 50_000_000


def test_deepseek_has_the_published_parameters_of_each_dtype(published: dict[str, Path]) -> None:
    tensors = read_tensors(published[DEEPSEEK])
    by_dtype: Counter[str] = Counter()
    for entry in tensors.values():
        by_dtype[entry["dtype"]] += math.prod(entry["shape"])
    assert by_dtype == {"F8_E4M3": 680_571_043_840, "BF16": 3_918_786_560, "F32": 41_555_600}
    main_model = [
        math.prod(entry["shape"])
        for name, entry in tensors.items()
        if not name.startswith("model.layers.61.") and not name.endswith("_scale_inv")
    ]
    assert sum(main_model) == 671_026_419_200


# Shapes as the published headers have them, one for each rule that made them.
@pytest.mark.parametrize(
    ("name", "tensor", "dtype", "shape"),
    [
        ("Qwen/Qwen3-14B", "model.layers.39.self_attn.k_proj.weight", "BF16", [1024, 5120]),
        ("Qwen/Qwen3-30B-A3B", "model.layers.0.mlp.experts.127.down_proj.weight", "BF16", [2048, 768]),
        ("Qwen/Qwen3-30B-A3B", "model.layers.0.self_attn.q_proj.weight", "BF16", [4096, 2048]),
        ("meta-llama/Llama-3.1-70B-Instruct", "lm_head.weight", "BF16", [128256, 8192]),
        (
            "mistralai/Mixtral-8x7B-Instruct-v0.1",
            "model.layers.0.block_sparse_moe.experts.7.w2.weight",
            "BF16",
            [4096, 14336],
        ),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "visual.patch_embed.proj.weight", "BF16", [1280, 3, 2, 14, 14]),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "visual.merger.mlp.2.bias", "BF16", [3584]),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "model.layers.27.self_attn.v_proj.bias", "BF16", [512]),
        (DEEPSEEK, "model.layers.0.self_attn.kv_a_proj_with_mqa.weight", "F8_E4M3", [576, 7168]),
        (DEEPSEEK, "model.layers.0.self_attn.kv_a_proj_with_mqa.weight_scale_inv", "F32", [5, 56]),
        (DEEPSEEK, "model.layers.2.mlp.down_proj.weight_scale_inv", "F32", [56, 144]),
        (DEEPSEEK, "model.layers.3.mlp.gate.e_score_correction_bias", "F32", [256]),
        (DEEPSEEK, "model.layers.61.eh_proj.weight", "BF16", [7168, 14336]),
    ],
)
def test_a_tensor_has_its_published_shape(
    published: dict[str, Path], name: str, tensor: str, dtype: str, shape: list[int]
) -> None:
    entry = read_tensors(published[name])[tensor]
    assert (entry["dtype"], entry["shape"]) == (dtype, shape)


@pytest.mark.parametrize("name", NAMES)
def test_the_chat_template_renders(published: dict[str, Path], name: str) -> None:
    tokenizer = json.loads((published[name] / "tokenizer_config.json").read_text())
    tokens = {key: tokenizer[key] for key in ("bos_token", "eos_token")}
    prompt = jinja2.Template(tokenizer["chat_template"]).render(
        messages=[{"role": "user", "content": "Where is Ghent?"}], add_generation_prompt=True, **tokens
    )
    assert "Where is Ghent?" in prompt
