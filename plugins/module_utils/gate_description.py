"""Reads what a service says of its gate, and of keeping requests away while it is replaced."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.description_problems import Problems
from ansible_collections.deployer.sglang.plugins.module_utils.service import Gate, Generation, Handover

DAY = 86400  # seconds
HOUR = 3600  # seconds
CREDENTIALS = re.compile(r"://[^/@\s]*:[^/@\s]*@|\b[Bb]earer\s+\S")  # http://user:password@proxy, an HTTP header


def parse_gate(problems: Problems, where: str, raw: Any) -> Gate:
    """The gate; what it does not say has its default."""
    value = problems.mapping(where, raw)
    names = tuple(Gate.__dataclass_fields__)
    problems.keys(where, value, names)
    known: dict[str, Any] = {
        name: problems.integer(f"{where}.{name}", value[name], 0 if name == "min_healthy_time" else 1, DAY)
        for name in names
        if name in value and name not in ("prompt", "generations")
    }
    if "generations" in value:
        known["generations"] = _parse_generations(problems, f"{where}.generations", value["generations"])
    return Gate(prompt=str(value.get("prompt", Gate.prompt)), **known)


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
