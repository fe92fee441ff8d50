"""What a service's description alone gives away: no host and no model has to be looked at for these findings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.engines import engine_named
from ansible_collections.deployer.sglang.plugins.module_utils.plan.findings import ERROR, WARNING, Finding, finding
from ansible_collections.deployer.sglang.plugins.module_utils.plan.parallelism import parallelism_of
from ansible_collections.deployer.sglang.plugins.module_utils.plan.pool import whole_number
from ansible_collections.deployer.sglang.plugins.module_utils.service import Service

ANY_ADDRESS = ("0.0.0.0", "::", "")
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
PROMPTS_FROM = 2  # --log-requests-level from which prompts are in the log (its help text)


def description_findings(service: Service) -> list[Finding]:
    """Findings about a service and its predecessor.

    Args:
        service: as the inventory describes it.
    """
    where = f"inference_services[{service.name}]"
    found = [
        *_launch(where, service),
        *_exposure(where, service),
        *_served_name(where, service),
        *_overlap(where, service),
    ]
    if service.predecessor is not None:
        found += _launch(f"{where}.predecessor", service.predecessor)
    return found


def _launch(where: str, service: Service) -> Iterator[Finding]:
    """How it is launched: what is given twice, or does not add up."""
    engine = engine_named(service.engine)
    spellings: dict[str, list[str]] = {}
    for name in service.options:
        spellings.setdefault(engine.aliases.get(name, name), []).append(name)
    for name, given in spellings.items():
        if len(given) > 1:
            values = [service.options[one] for one in given]
            same = len({str(value) for value in values}) == 1
            said = " and ".join(f"{one}: {value}" for one, value in zip(given, values))
            yield finding(
                "parallelism-repeated",
                f"{where}.options",
                f"{said} are one option in {len(given)} spellings" + ("" if same else ", with different values"),
                f"keep {name} and remove {', '.join(one for one in given if one != name)}",
                WARNING if same else ERROR,
            )
    for gpu in dict.fromkeys(gpu for gpu in service.gpus if service.gpus.count(gpu) > 1):
        yield finding("gpu-repeated", f"{where}.gpus", f"GPU {gpu} is listed twice", "list each GPU once")
    options = engine.canonical(service.options)
    parallelism = parallelism_of(service.engine, options)
    if parallelism.impossible:
        fix = "correct tensor_parallel_size, or the size that does not divide it"
        yield finding("parallelism-impossible", f"{where}.options", parallelism.impossible, fix)
    count = service.auto_gpus or len(set(service.gpus))
    # Without GPUs none is visible to the process; the engines' other devices are asked for by name.
    needs = count or options.get("device", "cuda") == "cuda"
    if service.engine == "sglang" and needs and count != parallelism.gpus:
        said = f"{count} GPU{'s' if count != 1 else ''} {'are' if count != 1 else 'is'} given"
        yield finding(
            "gpu-count",
            f"{where}.gpus",
            f"{said} and the parallelism needs {parallelism.gpus}",
            f"give {parallelism.gpus}, or set options.tensor_parallel_size to {count}"
            if count
            else "give some, or set options.device: cpu",
        )
    for option, reason in _gateless(service.engine, options):
        yield finding(
            "gate-impossible",
            f"{where}.options.{option}",
            f"{reason}: the gate, which asks for a chat over plain HTTP, would never pass",
            "serve it by other means: this deployment switches chat services on one host each",
        )
    for name in service.exposed:
        yield finding(
            "api-key-in-argv",
            f"{where}.options.{name}",
            "would stand in the process's argv, where every user of the host can read it",
            "remove it and put the key check in front of the service",
        )


def _gateless(engine: str, options: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Options with which the engine starts well and yet answers no chat of its own."""
    if engine != "sglang":
        return
    if options.get("is_embedding") is True:
        yield "is_embedding", "an embedding model does not chat"
    if options.get("disaggregation_mode", "null") in ("prefill", "decode"):
        yield "disaggregation_mode", "one half of a disaggregated service does not answer without its router"
    if (whole_number(options.get("nnodes")) or 1) > 1:
        yield "nnodes", "a service over several hosts waits for all of them, and hosts are switched one after another"
    for name in ("ssl_certfile", "ssl_keyfile"):
        if options.get(name):
            yield name, "the engine then speaks TLS"


def _exposure(where: str, service: Service) -> Iterator[Finding]:
    """What others get to see: the port, the log, a proxy."""
    if service.host in ANY_ADDRESS:
        yield finding(
            "open-without-key",
            f"{where}.host",
            f"{service.host} lets everyone who reaches port {service.port} use the model: no key is asked for",
            "listen on an internal address (host:), or keep the port behind a firewall or gateway and accept this",
        )
    if service.port < 1024:
        yield finding(
            "port-privileged",
            f"{where}.port",
            f"{service.port} may be opened by root alone, and the service's user has no such right",
            "take a port from 1024 on; a proxy in front of it can listen below",
        )
    if service.engine == "sglang" and service.options.get("log_requests") is True:
        level = service.options.get("log_requests_level")
        if level is None or (whole_number(level) or 0) >= PROMPTS_FROM:
            said = f"log_requests_level {level}" if level is not None else "log_requests without a level (2 since 0.5)"
            yield finding(
                "prompts-logged",
                f"{where}.options.log_requests_level",
                f"{said} writes prompts and answers to the log",
                "set log_requests_level: 1, which logs only their sizes and parameters",
            )
    if service.engine == "llamafactory" and service.environment_variables.get("API_VERBOSE", "1") != "0":
        yield finding(
            "prompts-logged",
            f"{where}.environment_variables",
            "LLaMA-Factory writes every request to the log unless it is told not to",
            'set API_VERBOSE: "0"',
        )
    named = [name for name in service.environment_variables if name.lower() in PROXIES]
    for name in named:
        yield finding(
            "proxy-variables",
            f"{where}.environment_variables.{name}",
            "the engine's own requests go through this proxy, unless they are to this host",
            "remove it: what a service needs is staged, and nothing is fetched while it runs",
        )


def _served_name(where: str, service: Service) -> Iterator[Finding]:
    """The name that clients send goes on meaning this model."""
    before = service.predecessor.model if service.predecessor else None
    if not service.model.named:
        known = before.name if before is not None and before.named else ""
        served = f"clients send {known!r}, " if known else ""
        yield finding(
            "served-name-lost",
            f"{where}.model.name",
            f"{served}and without a name the model would be served as {service.model.name!r}".removeprefix("and "),
            f"set model.name: {known}" if known else 'set model.name to what clients send as "model"',
            ERROR if known else WARNING,
        )
    elif before is not None and before.named and before.name != service.model.name:
        yield finding(
            "served-name-differs",
            f"{where}.model.name",
            f"{service.model.name!r} is not what the predecessor serves, {before.name!r}",
            f"set model.name: {before.name}, or tell your clients and accept this",
        )


def _overlap(where: str, service: Service) -> Iterator[Finding]:
    """What the service and its predecessor both need, so that one has to go before the other comes."""
    before = service.predecessor
    if before is None:
        return
    shared = [f"GPU {gpu}" for gpu in service.gpus if gpu in before.gpus]
    shared = [f"port {service.port}"] * (service.port == before.port) + shared
    if shared:
        yield finding(
            "predecessor-overlap",
            f"{where}.predecessor",
            f"the predecessor has {_list(shared)} too: it is stopped before the new service starts",
            "expect no answer while the new one loads; a port and GPUs of its own would avoid that",
        )


def _list(words: Sequence[Any]) -> str:
    *first, last = map(str, words)
    return f"{', '.join(first)} and {last}" if first else last
