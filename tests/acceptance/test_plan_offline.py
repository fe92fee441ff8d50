"""The team's own new command, written as a service and planned before there is a host: `deployer plan --offline`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.doubles.published_models import publish

# nohup env CUDA_VISIBLE_DEVICES=6,7 python -m sglang.launch_server --model-path … --host 0.0.0.0 --port 8001
#   --tensor-parallel-size 2 --tp-size 2 --max-running-requests 100 --max-total-tokens 8192 --enable-metrics
#   --log-requests --log-requests-level 1 > code2sql_sglang_8001.log 2>&1 &
# in place of
# nohup env CUDA_VISIBLE_DEVICES=7 API_PORT=8001 API_MODEL_NAME=code2sql … llamafactory.cli api --template qwen &
COMMAND: dict[str, Any] = {
    "name": "code2sql",
    "port": 8001,
    "model": {"source": "qwen3-14b-ft"},
    "gpus": [6, 7],
    "engine": "sglang",
    "environment": "sglang",
    "options": {
        "tensor-parallel-size": 2,
        "tp-size": 2,
        "max-running-requests": 100,
        "max-total-tokens": 8192,
        "enable-metrics": True,
        "log-requests": True,
        "log-requests-level": 1,
    },
    "predecessor": {
        "engine": "llamafactory",
        "environment": "llamafactory",
        "gpus": [7],
        "model": {"name": "code2sql", "source": "qwen3-14b-ft"},
        "options": {"template": "qwen"},
    },
}
ENVIRONMENTS = {"sglang": {"prefix": "/opt/conda/envs/sglang"}, "llamafactory": {"prefix": "/opt/conda/envs/lf"}}
MENDED = {
    "host": "10.0.0.5",
    "model": {"name": "code2sql", "source": "qwen3-14b-ft"},
    "options": {"tensor_parallel_size": 2, "max_running_requests": 100, "log_requests": True, "log_requests_level": 1},
    "findings": {"sampling-differs": "accepted"},
    "predecessor": {**COMMAND["predecessor"], "environment_variables": {"API_VERBOSE": "0"}},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the inventory lies, with the model beside it."""
    folder = tmp_path_factory.mktemp("fleet")
    publish(folder / "qwen3-14b-ft", "Qwen/Qwen3-14B")
    return folder


def plan(folder: Path, *words: str, supervisor: str = "process", **changes: Any) -> subprocess.CompletedProcess[str]:
    variables = {
        "inference_supervisor": supervisor,
        "inference_environments": ENVIRONMENTS,
        "inference_services": [{**COMMAND, **changes}],
    }
    group = {"hosts": {"gpu1.example.com": None}, "vars": variables}
    (folder / "hosts.yml").write_text(yaml.safe_dump({"all": {"children": {"gpu-nodes": group}}}))
    command = [sys.executable, "-m", "deployer", "plan", "-i", "hosts.yml", "--offline", *words]
    environment = {**os.environ, "COLUMNS": "80", "NO_COLOR": "1", "XDG_CACHE_HOME": str(folder / "cache")}
    return subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )


def test_the_faults_of_the_command_are_found_each_with_its_fix(folder: Path) -> None:
    done = plan(folder, "--gpu", "H100x8")
    assert done.returncode == 2, done.stderr
    lines = done.stdout.splitlines()
    for severity, identifier, fix in (
        ("error", "served-name-lost", "set model.name: code2sql"),
        ("warning", "kv-pool-shared", "remove max_total_tokens"),
        ("warning", "parallelism-repeated", "keep tensor_parallel_size and remove tp_size"),
        ("info", "predecessor-overlap", "a port and GPUs of its own"),
    ):
        at = next(number for number, line in enumerate(lines) if line.split()[:2] == [severity, identifier])
        assert fix in lines[at + 2]
    assert "the predecessor has port 8001 and GPU 7 too" in done.stdout
    assert "8,192 tokens of KV cache for 100 requests at once are 81 each" in done.stdout
    assert max(map(len, done.stdout.partition("error")[0].splitlines())) <= 80


def test_once_mended_the_plan_is_clean_and_says_what_would_run(folder: Path) -> None:
    done = plan(folder, "--gpu", "H100x8", "--json", supervisor="systemd", **MENDED)
    assert done.returncode == 0, done.stdout
    service, way_back = json.loads(done.stdout)["gpu1.example.com"]["services"]
    assert service["gpus"][0]["product"] == "H100"
    # In MiB: both ends, a layer's four matrices in segments of 2 MiB, norms, the rotary table.
    assert service["memory"]["weights"] == (2 * 742 + 40 * (36 + 26 + 170 + 86) + 2 + 20) * 2**20
    assert service["kv_bytes_per_token"] == 81_920
    assert service["kv_tokens"] > 500_000
    assert way_back["weight_bytes"] == 29_536_614_400


def test_what_does_not_fit_is_refused_with_what_would(folder: Path) -> None:
    options = {"tensor_parallel_size": 1}
    done = plan(folder, "--gpu", "L4x8", "--json", supervisor="systemd", **{**MENDED, "options": options, "gpus": [0]})
    assert done.returncode == 2
    findings = json.loads(done.stdout)["gpu1.example.com"]["findings"]
    found = {one["subject"]: one for one in findings if one["id"] == "does-not-fit"}
    assert found.keys() == {"inference_services[code2sql].gpus", "inference_services[code2sql].predecessor.gpus"}
    own = found["inference_services[code2sql].gpus"]
    assert "GiB are missing" in own["message"]
    assert own["fix"] == "tensor_parallel_size: 4 would do"


def test_an_unknown_gpu_is_named_with_the_nearest(folder: Path) -> None:
    done = plan(folder, "--gpu", "H10Ox8")
    assert done.returncode == 2
    assert "did you mean H100?" in done.stdout
