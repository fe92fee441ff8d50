"""What the deployment needs to know of an engine."""

from __future__ import annotations

import json
import re
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
        progress: regular expressions of what it logs on its way to be ready.
        load_paths: paths, newest first, of which one tells how busy it is; none where it does not tell.
        read_load: such a path's answer, as JSON -> how many requests run or wait; None where it does not say.
        identity_option: the option whose value a running engine tells; '' for none.
        identity_since: the first version that has it.
        identity_paths: paths, newest first, of which one answers with that value.
        identity_key: its name in the answer.
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
    progress: Sequence[str] = ()
    load_paths: Sequence[str] = ()
    read_load: Callable[[Any], int | None] = lambda answer: None
    identity_option: str = ""
    identity_since: str = ""
    identity_paths: Sequence[str] = ()
    identity_key: str = ""

    def identity_in(self, version: str, options: Mapping[str, Any]) -> str:
        """The option by which this version can be told its release's id, unless the service sets it; '' for none.

        Args:
            version: of the engine's package in the environment; '' where it is not known.
            options: of the service.
        """
        own = self.identity_option.lstrip("-").replace("-", "_") in self.canonical(options)
        has = bool(self.identity_option) and numbers_of(version) >= numbers_of(self.identity_since)
        return self.identity_option if has and not own else ""

    def canonical(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options by the names that launch scripts have; of two spellings of one option the first counts."""
        named: dict[str, Any] = {}
        for name, value in options.items():
            named.setdefault(self.aliases.get(name, name), value)
        return named


def numbers_of(version: str) -> tuple[int, ...]:
    """The release segment of a version, as PEP 440 has it: `0.5.3rc1` -> (0, 5, 3)."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(number) for number in found.group().split(".")) if found else ()


def option_values(value: Any) -> Sequence[str]:
    """The words that follow a flag for an option's value: lists one word each, mappings as JSON."""
    if isinstance(value, (list, tuple)):
        return [str(item) for item in value]
    if isinstance(value, Mapping):
        return [json.dumps(value, sort_keys=True)]
    return [str(value)]
