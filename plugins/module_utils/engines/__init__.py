"""Engines: how a service is run. A new engine is one new file here and one line below."""

from __future__ import annotations

from ansible_collections.deployer.sglang.plugins.module_utils.engines import llamafactory, sglang
from ansible_collections.deployer.sglang.plugins.module_utils.engines.base import Engine
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

_ENGINES: dict[str, Engine] = {engine.name: engine for engine in (sglang.ENGINE, llamafactory.ENGINE)}
ENGINES = tuple(_ENGINES)
UNKNOWN = "unknown"
# What is not deployed, and may be found serving a port: name -> its readiness path.
_FOUND = {"vllm": "/health", UNKNOWN: ""}
RECOGNISED = (*ENGINES, *_FOUND)


def engine_named(name: str) -> Engine:
    """The engine `name`.

    Raises:
        DeployError: there is none.
    """
    try:
        return _ENGINES[name]
    except KeyError:
        raise DeployError(f"unknown engine {name!r}", f"use one of {', '.join(ENGINES)}") from None


def readiness_of(name: str) -> str:
    """The path that answers 200 once an engine can serve; '' where any answer, or an accepted connection, has to do.

    Args:
        name: one of RECOGNISED.
    Raises:
        DeployError: there is no such engine.
    """
    return _FOUND[name] if name in _FOUND else engine_named(name).readiness
