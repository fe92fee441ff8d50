"""The benchmark's model is one that the product accepts, and random."""

from __future__ import annotations

import json
import zlib
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.manifest import list_files
from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import read_model
from ansible_collections.deployer.sglang.plugins.module_utils.weights.models import check_source
from tests.benchmarks.weights.inputs import folder_size, write_checkpoint

SIZE = 24_000_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("bench") / "model", SIZE)


def test_it_is_a_complete_model(folder: Path) -> None:
    check_source(list_files(str(folder)), str(folder))
    facts = read_model(str(folder), list_files(str(folder)))
    assert not facts.problems
    assert facts.tokenizer
    assert facts.config.layers == json.loads((folder / "config.json").read_text())["num_hidden_layers"]


def test_it_has_the_size_asked_for_and_at_most_a_layer_more(folder: Path) -> None:
    assert SIZE <= folder_size(folder) < SIZE + 8_000_000


def test_its_shards_are_about_equal(folder: Path) -> None:
    sizes = [path.stat().st_size for path in folder.glob("*.safetensors")]
    assert len(sizes) == 4
    assert max(sizes) < 1.5 * min(sizes)


def test_nothing_on_the_way_can_compress_it(folder: Path) -> None:
    for shard in folder.glob("*.safetensors"):
        content = shard.read_bytes()
        assert len(zlib.compress(content)) > 0.99 * len(content)
