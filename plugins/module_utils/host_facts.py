"""What a host says of itself for a launch plan, as data that travels to the controller."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ansible_collections.deployer.sglang.plugins.module_utils.environments.report import EnvironmentReport
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.gpus import GpuFacts

UNLIMITED = -1
FIX = "deploy with the same version of this package everywhere"
_SCALARS: Mapping[str, type] = {"str": str, "int": int, "bool": bool}


@dataclass(frozen=True)
class Listener:
    """Who listens on a TCP port.

    Attributes:
        who: for people.
        service: whose it is, when it is one of the deployment's own.
        pids: the processes that hold the port, and what was started with them (their process groups).
        adopts: how a rollout takes it over, for people; '' where it does not.
        log: the file that it writes to and nothing rotates; '' for none.
    """

    port: int
    who: str
    service: str = ""
    pids: tuple[int, ...] = ()
    adopts: str = ""
    log: str = ""


@dataclass(frozen=True)
class Running:
    """What a service's folder says of it: its current release, and whether its process runs."""

    release: str
    engine: str
    served_name: str
    model: str
    port: int
    gpus: tuple[str, ...]
    runs: bool


@dataclass(frozen=True)
class HostFacts:
    """A host, seen once. Sizes in bytes, limits as the kernel counts them, `UNLIMITED` for none.

    Attributes:
        name, address: the host's own name, and what it resolves to; '' where it does not.
        root_folder: the nearest folder of the deployment's root that exists.
        shm: size of /dev/shm.
        nofile, memlock: hard limits of the user who acts on the host.
        nr_open: the most descriptors that the kernel lets any limit allow.
        ephemeral: first and last port that the kernel hands out by itself.
        models: folder names of models that are there -> digest of their files' names and sizes.
        built: folder names of environments that are built from a lock.
        incoming: bytes that broken transfers left, and the next one goes on from.
        environments: of every environment by prefix.
        condas: the condas that could build an environment there -> path.
        services: what is deployed, by service.
    """

    python: str
    system: str
    machine: str
    glibc: str
    uid: int
    systemd: bool
    name: str
    address: str
    root_folder: str
    root_writable: bool
    disk_free: int
    memory: int
    shm: int
    nofile: int
    nr_open: int
    memlock: int
    ephemeral: tuple[int, int]
    gpus: GpuFacts
    listeners: tuple[Listener, ...] = ()
    models: Mapping[str, str] = field(default_factory=dict)
    built: tuple[str, ...] = ()
    incoming: int = 0
    environments: Mapping[str, EnvironmentReport] = field(default_factory=dict)
    condas: Mapping[str, str] = field(default_factory=dict)
    services: Mapping[str, Running] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The facts as JSON holds them."""
        shallow = {one.name: getattr(self, one.name) for one in dataclasses.fields(self)}
        return {
            **shallow,
            "ephemeral": list(self.ephemeral),
            "gpus": self.gpus.as_dict(),
            "listeners": [dataclasses.asdict(one) for one in self.listeners],
            "built": list(self.built),
            "environments": {name: one.as_dict() for name, one in self.environments.items()},
            "services": {name: dataclasses.asdict(one) for name, one in self.services.items()},
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> HostFacts:
        """The facts that `as_dict` gave.

        Raises:
            DeployError: a field is missing, unknown or of another type.
        """
        try:
            low, high = value["ephemeral"]
            services = {name: {**one, "gpus": tuple(one["gpus"])} for name, one in value["services"].items()}
            fields = {
                **value,
                "incoming": value["incoming"],
                "ephemeral": (int(low), int(high)),
                "gpus": GpuFacts.from_dict(value["gpus"]),
                "listeners": tuple(
                    _checked(Listener, {**one, "pids": tuple(map(int, one.get("pids", ())))})
                    for one in value["listeners"]
                ),
                "models": {str(name): str(digest) for name, digest in value["models"].items()},
                "built": tuple(map(str, value["built"])),
                "condas": {str(name): str(path) for name, path in value["condas"].items()},
                "environments": {k: EnvironmentReport.from_dict(v) for k, v in value["environments"].items()},
                "services": {name: _checked(Running, one) for name, one in services.items()},
            }
            return _checked(cls, fields)
        except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError) as error:
            raise DeployError(f"not the facts of a host: {error!r}", FIX) from None


Facts = TypeVar("Facts", HostFacts, Listener, Running)


def _checked(kind: type[Facts], value: Mapping[str, Any]) -> Facts:
    facts = kind(**value)
    for one in dataclasses.fields(kind):
        found, wanted = getattr(facts, one.name), _SCALARS.get(str(one.type))
        # Subclasses pass: Ansible hands out strings and numbers of its own.
        if wanted and (not isinstance(found, wanted) or (wanted is int and isinstance(found, bool))):
            raise TypeError(f"{one.name}: {found!r} is no {wanted.__name__}")
    return facts
