"""What was measured of one server, and the file that keeps it until there is another to compare it with."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError, with_config

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import write_file
from deployer.compare.prompts import Prompts

SCHEMA: Literal[1] = 1
LARGEST_FILE = 256 * 1024 * 1024  # bytes
ENGINES = {"sglang": "SGLang", "llamafactory": "LLaMA-Factory", "vllm": "vLLM"}


@dataclass(frozen=True)
class Server:
    """Who was measured.

    Args:
        url: of it.
        model: the name that it was asked by.
        models: the names that it lists.
        engine: sglang, llamafactory, vllm, or '' where it does not show which.
        version: of the engine; '' where it does not say.
        flags: what it says that it was started with.
        about: what the operator says of it: hardware, flags.
    """

    url: str
    model: str
    models: tuple[str, ...] = ()
    engine: str = ""
    version: str = ""
    flags: Mapping[str, str] = field(default_factory=dict)
    about: str = ""

    @property
    def name(self) -> str:
        """Engine and version for people; the URL where the engine is not known."""
        return f"{ENGINES.get(self.engine, self.engine)} {self.version}".strip() if self.engine else self.url


@dataclass(frozen=True)
class Reply:
    """What a server answered to one prompt.

    Args:
        prompt_tokens: how long the rendered prompt is; None where it does not say.
        completion_tokens: how many tokens were generated; None where it does not say.
        finish_reason: stop, length or another word of the server's.
        text: that was generated.
        reasoning: what the server has taken out of the text as reasoning.
        error: why there is no answer; '' where there is one.
    """

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    finish_reason: str = ""
    text: str = ""
    reasoning: str = ""
    error: str = ""


@dataclass(frozen=True)
class Probes:
    """What tells why two servers render a prompt differently.

    Args:
        bare: the answer to a message of the user alone.
        own_system: to the same behind a short system message.
        added: the system prompt that the server adds by itself, found by sending it: the answer is the same; '' where
            none of those that are known is it.
        repeated: the answer to the first prompt when it is asked again.
    """

    bare: Reply
    own_system: Reply
    added: str
    repeated: Reply


@dataclass(frozen=True)
class Answers:
    """What a server answered to all prompts.

    Args:
        prompts: that were asked.
        max_tokens: that each answer may have.
        replies: one a prompt.
        probes: what else was asked.
    """

    prompts: Prompts
    max_tokens: int
    replies: tuple[Reply, ...]
    probes: Probes


@dataclass(frozen=True)
class Request:
    """One request of a load.

    Args:
        first: seconds to the first token; 0 where the answer is empty.
        latency: seconds to the last token.
        pieces: that the answer came in.
        tokens: of the answer, as the model's tokenizer counts its text.
        error: why it failed, '' where it did not.
    """

    first: float
    latency: float
    pieces: int
    tokens: int
    error: str = ""


@dataclass(frozen=True)
class Step:
    """A load of so many requests a second.

    Args:
        rate: of the requests in a second; infinity for all at once.
        seconds: from the first request to the last answer.
        requests: in the order that they were sent.
        problem: why it was not measured; '' where it was.
    """

    rate: float
    seconds: float = 0.0
    requests: tuple[Request, ...] = ()
    problem: str = ""


@dataclass(frozen=True)
class LoadSettings:
    """What a load is.

    Args:
        rates: requests in a second, one step each; infinity for all at once.
        requests: of each step.
        max_tokens: that each answer may have.
        timeout: seconds after which a request has failed.
        seed: of the choice of prompts and of the times between requests.
    """

    rates: tuple[float, ...] = (1.0, 2.0, 4.0)
    requests: int = 40
    max_tokens: int = 128
    timeout: float = 60.0
    seed: int = 1


@dataclass(frozen=True)
class Load:
    """What a server did under load.

    Args:
        settings: of the load.
        prompts: that were asked.
        steps: one a rate.
        generator: what made the load, with its version.
        client: the machine that it ran on.
        tokenizer: that counted the tokens.
    """

    settings: LoadSettings
    prompts: Prompts
    steps: tuple[Step, ...]
    generator: str
    client: str
    tokenizer: str


@with_config(ConfigDict(ser_json_inf_nan="strings"))
@dataclass(frozen=True)
class Measurement:
    """What was measured of one server.

    Args:
        server: who.
        time: when, ISO 8601 in UTC.
        answers: for parity; None where nothing was asked for it.
        load: None where it was put under none.
        schema: of the file that keeps it.
    """

    server: Server
    time: str
    answers: Answers | None = None
    load: Load | None = None
    schema: Literal[1] = SCHEMA


def save(measurement: Measurement, path: Path) -> None:
    """Write a measurement to a file that only its user may read: it holds prompts and answers.

    Raises:
        DeployError: it cannot be written.
    """
    text = _adapter().dump_json(measurement, indent=1).decode()
    try:
        write_file(str(path.absolute()), text + "\n", mode=0o600)
    except OSError as error:
        raise DeployError(f"{path} cannot be written: {error}", "name a file in a folder of yours") from error


def refuse_place(path: Path) -> None:
    """Refuse a file that `save` could not write, before minutes go into what it is to hold.

    Raises:
        DeployError: its folder is not there, or not the user's to write to.
    """
    folder = path.absolute().parent
    if path.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        raise DeployError(f"{path} cannot be written", "name a file in a folder of yours")


def load_file(path: Path) -> Measurement:
    """Read what `save` has written.

    Raises:
        DeployError: there is no such file, or it is none that `compare --record` wrote.
    """
    fix = "give a file that compare --record of this version wrote"
    try:
        if path.stat().st_size > LARGEST_FILE:
            raise DeployError(f"{path} is larger than {LARGEST_FILE // 2**20} MiB", fix)
        return _adapter().validate_json(path.read_bytes())
    except OSError as error:
        raise DeployError(f"{path} cannot be read: {error}", fix) from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "it"
        raise DeployError(f"{path} is no measurement: {where}: {first['msg']}", fix) from error


@cache
def _adapter() -> TypeAdapter[Measurement]:
    return TypeAdapter(Measurement)
