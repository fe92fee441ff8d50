"""The files of a first inventory, from what was seen of its hosts; pure functions.

What most hosts have in common stands in group_vars/gpu-nodes.yml, what one has otherwise in its host_vars.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from deployer.first_inventory.commented_yaml import comment, entry, item
from deployer.first_inventory.decisions import HostPlan, closed_models, decide
from deployer.first_inventory.explanations import explained, host_line, service_lines, with_evidence
from deployer.first_inventory.services import Service
from deployer.first_inventory.survey import GROUP, Seen
from deployer.first_inventory.targets import Target

GROUP_FILE = f"group_vars/{GROUP}.yml"
# What need not be said where it is so on all hosts: these are the defaults.
DEFAULTS = {"ansible_become": False, "inference_supervisor": "systemd"}
SERVICES = "inference_services"
ADDRESS = "found: what ssh's configuration makes of that name; what the host asks of itself takes no proxy to it"


@dataclass(frozen=True)
class Described:
    """A host that was seen, and what is written for it."""

    seen: Seen
    plan: HostPlan

    @property
    def name(self) -> str:
        """Of the host, in the inventory."""
        return self.seen.target.name


@dataclass(frozen=True)
class FirstInventory:
    """What is to be written.

    Attributes:
        files: path in the folder -> text.
        described: the hosts that were seen.
        unseen: the hosts that were not.
    """

    files: Mapping[str, str]
    described: tuple[Described, ...]
    unseen: tuple[Seen, ...]

    @property
    def fill_in(self) -> dict[str, list[str]]:
        """Host -> what a person has to say before it can be planned; only hosts with something."""
        return {one.name: one.plan.fill_in for one in self.described if one.plan.fill_in}

    @property
    def complete(self) -> list[str]:
        """The hosts that can be planned."""
        return [one.name for one in self.described if not one.plan.fill_in]

    @property
    def needs_lock(self) -> bool:
        """The lock that comes with this package has to be beside the inventory."""
        return any(one.plan.needs_lock for one in self.described)


def first_inventory(seen: Sequence[Seen], ssh: Mapping[str, str], day: str, folder: str) -> FirstInventory:
    """The inventory of hosts that were looked at.

    Args:
        seen: the hosts; at least one was seen.
        ssh: variables by which Ansible reaches all of them.
        day: on which they were seen.
        folder: that it is written to, for what the comments advise.
    """
    weights_on: dict[str, str] = {}
    for one in seen:
        for path in closed_models(one.survey) if one.survey else ():
            weights_on.setdefault(path, one.target.name)
    described = [Described(one, decide(one.survey, weights_on)) for one in seen if one.survey is not None]
    shared = {key: _most_common(described, key) for key in described[0].plan.settings}
    files = {"hosts.yml": _hosts_file(seen, day), GROUP_FILE: _group_file(described, shared, ssh, day, folder)}
    for host in described:
        own = [key for key, value in host.plan.settings.items() if _differs(value, shared[key])]
        if own:
            files[f"host_vars/{host.name}.yml"] = _host_file(host, own)
    return FirstInventory(files, tuple(described), tuple(one for one in seen if one.survey is None))


def _most_common(described: Sequence[Described], key: str) -> Any:
    """The value that most hosts have; of equally many, a complete one before a template, then the first host's."""
    values = [one.plan.settings[key] for one in described]

    def weight(one: Described) -> tuple[bool, int]:
        value = one.plan.settings[key]
        return key != SERVICES or not one.plan.fill_in, sum(not _differs(value, other) for other in values)

    return max(described, key=weight).plan.settings[key]


def _differs(one: Any, other: Any) -> bool:
    return json.dumps(one, sort_keys=True) != json.dumps(other, sort_keys=True)


def _hosts_file(seen: Sequence[Seen], day: str) -> str:
    lines = [
        "---",
        *comment(
            f"Written by python -m deployer init on {day}. {GROUP_FILE} says what is the same on all hosts, and "
            "host_vars/HOST.yml what one has otherwise."
        ),
        "all:",
        "  children:",
        f"    {GROUP}:",
        "      hosts:",
    ]
    for one in seen:
        lines += comment(host_line(one, day), 8)
        variables = {**one.target.variables, **_address(one.target)}
        if variables:
            said = {f"{one.target.name}.inference_address": [ADDRESS]}
            lines += entry(one.target.name, variables, 8, said)
        else:
            lines.append(f"        {entry(one.target.name, None)[-1].removesuffix(' null')}")
    return "\n".join(lines) + "\n"


def _address(target: Target) -> dict[str, str]:
    return {"inference_address": target.address} if target.address else {}


def _group_file(
    described: Sequence[Described], shared: Mapping[str, Any], ssh: Mapping[str, str], day: str, folder: str
) -> str:
    names = [one.name for one in described]
    lines = [
        "---",
        *comment(
            f"What python -m deployer init saw on {day} on {_listed(names)}; nothing was changed there. "
            '"found" says where a value comes from; "a guess" is what nobody said. Look it over, then:'
        ),
        f"# python -m deployer plan -i {shlex.quote(f'{folder}/hosts.yml')}",
    ]
    if ssh:
        lines += ["", *comment("As given to init: the ssh configuration that reaches these hosts.")]
        lines += [line for key, value in ssh.items() for line in entry(key, value)]
    for key, value in shared.items():
        alike = [one for one in described if not _differs(one.plan.settings[key], value)]
        if DEFAULTS.get(key) != value:
            lines += ["", *_setting(key, value, alike)]
    return "\n".join(lines) + "\n"


def _host_file(one: Described, keys: Iterable[str]) -> str:
    lines = ["---", *comment(f"What {one.name} has otherwise than {GROUP_FILE} says.")]
    for key in keys:
        lines += ["", *_setting(key, one.plan.settings[key], [one])]
    return "\n".join(lines) + "\n"


def _setting(key: str, value: Any, alike: Sequence[Described]) -> list[str]:
    """A variable with what is known of it, from all hosts that have it so."""
    surveys = {one.name: one.seen.survey for one in alike if one.seen.survey is not None}
    troubles = {one.name: one.seen.trouble.problem for one in alike if one.seen.trouble is not None}
    lines = [line for text in explained(key, value, surveys, troubles) for line in comment(text)]
    cautions = [caution for one in alike for caution in one.plan.cautions] if key == "inference_environments" else []
    others = [f"on {one.name}, {other}" for one in alike for other in one.plan.others] if key == SERVICES else []
    lines += [line for text in dict.fromkeys(cautions) for line in comment(f"LOOK AT: {text}")]
    lines += [line for text in others for line in comment(f"LOOK AT: {text}")]
    if key != SERVICES:
        return [*lines, *entry(key, value)]
    services = alike[0].plan.services
    lines.append(f"{key}:")
    for at, service in enumerate(services):
        lines += _service(service, [(one.name, one.plan.services[at]) for one in alike])
    return lines


def _service(service: Service, alike: Sequence[tuple[str, Service]]) -> list[str]:
    """A service with what was found of it on every host, and what else could be said."""
    said = with_evidence(service, alike)
    lines = [line for text in service_lines(alike) for line in comment(text, 2)]
    lines += item(service.value, 2, said)
    if service.spare_predecessor:
        lines += comment(
            "What serves now could also be described, so that the plan compares the two engines and a rollback can do "
            "without the recorded command. It wants an environment llamafactory that the services' user can read:",
            4,
        )
        lines += [f"    # {line}" for line in entry("predecessor", service.spare_predecessor)]
    return lines


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 6 else f"{', '.join(names[:5])} and {len(names) - 5} more"
