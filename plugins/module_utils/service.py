"""A service as data: what has to be served, by which engine, on which port and GPUs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import Rules, model_rules

SUPERVISORS = ("systemd", "process")


@dataclass(frozen=True)
class Generation:
    """A question that a release has to answer at the gate.

    Attributes:
        prompt: what is asked.
        pattern: regular expression that has to be found in the answer; '' for any.
        max_latency: seconds that the answer may take; 0 for as long as a request may.
        max_tokens: that it may generate.
    """

    prompt: str
    pattern: str = ""
    max_latency: float = 0
    max_tokens: int = 64


@dataclass(frozen=True)
class Gate:
    """What a release has to show before it is committed. Times in seconds.

    Attributes:
        ready_timeout: until it is ready, for a model without weights: each gigabyte adds to it (`cutover.deadline`).
        progress_timeout: that each new line of progress in its log grants from then on.
        min_healthy_time: for which it has to go on answering.
        request_timeout: for one request of the gate.
        prompt: what the probes for a chat and for a stream ask.
        max_tokens: that these may generate.
        generations: what else it has to answer.
    """

    ready_timeout: int = 600
    progress_timeout: int = 300
    min_healthy_time: int = 10
    request_timeout: int = 60
    prompt: str = "Say hello."
    max_tokens: int = 8
    generations: tuple[Generation, ...] = ()

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Gate:
        """The gate that `dataclasses.asdict` gave; what is missing has its default, what is not known is left out."""
        known = {one.name: value[one.name] for one in fields(cls) if one.name in value}
        if "generations" in known:
            known["generations"] = tuple(Generation(**one) for one in known["generations"])
        return cls(**known)


@dataclass(frozen=True)
class Handover:
    """How requests are kept away while one release is replaced by another.

    Attributes:
        drain_timeout: seconds to wait for a moment without running requests before the old release is stopped.
        gateway_drain: words of a command on the host by which a gateway sends no more requests; none for no gateway.
        gateway_restore: words of the command by which it sends them again.
        gateway_timeout: seconds that each of the two may take.
    """

    drain_timeout: int = 30
    gateway_drain: tuple[str, ...] = ()
    gateway_restore: tuple[str, ...] = ()
    gateway_timeout: int = 60

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Handover:
        """The handover that `dataclasses.asdict` gave, as `Gate.from_dict`."""
        known: dict[str, Any] = {}
        for one in fields(cls):
            if one.name in value:
                found = value[one.name]
                known[one.name] = tuple(found) if isinstance(found, list) else found
        return cls(**known)


@dataclass(frozen=True)
class Model:
    """The weights.

    Attributes:
        name: that clients send.
        source: where they come from (`weights.sources`).
        named: False where the description gives no name: then it is the folder's, as an engine by itself would have it.
        exclude: patterns of files that are left out beside those that never are a model's (`weights.rules`).
        include: patterns of files that are kept in spite of the rules.
        fetch_on: the host that fetches them from a hub or a web server; '' for the controller.
    """

    name: str
    source: str
    named: bool = True
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    fetch_on: str = ""

    @property
    def rules(self) -> Rules:
        """What belongs to the model."""
        return model_rules(self.exclude, self.include)


@dataclass(frozen=True)
class Service:
    """One endpoint on a host, run by one engine.

    Attributes:
        gpus: indices and UUIDs; empty for none, and where the plan chooses.
        auto_gpus: how many GPUs the plan is to choose; 0 where `gpus` says which.
        options: of the engine, in snake_case as they were spelled; one that would show a secret is only named, in
            `exposed`.
        findings: finding id -> what the description makes of it.
    """

    name: str
    port: int
    model: Model
    engine: str
    environment: str
    host: str = "0.0.0.0"
    gpus: tuple[str, ...] = ()
    auto_gpus: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)
    exposed: tuple[str, ...] = ()
    environment_variables: Mapping[str, str] = field(default_factory=dict)
    findings: Mapping[str, str] = field(default_factory=dict)
    gate: Gate = field(default_factory=Gate)
    stop_timeout: int = 120
    handover: Handover = field(default_factory=Handover)
    predecessor: Service | None = None


@dataclass(frozen=True)
class Environment:
    """A named environment: built from a lock's bundle on the controller, or an existing prefix on the host.

    `backend` is what installs the conda packages of a lock.
    """

    name: str
    lock: str | None = None
    prefix: str | None = None
    backend: str = "rattler"


def with_predecessors(services: Iterable[Service]) -> Iterator[tuple[str, Service]]:
    """Every service and what its rollback falls back to, each with its role: `service` or `predecessor`."""
    for service in services:
        yield "service", service
        if service.predecessor is not None:
            yield "predecessor", service.predecessor


def environments_used(services: Iterable[Service]) -> list[str]:
    """Names of the environments of services and predecessors, each once."""
    return list(dict.fromkeys(one.environment for _, one in with_predecessors(services)))


def engines_of(environment: str, services: Iterable[Service]) -> list[str]:
    """The engines that run in an environment, each once."""
    return list(dict.fromkeys(one.engine for _, one in with_predecessors(services) if one.environment == environment))


def models_used(services: Iterable[Service]) -> list[Model]:
    """The models of services and predecessors, each source once: of one that has two names, the first."""
    found: dict[str, Model] = {}
    for _, service in with_predecessors(services):
        found.setdefault(service.model.source, service.model)
    return list(found.values())


def folder_name(model: Model) -> str:
    """The name of a model's folder on a host, before the digest: of `team/code2sql`, `team-code2sql`."""
    return re.sub(r"[/:]", "-", model.name)
