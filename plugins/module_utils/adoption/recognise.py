"""Tells from a command line and its environment which engine a process is, and what it serves; pure functions."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from ansible_collections.deployer.sglang.plugins.module_utils.engines import UNKNOWN

MODULES = {
    "llamafactory.cli": "llamafactory",
    "sglang.launch_server": "sglang",
    "sglang.cli.main": "sglang",
    "vllm.entrypoints.openai.api_server": "vllm",
    "vllm.entrypoints.cli.main": "vllm",
}
# A command of these has to be followed by the word: `vllm bench` serves nothing.
COMMANDS = {
    "llamafactory-cli": ("llamafactory", "api"),
    "lmf": ("llamafactory", "api"),
    "llamafactory.cli": ("llamafactory", "api"),
    "sglang": ("sglang", "serve"),
    "sglang.cli.main": ("sglang", "serve"),
    "vllm": ("vllm", "serve"),
    "vllm.entrypoints.cli.main": ("vllm", "serve"),
}
# A file that is run by its path, as in a checkout: the end of the path.
FILES = {
    "sglang/launch_server.py": "sglang",
    "vllm/entrypoints/openai/api_server.py": "vllm",
    "llamafactory/cli.py": "llamafactory",
    "src/api.py": "llamafactory",
}
# What setproctitle makes of the processes: `sglang::scheduler_TP0`, `VLLM::EngineCore`.
TITLE = re.compile(r"(?P<engine>sglang|vllm)::[\w:]", re.IGNORECASE)
MODEL = {
    "llamafactory": ("model_name_or_path",),
    "sglang": ("model_path", "model"),
    "vllm": ("model", "model_tag"),
}
POSITIONAL_MODEL = ("sglang", "vllm")  # `vllm serve MODEL`
NAME = "served_model_name"
# The engines' own defaults, for what is not given.
HOST = {"llamafactory": "0.0.0.0", "sglang": "127.0.0.1", "vllm": "0.0.0.0"}
SUMMARY = (
    "tensor_parallel_size",
    "tp_size",
    "tp",
    "pipeline_parallel_size",
    "data_parallel_size",
    "dp_size",
    "template",
)


@dataclass(frozen=True)
class Recognised:
    """What a command serves.

    Args:
        engine: llamafactory, sglang, vllm or unknown.
        model_path: as it was given; '' where it was not.
        served_name: that clients send, as far as the command tells.
        host: the address that it was told to listen on.
        options: what people want to know of it: option in snake_case -> value. Never a secret.
    """

    engine: str
    model_path: str = ""
    served_name: str = ""
    host: str = ""
    options: Mapping[str, str] = field(default_factory=dict)


def recognise(argv: Sequence[str], environ: Mapping[str, str]) -> Recognised:
    """Which engine a command runs, and what it serves.

    Args:
        argv: the words of the process; wrappers such as `uv run` before the engine's are passed over.
        environ: its environment.
    """
    found = _engine_of(argv)
    if found is None:
        return Recognised(UNKNOWN)
    engine, rest = found
    given, operands = options_of(rest)
    model = next((given[name][0] for name in MODEL[engine] if given.get(name)), "")
    if not model and engine in POSITIONAL_MODEL and operands:
        model = operands[0]
    name = given.get(NAME, [""])[0] or model
    host = given.get("host", [""])[0] or HOST[engine]
    if engine == "llamafactory":
        name = environ.get("API_MODEL_NAME", "")
        host = environ.get("API_HOST") or host
    summary = {key: given[key][0] for key in SUMMARY if given.get(key)}
    return Recognised(engine, model, name, host, summary)


def is_title(argv: Sequence[str]) -> bool:
    """True where a process has overwritten its command line, and with it, most likely, its environment."""
    words = [word for word in argv if word]
    return len(words) == 1 and (TITLE.match(words[0]) is not None or ": " in words[0])


def options_of(words: Sequence[str]) -> tuple[dict[str, list[str]], list[str]]:
    """The options of a command, by name in snake_case with their values, and the words before the first of them."""
    found: dict[str, list[str]] = {}
    operands: list[str] = []
    current: list[str] | None = None
    for word in words:
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            current = found.setdefault(name.replace("-", "_"), [])
            if equals:
                current.append(value)
                current = []  # words after it are none of its values
        elif current is None:
            operands.append(word)
        else:
            current.append(word)
    return found, operands


def key_of(argv: Sequence[str], environ: Mapping[str, str]) -> str:
    """The API key that a server asks its clients for, '' where none is known. A secret: for probes alone."""
    found = _engine_of(argv)
    if found is None:
        return ""
    engine, rest = found
    given = options_of(rest)[0].get("api_key", [])
    variable = {"llamafactory": "API_KEY", "vllm": "VLLM_API_KEY"}.get(engine, "")
    return given[0] if given else environ.get(variable, "")


def _engine_of(argv: Sequence[str]) -> tuple[str, Sequence[str]] | None:
    """The engine, and the words that follow its command."""
    words = [word for word in argv if word]
    if len(words) == 1 and (title := TITLE.match(words[0])):
        return title["engine"].lower(), ()
    for at, word in enumerate(words):
        rest = words[at + 1 :]
        if word == "-m" and rest and rest[0] in MODULES:
            engine = MODULES[rest[0]]
            command = COMMANDS.get(rest[0])
            if command is None:
                return engine, rest[1:]
            if rest[1:2] == [command[1]]:
                return engine, rest[2:]
        elif os.path.basename(word) in COMMANDS and rest[:1] == [COMMANDS[os.path.basename(word)][1]]:
            return COMMANDS[os.path.basename(word)][0], rest[1:]
        elif file := next((end for end in FILES if word == end or word.endswith(f"/{end}")), ""):
            return FILES[file], rest[1:] if rest[:1] == ["api"] else rest
        elif re.fullmatch(r"-[a-z]*c", word) and rest and " " in rest[0]:
            return _engine_of(_words_of_script(rest[0]))
    return None


def _words_of_script(text: str) -> list[str]:
    """The words of `sh -c TEXT`, as far as they can be told without running it."""
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return text.split()
