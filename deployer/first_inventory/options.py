"""What of a found command line is said to SGLang in an inventory; pure functions."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.engines import engine_named
from ansible_collections.deployer.sglang.plugins.module_utils.service_description import OPTION, SECRET

# vLLM's options that mean the same to SGLang, by SGLang's names.
OF_VLLM = {
    "tensor_parallel_size": "tensor_parallel_size",
    "pipeline_parallel_size": "pipeline_parallel_size",
    "max_model_len": "context_length",
    "max_num_seqs": "max_running_requests",
    "dtype": "dtype",
    "trust_remote_code": "trust_remote_code",
    "enable_lora": "enable_lora",
}
TEMPLATE = re.compile(r"\{[{%#]")  # what Ansible would fill in, or run
LONGEST = 1000  # characters of a value
_WHOLE = re.compile(r"-?(0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?[0-9]{1,17}\.[0-9]{1,17}")


@dataclass(frozen=True)
class Taken:
    """Options as an inventory has them, and the names of those that were left out: they cannot be written there."""

    options: Mapping[str, Any] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()


def sglang_options(engine: str, given: Mapping[str, Sequence[str]]) -> Taken:
    """What is said to SGLang of another's or its own options.

    Args:
        engine: whose they are.
        given: option in snake_case -> its words.
    """
    if engine == "sglang":
        own = engine_named("sglang")
        return _taken({name: words for name, words in own.canonical(given).items() if name not in own.reserved})
    if engine == "vllm":
        return _taken({OF_VLLM[name]: words for name, words in given.items() if name in OF_VLLM})
    return Taken()


def llamafactory_options(given: Mapping[str, Sequence[str]]) -> Taken:
    """The options of LLaMA-Factory, for a predecessor."""
    return _taken({name: words for name, words in given.items() if name not in engine_named("llamafactory").reserved})


def is_plain(text: str) -> bool:
    """Whether a text of a host can stand in an inventory: printable, and no template that Ansible would run."""
    return text.isprintable() and TEMPLATE.search(text) is None and len(text) <= LONGEST


def _taken(given: Mapping[str, Sequence[str]]) -> Taken:
    options: dict[str, Any] = {}
    left_out = []
    for name, words in given.items():
        if not OPTION.fullmatch(name) or SECRET.search(name) or not all(map(is_plain, words)):
            left_out.append(name)
        else:
            options[name] = _value(words)
    return Taken(options, tuple(left_out))


def _value(words: Sequence[str]) -> Any:
    if not words:
        return True
    values = [_scalar(word) for word in words]
    return values[0] if len(values) == 1 else values


def _scalar(word: str) -> Any:
    if _WHOLE.fullmatch(word):
        return int(word)
    return float(word) if _DECIMAL.fullmatch(word) else word
