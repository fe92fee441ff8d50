"""The plan's figures beside those of servers that ran on an H200 (tests/recordings/sglang)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import list_files
from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import read_model
from ansible_collections.deployer.sglang.plugins.module_utils.plan.memory import loaded_bytes
from ansible_collections.deployer.sglang.plugins.module_utils.plan.parallelism import Parallelism
from tests.doubles.published_models import Tensor, write_hollow
from tests.gpu_proof.checkpoint import SHAPES, configuration, tensors
from tests.gpu_proof.figures import LIMIT, Figure, compare
from tests.gpu_proof.start_log import GB, read_start_log

RECORDINGS = Path(__file__).parents[2] / "recordings" / "sglang"
STEM = "h200-0.5.15.post1"


def recorded(model: str) -> tuple[str, dict[str, Any]]:
    """The start log, and what plan, server and nvidia-smi said."""
    known: dict[str, Any] = json.loads((RECORDINGS / f"{STEM}.json").read_text())[model]
    return (RECORDINGS / f"{STEM}-{model}.log").read_text(), known


def figures(model: str) -> dict[str, Figure]:
    log, known = recorded(model)
    server = known["server"]
    info = {**server, "internal_states": [{"memory_usage": server["memory_usage"]}]}
    return {one.name: one for one in compare(known["plan"], read_start_log(log), info, known["used"])}


@pytest.mark.parametrize(
    ("model", "weights", "tokens", "graphs"),
    [("qwen3-0.6b", 1.18, 1_165_023, 1.0), ("qwen3-14b", 27.53, 642_870, 2.17)],
)
def test_reads_a_start_log(model: str, weights: float, tokens: int, graphs: float) -> None:
    log = read_start_log(recorded(model)[0])
    assert (log.tokens, log.requests) == (tokens, 4096)
    assert log.weights == int(weights * GB)
    assert log.before == int(139.13 * GB)
    assert log.graphs == pytest.approx(graphs * GB, abs=2)


def test_the_group_is_as_its_fullest_gpu() -> None:
    log, _ = recorded("qwen3-14b")
    more = log.replace("avail mem=139.13 GB", "avail mem=138.00 GB").replace("mem usage=27.53 GB", "mem usage=28.00 GB")
    both = read_start_log(log + more)
    one = read_start_log(log)
    assert (both.before, both.weights) == (138 * GB, 28 * GB)
    assert (both.kv, both.tokens) == (one.kv, one.tokens)
    assert both.graphs == pytest.approx(one.graphs, abs=2)


def test_a_release_that_failed_has_no_figures() -> None:
    with pytest.raises(DeployError, match="Load weight end"):
        read_start_log((RECORDINGS / f"{STEM}-broken.log").read_text())


@pytest.mark.parametrize("model", ["qwen3-0.6b", "qwen3-14b"])
def test_what_was_planned_was_near_what_was_measured(model: str) -> None:
    found = figures(model)
    assert {name for name, one in found.items() if not one.within} == set()
    assert found["KV cache"].difference == pytest.approx(0.0008, abs=0.0005)


@pytest.mark.parametrize(("model", "beyond"), [("qwen3-0.6b", 0.01), ("qwen3-14b", 0.0005)])
def test_what_loading_the_weights_took_is_what_is_planned(model: str, beyond: float, tmp_path: Path) -> None:
    shape = SHAPES[model]
    (tmp_path / "config.json").write_text(json.dumps(configuration(shape)))
    write_hollow(tmp_path / "model.safetensors", {name: Tensor("BF16", size) for name, size in tensors(shape)})
    planned = loaded_bytes(read_model(str(tmp_path), list_files(str(tmp_path))), Parallelism(), {})
    measured = read_start_log(recorded(model)[0]).weights
    assert abs(planned / measured - 1) < beyond


@pytest.mark.parametrize(
    ("planned", "measured", "within"),
    [(102.9, 100, True), (97.1, 100, True), (104, 100, False), (96, 100, False), (1, 0, False)],
)
def test_a_figure_is_near_within_three_percent(planned: float, measured: float, within: bool) -> None:
    figure = Figure("x", "bytes", planned, measured, "nowhere")
    assert LIMIT == 0.03
    assert figure.within is within
    assert json.loads(json.dumps(figure.as_dict(), allow_nan=False))["within"] is within
