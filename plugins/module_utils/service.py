"""A service as data: what has to be served, by which engine, on which port and GPUs."""

from __future__ import annotations

from collections.abc import Mapping
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
    """The weights: the name that clients send, and the folder on the controller that holds them."""

    name: str
    source: str


@dataclass(frozen=True)
class Service:
    """One endpoint on a host, run by one engine."""

    name: str
    port: int
    model: Model
    engine: str
    environment: str
    host: str = "0.0.0.0"
    gpus: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    environment_variables: Mapping[str, str] = field(default_factory=dict)
    gate: Gate = field(default_factory=Gate)
    stop_timeout: int = 120
    predecessor: Service | None = None


@dataclass(frozen=True)
class Environment:
    """A named environment: built from a lock's bundle on the controller, or an existing prefix on the host."""

    name: str
    lock: str | None = None
    prefix: str | None = None
