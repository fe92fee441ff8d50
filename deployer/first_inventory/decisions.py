"""What is written for a host that was seen: decided from its survey alone; pure functions."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from packaging.version import InvalidVersion, Version

from ansible_collections.deployer.sglang.plugins.module_utils.host_survey.facts import (
    Disk,
    FoundEnvironment,
    HostSurvey,
)
from ansible_collections.deployer.sglang.plugins.module_utils.service_description import FOLDER
from deployer.first_inventory.services import Service, service_of, template

ROOT = "/opt/inference"
ENOUGH = 200 * 2**30  # bytes: the weights of one large model and an environment, twice
LOCK = "environments/sglang"
SYSTEMD, PROCESS = "systemd", "process"
DESCRIBABLE = ("llamafactory", "sglang", "vllm")


@dataclass(frozen=True)
class HostPlan:
    """What is written for a host.

    Attributes:
        become: become root.
        supervisor, root: as the settings have them.
        environments: `inference_environments`.
        services: what is to be served.
        others: what serves and cannot be described, a line each.
        cautions: what has to be looked at, a line each.
    """

    become: bool
    supervisor: str
    root: str
    environments: Mapping[str, Mapping[str, str]]
    services: tuple[Service, ...]
    others: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()

    @property
    def settings(self) -> dict[str, Any]:
        """The variables by name, in the order of a file."""
        return {
            "ansible_become": self.become,
            "inference_services": [dict(one.value) for one in self.services],
            "inference_environments": {name: dict(one) for name, one in self.environments.items()},
            "inference_root": self.root,
            "inference_supervisor": self.supervisor,
        }

    @property
    def fill_in(self) -> list[str]:
        """What a person has to say before this can be planned."""
        return [one.fill_in for one in self.services if one.fill_in]

    @property
    def look_at(self) -> list[str]:
        """What a person has to look at before a rollout."""
        return [*self.cautions, *(caution for one in self.services for caution in one.cautions), *self.others]

    @property
    def needs_lock(self) -> bool:
        """An environment is to be built from the lock that comes with this package."""
        return any(one.get("lock") == LOCK for one in self.environments.values())


def decide(survey: HostSurvey, weights_on: Mapping[str, str]) -> HostPlan:
    """What is written for one host.

    Args:
        survey: what it said.
        weights_on: folder of a model -> the host of the inventory that it is sent from, where it cannot be read where
            it lies.
    """
    supervisor = SYSTEMD if survey.host.uid == 0 and survey.host.systemd else PROCESS
    environments, cautions = _environments(survey, supervisor)
    prefixes = {one["prefix"]: name for name, one in environments.items() if "prefix" in one}
    services: list[Service] = []
    for server in survey.servers:
        if server.engine in DESCRIBABLE:
            services.append(service_of(server, survey, services, weights_on, prefixes))
    return HostPlan(
        become=survey.by_sudo,
        supervisor=supervisor,
        root=root_folder(survey),
        environments=environments,
        services=tuple(services or [template(survey)]),
        others=tuple(
            f"port {one.port}: {one.who} computes on a GPU and is no engine that is known; it is not described here"
            for one in survey.servers
            if one.engine not in DESCRIBABLE
        ),
        cautions=tuple(cautions),
    )


def closed_models(survey: HostSurvey) -> list[str]:
    """Folders of models that are served, and that the services' user could not read where they lie."""
    if survey.host.uid != 0 or not survey.host.systemd:
        return []  # whoever acts on the host runs the services
    return [one.model for one in survey.servers if one.model_is_folder and not one.model_open]


def root_folder(survey: HostSurvey) -> str:
    """Where everything is to lie: /opt, or the home of who may not write there; the freest disk where that is small."""
    if FOLDER.fullmatch(survey.root):
        return survey.root  # what was deployed there stays what it is
    home = posixpath.join(survey.home, "inference")
    default = ROOT if survey.host.uid == 0 or not FOLDER.fullmatch(home) else home
    own = disk_of(survey, default)
    freest = next((one for one in survey.disks if one.writable and FOLDER.fullmatch(one.mount)), None)
    if own is None or freest is None or own.free >= ENOUGH or freest.free <= own.free:
        return default
    return posixpath.join(freest.mount, "inference")


def disk_of(survey: HostSurvey, path: str) -> Disk | None:
    """The disk that a folder lies on; None where it is none of the survey's."""
    above = [one for one in survey.disks if path == one.mount or path.startswith(f"{one.mount.rstrip('/')}/")]
    return max(above, key=lambda one: len(one.mount), default=None)


def sglang_environments(survey: HostSurvey, supervisor: str) -> list[FoundEnvironment]:
    """The environments with SGLang that can be named, the best first: what serves from one, readable, newest."""
    serving = {one.prefix for one in survey.servers if one.engine == "sglang"}

    def rank(one: FoundEnvironment) -> tuple[bool, bool, Version]:
        return one.path in serving, one.open_to_all or supervisor == PROCESS, _version(one.versions.get("sglang", ""))

    usable = [one for one in survey.environments if "sglang" in one.suits and _nameable(one) and one.kind != "deployer"]
    return sorted(usable, key=rank, reverse=True)


def _nameable(one: FoundEnvironment) -> bool:
    return FOLDER.fullmatch(one.path) is not None and not one.problem


def _version(text: str) -> Version:
    try:
        return Version(text)
    except InvalidVersion:
        return Version("0")


def _environments(survey: HostSurvey, supervisor: str) -> tuple[dict[str, dict[str, str]], list[str]]:
    """`inference_environments`, and what has to be looked at of them."""
    found = sglang_environments(survey, supervisor)
    serving = {one.prefix for one in survey.servers if one.engine == "sglang"}
    chosen = [*found[:1], *(one for one in found[1:] if one.path in serving)]
    environments = {f"sglang-{at}" if at > 1 else "sglang": {"prefix": one.path} for at, one in enumerate(chosen, 1)}
    if not chosen:
        environments = {"sglang": {"lock": LOCK}}
    cautions = [
        f"{one.path} is closed to others than {one.owner}, and the services' user must read it: open it (chmod -R "
        f"o+rX, and o+x on the folders above it), or let one be built ({{lock: {LOCK}}}, docs/environments.md)"
        for one in chosen
        if supervisor == SYSTEMD and not one.open_to_all
    ]
    before = {one.prefix for one in survey.servers if one.engine == "llamafactory"}
    for one in survey.environments:
        readable = one.open_to_all or supervisor == PROCESS
        if one.path in before and "llamafactory" in one.suits and _nameable(one) and readable:
            environments.setdefault("llamafactory", {"prefix": one.path})
    return environments, cautions
