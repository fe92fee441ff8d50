"""What was measured of one server, as frozen data."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ansible_collections.deployer.sglang.plugins.module_utils.measuring.prompts import Prompts

SCHEMA: Literal[1] = 1
MOST_REQUESTS = 10_000  # of all steps of a load
INFINITY = "Infinity"  # JSON has no number for it
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


def now() -> str:
    """The time of a measurement."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def plain(value: Any, infinity: str = INFINITY) -> Any:
    """A dataclass, and all that is in it, as JSON has it.

    Args:
        value: dataclasses, mappings, sequences, numbers, texts.
        infinity: the word for a number that JSON does not have.
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain(getattr(value, one.name), infinity) for one in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): plain(one, infinity) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(one, infinity) for one in value]
    return infinity if isinstance(value, float) and math.isinf(value) else value
