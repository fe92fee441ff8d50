"""LLaMA-Factory's OpenAI-style API server."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.engines.base import Endpoint, Engine, option_values
from ansible_collections.deployer.sglang.plugins.module_utils.engines.llamafactory_options import (
    SOURCES,
    read_options,
    read_template_defaults,
)

# LLaMA-Factory's own argument classes, as `llamafactory.hparams.parser.get_infer_args` uses them; nothing is loaded.
OPTION_CHECK = """
import sys
from llamafactory.hparams import parser as hparams
from transformers import HfArgumentParser
*_, unknown = HfArgumentParser(hparams._INFER_ARGS).parse_args_into_dataclasses(
    args=sys.argv[1:], return_remaining_strings=True)
if unknown:
    sys.exit("unrecognized arguments: " + " ".join(unknown))
"""


def command(endpoint: Endpoint, options: Mapping[str, Any]) -> list[str]:
    """`-m llamafactory.cli api`; booleans are words there (`--flag true`), and names keep their underscores."""
    words = ["-m", "llamafactory.cli", "api", "--model_name_or_path", endpoint.model_path]
    for name, value in options.items():
        words += [f"--{name}", *(option_values(str(value).lower() if isinstance(value, bool) else value))]
    return words


def variables(endpoint: Endpoint) -> dict[str, str]:
    """Address and served name are environment variables in LLaMA-Factory."""
    return {
        "API_HOST": endpoint.host,
        "API_PORT": str(endpoint.port),
        "API_MODEL_NAME": endpoint.served_name,
    }


ENGINE = Engine(
    name="llamafactory",
    package="llamafactory",
    reserved={"model_name_or_path": "model.source"},
    command=command,
    variables=variables,
    # It has no /health; the list of models answers once the model is loaded.
    readiness="/v1/models",
    option_check=OPTION_CHECK,
    sources=SOURCES,
    read_options=read_options,
    read_templates=read_template_defaults,
    imports=("torch", "transformers", "llamafactory.hparams"),
    # transformers 4 loads shard by shard, 5 weight by weight; both draw bars of tqdm.
    progress=(
        r"loading (?:configuration|weights) file",
        r"Loading (?:checkpoint shards|weights):",
        r"KV cache is enabled",
        r"all params:",
        r"Application startup complete|Uvicorn running on",
    ),
)
