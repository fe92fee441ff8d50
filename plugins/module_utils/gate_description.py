"""Reads what a service says of its gate, and of keeping requests away while it is replaced."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.description_problems import Problems
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import MOST_REQUESTS
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.prompts import ROLES, are_messages
from ansible_collections.deployer.sglang.plugins.module_utils.service import (
    MAX_RATE,
    RENDERING,
    TEXT,
    Gate,
    Generation,
    Handover,
    LoadGate,
    ParityGate,
)

DAY = 86400  # seconds
HOUR = 3600  # seconds
SGLANG = "sglang"
NEW_ONE = ("generations", "parity", "load")  # what is asked of what is new, and not of the way back to what was
LEAST_RATE, MOST_RATE = 0.001, 1000  # requests in a second
MOST_PROMPTS = 1000
MOST_RATES = 20
LEAST_TIMES, MOST_TIMES = 0.01, 1000  # that a latency may be another
CREDENTIALS = re.compile(r"://[^/@\s]*:[^/@\s]*@|\b[Bb]earer\s+\S")  # http://user:password@proxy, an HTTP header


def parse_gate(problems: Problems, where: str, raw: Any) -> Gate:
    """The gate; what it does not say has its default."""
    value = problems.mapping(where, raw)
    names = tuple(Gate.__dataclass_fields__)
    problems.keys(where, value, names)
    known: dict[str, Any] = {
        name: problems.integer(f"{where}.{name}", value[name], 0 if name == "min_healthy_time" else 1, DAY)
        for name in names
        if name in value and name not in ("prompt", "generations", "parity", "load")
    }
    if "generations" in value:
        known["generations"] = _parse_generations(problems, f"{where}.generations", value["generations"])
    if value.get("parity") is not None:
        known["parity"] = _parse_parity(problems, f"{where}.parity", value["parity"])
    if value.get("load") is not None:
        known["load"] = _parse_load(problems, f"{where}.load", value["load"])
    return Gate(prompt=str(value.get("prompt", Gate.prompt)), **known)


def engine_problems(problems: Problems, where: str, gate: Gate, engine: str) -> None:
    """What a gate asks that this engine cannot be asked."""
    if gate.load is not None and engine != SGLANG:
        fix = "leave it out, or ask for gate.generations with max_latency"
        problems.add(f"{where}.load", f"is made by SGLang's own benchmark, and the engine is {engine}", fix)


def parse_handover(problems: Problems, where: str, service: Mapping[str, Any]) -> Handover:
    """What a service says in `drain_timeout` and `gateway`."""
    drain = problems.integer(f"{where}.drain_timeout", service.get("drain_timeout", Handover.drain_timeout), 0, HOUR)
    where = f"{where}.gateway"
    gateway = problems.mapping(where, service.get("gateway"))
    problems.keys(where, gateway, ("drain", "restore", "timeout"))
    commands = {}
    for name in ("drain", "restore"):
        commands[name] = _parse_command(problems, f"{where}.{name}", gateway.get(name))
        if gateway and not gateway.get(name):
            problems.add(f"{where}.{name}", "is missing", f"add {name}: a gateway that drains has to be restored, too")
    timeout = problems.integer(f"{where}.timeout", gateway.get("timeout", Handover.gateway_timeout), 1, HOUR)
    return Handover(drain, commands["drain"], commands["restore"], timeout)


def _parse_generations(problems: Problems, where: str, raw: Any) -> tuple[Generation, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, Sequence) or isinstance(raw, str):
        problems.add(where, f"is {type(raw).__name__}, and no list", "list them: - prompt: …, pattern: …")
        return ()
    return tuple(_parse_generation(problems, f"{where}[{index}]", one) for index, one in enumerate(raw))


def _parse_generation(problems: Problems, where: str, raw: Any) -> Generation:
    value = problems.mapping(where, raw)
    problems.keys(where, value, tuple(Generation.__dataclass_fields__))
    prompt, pattern = value.get("prompt"), value.get("pattern", "")
    if not isinstance(prompt, str) or not prompt:
        what = "is missing" if prompt in (None, "") else f"is {prompt!r}"
        problems.add(f"{where}.prompt", what, "give the text that is asked")
    if not isinstance(pattern, str):
        problems.add(f"{where}.pattern", f"is {pattern!r}", "quote it: it is a regular expression")
        pattern = ""
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        problems.add(
            f"{where}.pattern",
            f"{pattern!r} is no regular expression ({error})",
            r"put \ before a character of it that stands for itself",
        )
    return Generation(
        prompt=str(prompt),
        pattern=pattern,
        max_latency=problems.number(f"{where}.max_latency", value.get("max_latency", 0), 0, HOUR),
        max_tokens=problems.integer(f"{where}.max_tokens", value.get("max_tokens", Generation.max_tokens), 1, 1000000),
    )


def _parse_parity(problems: Problems, where: str, raw: Any) -> ParityGate:
    value = {"compare": raw} if isinstance(raw, str) else problems.mapping(where, raw)
    problems.keys(where, value, tuple(ParityGate.__dataclass_fields__))
    compare = value.get("compare", RENDERING)
    if compare not in (RENDERING, TEXT):
        fix = f"use {RENDERING}, how long prompts are once they are rendered, or {TEXT}, the whole answers"
        problems.add(f"{where}.compare" if isinstance(raw, Mapping) else where, f"is {compare!r}", fix)
    return ParityGate(
        compare=str(compare),
        prompts=_parse_prompts(problems, f"{where}.prompts", value.get("prompts")),
        max_tokens=problems.integer(f"{where}.max_tokens", value.get("max_tokens", ParityGate.max_tokens), 1, 1000000),
    )


def _parse_prompts(problems: Problems, where: str, raw: Any) -> tuple[Any, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, Sequence) or isinstance(raw, str):
        problems.add(where, f"is {type(raw).__name__}, and no list", "list them: texts, or lists of messages")
        return ()
    if len(raw) > MOST_PROMPTS:
        problems.add(where, f"are {len(raw):,}", f"give {MOST_PROMPTS:,} at most")
    for index, one in enumerate(raw):
        if not ((isinstance(one, str) and one.strip()) or are_messages(one)) or not _can_be_sent(one):
            fix = f"give the text that is asked, or a list of messages, each with role ({', '.join(ROLES)}) and content"
            problems.add(f"{where}[{index}]", "is no prompt", fix)
    return tuple(raw)


def _can_be_sent(prompt: Any) -> bool:
    """Whether a prompt is JSON; a date that is not quoted is none."""
    try:
        json.dumps(prompt, ensure_ascii=False).encode()
    except (TypeError, ValueError, RecursionError):
        return False
    return True


def _parse_load(problems: Problems, where: str, raw: Any) -> LoadGate:
    value = problems.mapping(where, raw)
    problems.keys(where, value, tuple(LoadGate.__dataclass_fields__))
    before = len(problems.found)
    rates = _parse_rates(problems, f"{where}.rates", value.get("rates", list(LoadGate.rates)))
    known: dict[str, Any] = {}
    for name, low, high in (("requests", 1, MOST_REQUESTS), ("max_tokens", 1, 1000000), ("seed", 0, 2**31)):
        known[name] = problems.integer(f"{where}.{name}", value.get(name, getattr(LoadGate, name)), low, high)
    if value.get("max_failures") is not None:
        known["max_failures"] = problems.integer(f"{where}.max_failures", value["max_failures"], 0, MOST_REQUESTS)
    if value.get("no_worse") is not None:
        known["no_worse"] = problems.number(f"{where}.no_worse", value["no_worse"], LEAST_TIMES, MOST_TIMES)
    known["timeout"] = problems.number(f"{where}.timeout", value.get("timeout", LoadGate.timeout), 1, HOUR)
    known["max_latency"] = problems.number(f"{where}.max_latency", value.get("max_latency", 0), 0, HOUR)
    sending = sum(known["requests"] / rate for rate in rates if rate != MAX_RATE)
    if known["requests"] * len(rates) > MOST_REQUESTS:
        problems.add(f"{where}.requests", f"are over {MOST_REQUESTS:,} in all", "give fewer requests or rates")
    elif sending > HOUR and len(problems.found) == before:
        what = f"take {sending:,.0f} s to be sent at these rates, over an hour"
        problems.add(f"{where}.requests", what, "give fewer requests or higher rates")
    return LoadGate(rates=rates, **known)


def _parse_rates(problems: Problems, where: str, raw: Any) -> tuple[Any, ...]:
    if not isinstance(raw, Sequence) or isinstance(raw, str) or not raw:
        problems.add(where, f"is {raw!r}", f"list requests in a second, such as [1, 4, {MAX_RATE}]")
        return LoadGate.rates
    if len(raw) > MOST_RATES:
        problems.add(where, f"are {len(raw):,}", f"give {MOST_RATES} at most")
        return LoadGate.rates
    found: list[Any] = []
    for index, one in enumerate(raw):
        if one == MAX_RATE:
            found.append(MAX_RATE)
        else:
            found.append(problems.number(f"{where}[{index}]", one, LEAST_RATE, MOST_RATE))
    return tuple(found)


def _parse_command(problems: Problems, where: str, raw: Any) -> tuple[str, ...]:
    """The words of a command on the host; no shell reads them."""
    if raw is None:
        return ()
    if not isinstance(raw, Sequence) or isinstance(raw, str):
        problems.add(where, f"is {type(raw).__name__}, and no list", "give the words of the command as a list")
        return ()
    words = []
    for word in raw:
        if isinstance(word, (bool, Mapping, list)) or word is None or "\0" in str(word) or not str(word):
            problems.add(where, f"{word!r} is no word of a command", "quote it")
        elif CREDENTIALS.search(str(word)):
            problems.add(
                where,
                "would stand in a world-readable file",
                "put it into a script on the host that only root may read",
            )
        else:
            words.append(str(word))
    return tuple(words)
