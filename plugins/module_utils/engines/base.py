"""What the deployment needs to know of an engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Endpoint:
    """Where and as what a service is served."""

    host: str
    port: int
    model_path: str
    served_name: str


@dataclass(frozen=True)
class Engine:
    """One way to run a service.

    Args:
        name: as the inventory gives it.
        package: the distribution that has to be in the environment.
        reserved: options that the deployment sets itself -> the key of the service to use instead.
        command: arguments for the environment's python, for an endpoint and the service's options.
        variables: environment variables for an endpoint.
        readiness: the path that answers 200 once the engine can serve.
        option_check: Python source, run by the environment's python with the engine's arguments: exits 0 when the
            installed version takes them all; otherwise it prints why, and exits with another status.
    """

    name: str
    package: str
    reserved: Mapping[str, str]
    command: Callable[[Endpoint, Mapping[str, Any]], list[str]]
    variables: Callable[[Endpoint], dict[str, str]]
    readiness: str
    option_check: str


def option_values(value: Any) -> Sequence[str]:
    """The words that follow a flag for an option's value: lists one word each, mappings as JSON."""
    if isinstance(value, (list, tuple)):
        return [str(item) for item in value]
    if isinstance(value, Mapping):
        return [json.dumps(value, sort_keys=True)]
    return [str(value)]
