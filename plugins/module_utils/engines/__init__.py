"""Engines: how a service is run. A new engine is one new file here and one line below."""

from __future__ import annotations

from ansible_collections.deployer.sglang.plugins.module_utils.engines import llamafactory, sglang
from ansible_collections.deployer.sglang.plugins.module_utils.engines.base import Engine
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

_ENGINES: dict[str, Engine] = {engine.name: engine for engine in (sglang.ENGINE, llamafactory.ENGINE)}
ENGINES = tuple(_ENGINES)


def engine_named(name: str) -> Engine:
    """The engine `name`.

    Raises:
        DeployError: there is none.
    """
    try:
        return _ENGINES[name]
    except KeyError:
        raise DeployError(f"unknown engine {name!r}", f"use one of {', '.join(ENGINES)}") from None
