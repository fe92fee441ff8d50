"""The kits of services' clients: what hosts have, and what became of it in a folder of the controller."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.client_kit import KIT_FILES
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.api.answers import NOT_ASKED
from deployer.api.base import Answer, HostAnswer, known_services
from deployer.client_kits import folders
from deployer.runs import results
from deployer.runs.results import Summary

CHANGED = "{folder} was changed since it was written there: {names}"
KEEP = "move your files away, or give --force to overwrite them"


@dataclass(frozen=True)
class ClientKit:
    """The kit of one service.

    Args:
        service: its name.
        release: id of the release that serves; '' for none.
        engine: of it.
        folder: where the kit is kept on the controller; '' where there is none.
        files: file name -> new, updated, unchanged or changed here.
        problem: why there is no kit, or it was kept as it was; '' where it is there.
        fix: what to do about that.
    """

    service: str
    release: str
    engine: str
    folder: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    problem: str = ""
    fix: str = ""

    @property
    def written(self) -> tuple[str, ...]:
        """The files that were written, or would be."""
        return () if self.problem else tuple(name for name, one in self.files.items() if one != folders.UNCHANGED)


@dataclass(frozen=True)
class HostKits(HostAnswer):
    """The kits of a host's services."""

    kits: tuple[ClientKit, ...] = ()


@dataclass(frozen=True)
class Client(Answer[HostKits]):
    """The kits of all hosts' services."""

    @property
    def exit_code(self) -> int:
        """0 all kits are here, 1 some are not or were changed here, 2 not all hosts were asked."""
        if not self.hosts or self.failures:
            return 2
        return 1 if any(kit.problem for host in self.hosts.values() for kit in host.kits) else 0


def client_of(
    summary: Summary, output: str, services: Collection[str], into: Path, check: bool = False, force: bool = False
) -> Client:
    """What a run of the playbook `client` came to, and what becomes of it in a folder.

    Args:
        summary: of the run.
        output: what Ansible printed.
        services: only these; all where none is named.
        into: the folder of all kits.
        check: write nothing.
        force: overwrite what was changed there.
    Raises:
        DeployError: a service that is named is on no host.
    """
    raws = {name: host.reports.get(results.CLIENT, {}) for name, host in summary.hosts.items()}
    told = {name: _kits_of(raw.get("kits", [])) for name, raw in raws.items()}
    present = [str(one["service"]) for kits in told.values() for one in kits or ()]
    wanted = known_services(services if present else (), present)
    hosts = {}
    for name, host in summary.hosts.items():
        kits = tuple(_kept(one, into, name, check, force) for one in told[name] or () if one["service"] in wanted)
        failure = "" if raws[name] else host.failure or NOT_ASKED
        if told[name] is None:
            failure = "what it answered of its kits makes no sense. Fix: see what is installed there"
        hosts[name] = HostKits(name, not host.unreachable, failure, raws[name], kits)
    return Client(hosts, summary, output)


def _kits_of(value: Any) -> list[Mapping[str, Any]] | None:
    """The kits that a host told of; None where that is something else."""
    if not isinstance(value, list):
        return None
    for one in value:
        if not isinstance(one, Mapping) or not isinstance(one.get("service"), str):
            return None
        files = one.get("files", {})
        if not one.get("problem") and not (
            isinstance(files, Mapping) and all(isinstance(text, str) for text in files.values())
        ):
            return None
    return value


def _kept(kit: Mapping[str, Any], into: Path, host: str, check: bool, force: bool) -> ClientKit:
    service, release, engine = (str(kit.get(key) or "") for key in ("service", "release", "engine"))
    if kit.get("problem"):
        return ClientKit(service, release, engine, problem=str(kit["problem"]), fix=str(kit.get("fix") or ""))
    try:
        return _put(kit, into, host, check, force)
    except DeployError as error:  # of this one alone
        return ClientKit(service, release, engine, problem=error.problem, fix=error.fix)


def _put(kit: Mapping[str, Any], into: Path, host: str, check: bool, force: bool) -> ClientKit:
    service, release, engine = (str(kit.get(key) or "") for key in ("service", "release", "engine"))
    folder = folders.kit_folder(into, host, service)
    given = kit.get("files", {})
    files = {name: given[name].encode(errors="replace").decode() for name in KIT_FILES if name in given}
    states = folders.compared(folder, files)
    changed = [name for name, one in states.items() if one == folders.CHANGED_HERE]
    if changed and not force:
        problem = CHANGED.format(folder=folder, names=", ".join(changed))
        return ClientKit(service, release, engine, str(folder), states, problem, KEEP)
    if not check:
        folders.write(folder, files, states)
    return ClientKit(service, release, engine, str(folder), states)
