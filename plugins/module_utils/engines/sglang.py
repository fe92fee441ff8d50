"""SGLang's OpenAI-compatible server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.engines.base import Endpoint, Engine, option_values
from ansible_collections.deployer.sglang.plugins.module_utils.engines.sglang_options import SOURCES, read_options

# SGLang's own parser: it exits 2 and names the argument on stderr. Nothing is loaded, no GPU is touched.
OPTION_CHECK = """
import argparse, sys
from sglang.srt.server_args import ServerArgs
parser = argparse.ArgumentParser(prog="sglang.launch_server", allow_abbrev=False)
ServerArgs.add_cli_args(parser)
parser.parse_args(sys.argv[1:])
"""

# The long names are in every version; argparse would take --tp and --dp for abbreviations of them.
ALIASES = {
    "tp": "tensor_parallel_size",
    "tp_size": "tensor_parallel_size",
    "pp": "pipeline_parallel_size",
    "pp_size": "pipeline_parallel_size",
    "dp": "data_parallel_size",
    "dp_size": "data_parallel_size",
    "ep": "expert_parallel_size",
    "ep_size": "expert_parallel_size",
    "attn_dp_size": "attention_data_parallel_size",
    "attn_cp_size": "attention_context_parallel_size",
    "dcp_size": "decode_context_parallel_size",
    "moe_dp_size": "moe_data_parallel_size",
    "nccl_init_addr": "dist_init_addr",
    "speculative_draft_model": "speculative_draft_model_path",
}

# What 0.5.23 and 0.4.9 log on their way: bars of tqdm, one line a shard, and marks around each step. Under systemd a
# bar that is drawn over itself (CUDA graphs, DeepGEMM) arrives when it is full: the marks have to do until then.
PROGRESS = (
    r"Init torch distributed (?:begin|end)",
    r"Load weight (?:begin|end)",
    r"Loading .*checkpoint shards",
    r"Loading safetensors using",
    r"Multi-thread loading",
    r"KV Cache is allocated|Memory pool (?:begin|end)",
    r"Capture .*\b(?:begin|end)\b",
    r"Capturing (?:batches|num tokens)|Compiling num tokens",
    r"DeepGEMM (?:warmup|JIT)",
    r"max_total_num_tokens=",
    r"Application startup complete|Uvicorn running on",
)


def command(endpoint: Endpoint, options: Mapping[str, Any]) -> list[str]:
    """`-m sglang.launch_server` (in every version; `sglang serve` exists since 0.5.9) with one flag an option."""
    words = [
        "-m",
        "sglang.launch_server",
        "--model-path",
        endpoint.model_path,
        "--served-model-name",
        endpoint.served_name,
        "--host",
        endpoint.host,
        "--port",
        str(endpoint.port),
    ]
    for name, value in ENGINE.canonical(options).items():
        flag = "--" + name.replace("_", "-")
        # Templated values reach us as text before ansible-core 2.19.
        if str(value).lower() == "true":
            words.append(flag)
        elif str(value).lower() != "false":
            words += [flag, *option_values(value)]
    return words


def variables(endpoint: Endpoint) -> dict[str, str]:
    """SGLang needs nothing beyond what every release gets."""
    return {}


def read_load(answer: Any) -> int | None:
    """How many requests run or wait.

    `/v1/loads` (0.5.23, entrypoints/v1_loads.py) has one entry a data parallel rank, with what queues elsewhere beside
    it. `/get_load` of 0.5 has `num_reqs`, waiting ones included, a rank; that of 0.4.9 has one number of tokens, of
    which only zero says how many requests there are: more is counted as one.
    """
    if isinstance(answer, Mapping) and "load" in answer:
        return min(1, max(0, _count(answer, "load")))
    loads = answer.get("loads") if isinstance(answer, Mapping) else answer
    if not isinstance(loads, list) or not loads or not all(isinstance(load, Mapping) for load in loads):
        return None
    total = 0
    for load in loads:
        if "num_running_reqs" in load:
            total += _count(load, "num_running_reqs") + _count(load, "num_waiting_reqs")
            queues = load.get("queues")
            if isinstance(queues, Mapping):
                total += sum(_count(queues, name) for name in ("grammar", "paused", "retracted"))
        elif "num_reqs" in load:
            total += _count(load, "num_reqs")
        else:
            return None
    return total


def _count(entry: Mapping[str, Any], key: str) -> int:
    value = entry.get(key)
    return value if isinstance(value, int) else 0


ENGINE = Engine(
    name="sglang",
    package="sglang",
    reserved={
        "model_path": "model.source",
        "model": "model.source",
        "served_model_name": "model.name",
        "host": "host",
        "port": "port",
        # The process sees its own GPUs alone, counted from 0.
        "base_gpu_id": "gpus",
        "gpu_id_step": "gpus",
    },
    command=command,
    variables=variables,
    readiness="/health",
    option_check=OPTION_CHECK,
    sources=SOURCES,
    read_options=read_options,
    aliases=ALIASES,
    imports=("torch", "transformers", "sglang.srt.server_args"),
    check_module="sglang.check_env",
    progress=PROGRESS,
    load_paths=("/v1/loads", "/get_load"),
    read_load=read_load,
    # Of August 2025 (sglang PR 8795): later than 0.4.9, seen in 0.5.23. Versions between may have it before this one.
    identity_option="--weight-version",
    identity_since="0.5.3",
    identity_paths=("/model_info", "/get_model_info"),
    identity_key="weight_version",
)
