"""Puts a server under load, by the serving benchmark of SGLang in an environment that has it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.asking import without
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.load_process import Maker, making
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import (
    MOST_REQUESTS,
    Load,
    LoadSettings,
    Request,
    Server,
    Step,
)
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.prompts import Prompts, spread

STARTING = 300  # seconds in which a cold environment imports SGLang
LONGEST_SENDING = 24 * 3600  # seconds
PATIENCE = 300  # seconds for what an overloaded server has to end
Say = Callable[[str], None]


def put_under_load(
    server: Server,
    prompts: Prompts,
    settings: LoadSettings,
    maker: Maker,
    tokenizer: str,
    key: str = "",
    say: Say = lambda text: None,
    watch: Callable[[], None] = lambda: None,
) -> Load:
    """Measure a server at each rate, one after the other.

    Args:
        server: who.
        prompts: that are asked.
        settings: of the load.
        maker: where the load is made.
        tokenizer: folder of the model, where the load is made; its tokenizer counts tokens.
        key: that the server wants; '' for none.
        say: told how far it is.
        watch: called again and again meanwhile; what it raises ends the load.

    Raises:
        DeployError: the settings are beyond bounds, there is no such environment, or its benchmark cannot be run.
    """
    check(settings)
    order = _order(server, prompts, settings, tokenizer)
    generator, client = "", ""
    steps: list[Step] = []
    with making(maker, order, key, watch) as answers:
        for answer in answers(STARTING, longest(settings)):
            if "problem" in answer:
                raise maker.cannot_run(str(answer["problem"]))
            if "generator" in answer:
                generator, client = str(answer["generator"]), str(answer.get("client", ""))
                say(f"{server.url}: {_rate_words(settings.rates[0])}")
                continue
            step = _understood(maker, answer["step"], settings, len(steps), key)
            steps.append(step)
            if len(steps) == len(settings.rates):
                break  # what it has left behind may keep its output open
            if not step.problem:
                say(f"{server.url}: {_rate_words(settings.rates[len(steps)])}")
    missing = "not measured, as the rate before was not"
    steps += [Step(rate, problem=missing) for rate in settings.rates[len(steps) :]]
    return Load(settings, prompts, tuple(steps), generator, client, tokenizer)


def try_out(server: str, maker: Maker, tokenizer: str) -> None:
    """See that a load can be made: the benchmark is imported and the tokenizer read, and nobody is asked.

    Args:
        server: its URL.
        maker: where the load is made.
        tokenizer: as in `put_under_load`.

    Raises:
        DeployError: it cannot.
    """
    order = _order(Server(server, ""), Prompts("", ()), LoadSettings(rates=()), tokenizer)
    with making(maker, order) as answers:
        for answer in answers(STARTING, STARTING):
            if "problem" in answer:
                raise maker.cannot_run(str(answer["problem"]))
            if "generator" in answer:
                return


def check(settings: LoadSettings) -> None:
    """Refuse a load that cannot be made, before minutes go into anything else.

    Raises:
        DeployError: it is beyond bounds.
    """
    if not settings.rates or len(settings.rates) * settings.requests > MOST_REQUESTS:
        raise DeployError(f"a load has 1 to {MOST_REQUESTS:,} requests in all", "give fewer rates or requests")
    for name, value in (("requests", settings.requests), ("max_tokens", settings.max_tokens)):
        if value < 1:
            raise DeployError(f"{name} is {value}", "give at least 1")
    if not all(rate > 0 for rate in settings.rates) or not 0 < settings.timeout <= LONGEST_SENDING:
        raise DeployError(
            "a rate is not above 0, or a request's timeout not between 0 and a day",
            "give rates such as 1 and 4, and seconds",
        )
    if sum(settings.requests / rate for rate in settings.rates) > LONGEST_SENDING:
        raise DeployError("a load takes over a day to be sent at these rates", "give fewer requests or higher rates")


def _order(server: Server, prompts: Prompts, settings: LoadSettings, tokenizer: str) -> dict[str, Any]:
    """What the child is told."""
    every = spread(prompts, settings.requests * len(settings.rates), settings.seed) if settings.rates else ()
    steps = []
    for number, rate in enumerate(settings.rates):
        chosen = every[number * settings.requests : (number + 1) * settings.requests]
        steps.append({"rate": "inf" if math.isinf(rate) else rate, "prompts": chosen})
    return {
        "url": server.url,
        "model": server.model,
        "tokenizer": tokenizer,
        "max_tokens": settings.max_tokens,
        "timeout": settings.timeout,
        "patience": PATIENCE,
        "seed": settings.seed,
        "steps": steps,
    }


def longest(settings: LoadSettings) -> float:
    """Seconds that a step may take: all requests are sent, each is answered or given up."""
    slowest = min(settings.rates)
    sending = 0.0 if math.isinf(slowest) else 3 * settings.requests / slowest + 30
    return PATIENCE + sending + 2 * settings.timeout + 60


def _understood(maker: Maker, value: Any, settings: LoadSettings, number: int, key: str) -> Step:
    try:
        return _step(value, settings, number, key)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError):
        raise maker.cannot_run("what it says of a load makes no sense") from None


def _step(value: Mapping[str, Any], settings: LoadSettings, number: int, key: str) -> Step:
    rate, problem = settings.rates[number], without(key, str(value.get("problem", "")))
    requests = tuple(
        Request(
            _time(one["first"]),
            _time(one["latency"]),
            int(one["pieces"]),
            int(one["tokens"]),
            without(key, str(one["error"])),
        )
        for one in value.get("requests", ())
    )
    if not problem and not 0 < len(requests) <= settings.requests:
        raise ValueError(len(requests))
    return Step(rate, _time(value.get("seconds", 0)), requests, problem)


def _time(value: Any) -> float:
    """Seconds; what is not a number would be slower than nothing."""
    seconds = float(value)
    if not 0 <= seconds < math.inf:
        raise ValueError(value)
    return seconds


def _rate_words(rate: float) -> str:
    return "all requests at once" if math.isinf(rate) else f"{rate:g} requests a second"
