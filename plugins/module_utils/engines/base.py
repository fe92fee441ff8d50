"""What the deployment needs to know of an engine."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.engines.option_table import OptionTable


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
        imports: modules that have to be importable in a working environment; what starts the engine needs them.
        check_module: the engine's own check of a host with GPUs, run with `-m`; '' for none.
        sources: patterns of the files below site-packages that declare its options and chat templates.
        read_options: those files' texts and the installed version -> the options that it knows; runs nothing of it.
        read_templates: the same texts -> the system prompt that each chat template adds by itself.
        aliases: other spellings of an option -> the one that launch scripts have.
    """

    name: str
    package: str
    reserved: Mapping[str, str]
    command: Callable[[Endpoint, Mapping[str, Any]], list[str]]
    variables: Callable[[Endpoint], dict[str, str]]
    readiness: str
    option_check: str
    sources: Sequence[str]
    read_options: Callable[[Mapping[str, str], str], OptionTable]
    read_templates: Callable[[Mapping[str, str]], dict[str, str]] = lambda sources: {}
    aliases: Mapping[str, str] = field(default_factory=dict)
    imports: Sequence[str] = ()
    check_module: str = ""

    def canonical(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options by the names that launch scripts have; of two spellings of one option the first counts."""
        named: dict[str, Any] = {}
        for name, value in options.items():
            named.setdefault(self.aliases.get(name, name), value)
        return named


def option_values(value: Any) -> Sequence[str]:
    """The words that follow a flag for an option's value: lists one word each, mappings as JSON."""
    if isinstance(value, (list, tuple)):
        return [str(item) for item in value]
    if isinstance(value, Mapping):
        return [json.dumps(value, sort_keys=True)]
    return [str(value)]
