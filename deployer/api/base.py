"""What all answers of hosts have in common."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.runs.problems import short, told
from deployer.runs.results import Summary


@dataclass(frozen=True)
class HostAnswer:
    """What one host said.

    Args:
        host: as the inventory names it.
        reachable: False where nobody could log in.
        failure: why there is no answer, or what went wrong, in the words of Ansible and the host; '' where all is well.
        raw: what the module returned there, of which the other fields are the typed part.
    """

    host: str
    reachable: bool = True
    failure: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def reason(self) -> str:
        """`failure` in one line, with the fix where the problem is known."""
        return short(self.failure, self.host) if self.failure else ""

    @property
    def explained(self) -> str:
        """`failure` for people: as `reason`, but with every line of it where a description has several mistakes."""
        return told(self.failure, self.host)


H = TypeVar("H", bound=HostAnswer)


@dataclass(frozen=True)
class Answer(Generic[H]):
    """What all hosts said.

    Args:
        hosts: by name, in the order of the inventory.
        summary: the run as it was folded, for views and programs that want all of it.
        output: what ansible-playbook printed.
    """

    hosts: Mapping[str, H]
    summary: Summary = field(default_factory=Summary, repr=False, compare=False)
    output: str = field(default="", repr=False, compare=False)

    @property
    def failures(self) -> dict[str, str]:
        """Why, of every host that did not answer, in one line."""
        return {name: host.reason for name, host in self.hosts.items() if host.failure}

    @property
    def explained(self) -> Summary:
        """`summary` with every host's failure as people are told it."""
        hosts = {name: replace(host, failure=told(host.failure, name)) for name, host in self.summary.hosts.items()}
        return replace(self.summary, hosts=hosts)


def known_services(wanted: Iterable[str], present: Iterable[str]) -> frozenset[str]:
    """The services that are meant; all that are present where none is named.

    Raises:
        DeployError: one that is named is on no host.
    """
    if isinstance(wanted, str):
        raise DeployError(f"services is the text {wanted!r}", "give a list of names")
    everywhere = sorted(set(present))
    named = frozenset(wanted)
    for name in sorted(named):
        if name not in everywhere:
            fix = f"use some of {', '.join(everywhere)}" if everywhere else "describe it in inference_services"
            raise DeployError(f"--service {name}: no host has such a service", fix)
    return named or frozenset(everywhere)
