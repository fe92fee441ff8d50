"""What hosts have measured of their services."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.load import STARTING, check, longest
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import LoadSettings, Measurement
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.prompts import BUILT_IN, Prompts, as_lines
from deployer.api.answers import NOT_ASKED
from deployer.api.base import known_services
from deployer.runs import results
from deployer.runs.problems import short
from deployer.runs.results import Summary
from deployer.wording import printable

NO_SENSE = "what it has measured makes no sense"
SEE = "see what is installed there"
LONGEST = 7200  # seconds for answers, as the role has it for all
MAX = "max"  # a rate: all requests at once


@dataclass(frozen=True)
class Measured:
    """What a host has measured of a service.

    Args:
        host: as the inventory names it.
        service: its name; '' where the host could not be asked.
        measurement: None where there is none.
        problem: why there is none, with the fix, in one line; '' where there is one.
    """

    host: str
    service: str
    measurement: Measurement | None
    problem: str = ""


@contextmanager
def variables_of(
    services: Collection[str],
    prompts: Prompts | None,
    max_tokens: int,
    ask: bool,
    load: LoadSettings | None,
    one_host: bool = False,
) -> Iterator[Mapping[str, Any]]:
    """The variables of the playbook `measure`; the file with the prompts that they name is there within the block."""
    variables: dict[str, Any] = {"measure_max_tokens": max_tokens, "measure_ask": ask}
    if services:
        variables["measure_services"] = list(services)
    if one_host:
        variables["measure_one_host"] = True
    if load is not None:
        check(load)
        variables["measure_load"] = {
            "rates": [MAX if math.isinf(rate) else f"{rate!r}" for rate in load.rates],
            "requests": load.requests,
            "max_tokens": load.max_tokens,
            "timeout": load.timeout,
            "seed": load.seed,
        }
        making = STARTING + len(load.rates) * longest(load)
        variables["measure_timeout"] = LONGEST + math.ceil(making) * max(1, len(services))
    with tempfile.TemporaryDirectory(prefix="sglang-deployer-") as folder:
        if prompts is not None:
            # Not as variables: Ansible would take what stands in braces for a template.
            file = Path(folder) / "prompts"
            file.write_text(as_lines(prompts), encoding="utf-8")
            name = BUILT_IN if prompts.name == BUILT_IN else file.name
            variables |= {"measure_prompts_file": str(file), "measure_prompts_name": name}
        yield variables


def measured_of(
    summary: Summary, services: Collection[str] = (), prompts: Prompts | None = None
) -> tuple[Measured, ...]:
    """What a run of the playbook `measure` came to, in the order of the inventory.

    Args:
        summary: of the run.
        services: only these; all where none is named.
        prompts: that were to be asked.

    Raises:
        DeployError: a service that is named is on no host.
    """
    raws = {name: host.reports.get(results.MEASURE) for name, host in summary.hosts.items()}
    entries = {name: _entries(raw["measured"]) for name, raw in raws.items() if raw is not None}
    present = [str(one["service"]) for found in entries.values() for one in found or ()]
    if entries and None not in entries.values():
        known_services(services, present)
    measured = []
    for name, host in summary.hosts.items():
        if name not in entries:
            measured.append(Measured(name, "", None, short(host.failure, name) if host.failure else NOT_ASKED))
            continue
        found = entries[name]
        if found is None:
            measured.append(Measured(name, "", None, str(DeployError(NO_SENSE, SEE))))
        else:
            measured += [_measured(name, one, prompts) for one in found]
    return tuple(measured)


def _entries(value: Any) -> list[Mapping[str, Any]] | None:
    """What a host has answered, a service each; None where that is no such list."""
    fits = isinstance(value, list) and all(isinstance(one, dict) and "service" in one for one in value)
    return value if fits else None


def _measured(host: str, value: Mapping[str, Any], prompts: Prompts | None) -> Measured:
    service = printable(str(value["service"]))
    if value.get("measurement") is None:
        problem = DeployError(printable(str(value.get("problem") or NO_SENSE)), printable(str(value.get("fix") or "")))
        return Measured(host, service, None, " ".join(str(problem).split()))
    from deployer.compare.record import measurement_of

    try:
        return Measured(host, service, _named(measurement_of(value["measurement"]), prompts))
    except DeployError as error:
        return Measured(host, service, None, printable(str(error)))


def _named(measurement: Measurement, prompts: Prompts | None) -> Measurement:
    """A measurement of these prompts, which the host does not know the name of."""
    if prompts is None:
        return measurement
    answers, load = measurement.answers, measurement.load
    if answers is not None and answers.prompts.messages == prompts.messages:
        answers = replace(answers, prompts=prompts)
    if load is not None and load.prompts.messages == prompts.messages:
        load = replace(load, prompts=prompts)
    return replace(measurement, answers=answers, load=load)
