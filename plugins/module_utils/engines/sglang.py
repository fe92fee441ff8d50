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
)
