"""A service as data: what has to be served, by which engine, on which port and GPUs."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

SUPERVISORS = ("systemd", "process")


@dataclass(frozen=True)
class Gate:
    """What a release has to show before it is committed. Times in seconds."""

    ready_timeout: int = 1200
    min_healthy_time: int = 10
    request_timeout: int = 60
    prompt: str = "Say hello."
    max_tokens: int = 8


@dataclass(frozen=True)
class Model:
    """The weights: the name that clients send, and the folder on the controller that holds them.

    `named` is False where the description gives no name: then it is the folder's, as an engine by itself would have it.
    """

    name: str
    source: str
    named: bool = True


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


def model_folders(services: Iterable[Service]) -> dict[str, str]:
    """The source of every model -> the name of its folder on a host, before the digest.

    `team/code2sql` is `team-code2sql`; a source that is served under two names has the first.
    """
    folders: dict[str, str] = {}
    for _, service in with_predecessors(services):
        folders.setdefault(service.model.source, re.sub(r"[/:]", "-", service.model.name))
    return folders
