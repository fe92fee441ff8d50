"""A service as data: what has to be served, by which engine, on which port and GPUs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import Rules, model_rules

SUPERVISORS = ("systemd", "process")
RENDERING, TEXT = "rendering", "text"
MAX_RATE = "max"


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
class ParityGate:
    """Whether a release has to answer as what serves before it does, at temperature 0.

    Attributes:
        compare: RENDERING, how long prompts are once they are rendered; or TEXT, the whole answers.
        prompts: texts, or lists of messages; none for a small set of questions about SQL.
        max_tokens: that each answer may have.
    """

    compare: str = RENDERING
    prompts: tuple[Any, ...] = ()
    max_tokens: int = 64


@dataclass(frozen=True)
class LoadGate:
    """How fast a release has to be under load. Times in seconds.

    Attributes:
        rates: requests in a second, one step each; MAX_RATE for all at once.
        requests: of each step.
        max_tokens: that each answer may have.
        timeout: after which a request has failed.
        seed: of the choice of prompts and of the times between requests.
        no_worse: how many times the p99 end-to-end latency of what serves before it its own may be; None for any.
        max_latency: that its p99 end-to-end latency may be; 0 for any.
        max_failures: requests of each step that may fail; None for as many as of what serves before, where that is put
            under the load as well, and otherwise 0.
    """

    rates: tuple[Any, ...] = (4,)
    requests: int = 40
    max_tokens: int = 128
    timeout: float = 60
    seed: int = 1
    no_worse: float | None = None
    max_latency: float = 0
    max_failures: int | None = None


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
        parity: whether it has to answer as what serves before it; None for no.
        load: how fast it has to be under load; None for nothing of that.
    """

    ready_timeout: int = 600
    progress_timeout: int = 300
    min_healthy_time: int = 10
    request_timeout: int = 60
    prompt: str = "Say hello."
    max_tokens: int = 8
    generations: tuple[Generation, ...] = ()
    parity: ParityGate | None = None
    load: LoadGate | None = None

    def as_dict(self) -> dict[str, Any]:
        """The gate as gate.json holds it: without what is not asked."""
        value = asdict(self)
        return {name: one for name, one in value.items() if one is not None}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Gate:
        """The gate that `as_dict` gave; what is missing has its default, what is not known is left out."""
        known = _known(cls, value)
        if "generations" in known:
            known["generations"] = tuple(Generation(**one) for one in known["generations"])
        if known.get("parity"):
            own = _known(ParityGate, known["parity"])
            known["parity"] = ParityGate(**{**own, "prompts": tuple(own.get("prompts", ()))})
        if known.get("load"):
            own = _known(LoadGate, known["load"])
            known["load"] = LoadGate(**{**own, "rates": tuple(own.get("rates", LoadGate.rates))})
        return cls(**known)


def _known(kind: type[Any], value: Mapping[str, Any]) -> dict[str, Any]:
    return {one.name: value[one.name] for one in fields(kind) if one.name in value}


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
