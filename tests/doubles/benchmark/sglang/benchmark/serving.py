"""A test double of sglang.benchmark.serving (0.5.23): asks nobody, and does what the model's name says.

`warm-up-fails` at all rates but the first; `dies`; `tells` in the error of each request which variables it was given.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from typing import Any

OPTIONS = (
    "--backend", "--base-url", "--model", "--served-model-name", "--tokenizer", "--dataset-name", "--dataset-path",
    "--num-prompts", "--sharegpt-output-len", "--request-rate", "--seed", "--extra-request-body", "--output-file",
    "--ready-check-timeout-sec", "--warmup-requests",
)  # fmt: skip
FLAGS = ("--output-details", "--disable-tqdm", "--disable-ignore-eos")


class Tokenizer:
    """Counts words."""

    def encode(self, text: str, add_special_tokens: bool = True) -> list[str]:
        return text.split() + ["<s>"] * add_special_tokens


def get_tokenizer(path: str) -> Tokenizer:
    return Tokenizer()


def remove_prefix(text: str, prefix: str) -> str:
    return text.removeprefix(prefix)


def _create_bench_client_session() -> Any:
    raise AssertionError("the load has a session of its own")


def cli_main() -> None:
    parser = argparse.ArgumentParser()
    for option in OPTIONS:
        parser.add_argument(option, required=True)
    for flag in FLAGS:
        parser.add_argument(flag, action="store_true", required=True)
    given = parser.parse_args()
    print("the benchmark prints much")
    name = given.served_model_name
    if name == "warm-up-fails" and given.request_rate != "1.0":
        raise ValueError("Warmup failed")
    if name == "dies":
        print("out of memory", file=sys.stderr)
        os._exit(9)
    with open(given.dataset_path, encoding="utf-8") as stream:
        prompts = [json.loads(line)["messages"] for line in stream]
    errors = [*[""] * (len(prompts) - 1), "Traceback\n  File\nTimeoutError"]
    result = {
        "duration": 2.0,
        "ttfts": [0.1] * len(prompts),
        "itls": [[0.2, 0.3]] * len(prompts),
        "generated_texts": ["select 1"] * len(prompts),
        "errors": [" ".join(sorted(os.environ))] * len(prompts) if name == "tells" else errors,
    }
    with open(given.output_file, "a", encoding="utf-8") as stream:
        stream.write(json.dumps(result) + "\n")
