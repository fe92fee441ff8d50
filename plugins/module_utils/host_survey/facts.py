"""What a host says of itself before there is an inventory, as data that travels to the controller.

Nothing in it is secret: values of options and variables that are, stay on the host, and only their names travel.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import FIX, HostFacts


@dataclass(frozen=True)
class Disk:
    """A file system: where it is mounted, bytes that are free, and whether the one who looked may write there."""

    mount: str
    free: int
    writable: bool


@dataclass(frozen=True)
class FoundEnvironment:
    """An environment with an engine in it.

    Attributes:
        path: its real path.
        kind: conda, mamba, venv, … or deployer.
        owner: the user whose it is.
        python: version of its Python.
        cuda: the CUDA runtime that it brings; '' for none.
        versions: of the packages that tell what it is for.
        suits: the engines in it.
        open_to_all: every user of the host can read it.
        problem: what is wrong with it; '' when nothing is.
    """

    path: str
    kind: str = ""
    owner: str = ""
    python: str = ""
    cuda: str = ""
    versions: Mapping[str, str] = field(default_factory=dict)
    suits: tuple[str, ...] = ()
    open_to_all: bool = False
    problem: str = ""


@dataclass(frozen=True)
class FoundServer:
    """What serves a port.

    Attributes:
        port, address: that it listens on.
        engine: llamafactory, sglang, vllm or unknown.
        who: pid, user and the beginning of its command, for people.
        started: when, in UTC.
        model: absolute path of its folder, or what was given instead, such as a hub's name.
        model_is_folder: True where that is a folder on the host.
        model_open: every user of the host can read that folder.
        served_name: that clients send; '' where it tells none.
        gpus: indices and UUIDs that it computes on.
        gpus_from: nvidia-smi, or the variable that it was given; '' where neither tells.
        options: of its command line, in snake_case, with their words; none that is a secret.
        withheld: names of the options and variables that are, or hold, a secret.
        asks_for_key: clients have to send a key.
        prefix: the environment that it runs from; '' where that was not found.
        deployed: the service of the deployment at `HostSurvey.root` whose process it is; ''.
        release: that it was started as by a deployment, of whatever root folder; ''.
        supervision: hand, refused, or unit with its name.
        problem, fix: why a rollout cannot adopt it, and what to do about that; '' where it can.
    """

    port: int
    address: str
    engine: str
    who: str
    started: str = ""
    model: str = ""
    model_is_folder: bool = False
    model_open: bool = False
    served_name: str = ""
    gpus: tuple[str, ...] = ()
    gpus_from: str = ""
    options: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    withheld: tuple[str, ...] = ()
    asks_for_key: bool = False
    prefix: str = ""
    deployed: str = ""
    release: str = ""
    supervision: str = ""
    problem: str = ""
    fix: str = ""


@dataclass(frozen=True)
class HostSurvey:
    """A host, seen before it was described.

    Attributes:
        host: its facts, with the deployment at `root`, or the room at the root folder by default.
        root: the root folder of a deployment that is there; '' where none was found.
        login: who logged in.
        home: that user's home.
        by_sudo: it was looked at as root, by sudo.
        disks: local file systems, the freest first.
        environments: with an engine in them, by path.
        servers: what serves, by port.
        unseen_ports: that processes of others listen on whom this user cannot look at.
        left_out: what was not looked at, a line each.
    """

    host: HostFacts
    login: str
    home: str
    by_sudo: bool
    root: str = ""
    disks: tuple[Disk, ...] = ()
    environments: tuple[FoundEnvironment, ...] = ()
    servers: tuple[FoundServer, ...] = ()
    unseen_ports: tuple[int, ...] = ()
    left_out: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, Any]:
        """The survey as JSON holds it."""
        return {
            **{one.name: getattr(self, one.name) for one in dataclasses.fields(self)},
            "host": self.host.as_dict(),
            "disks": [dataclasses.asdict(one) for one in self.disks],
            "environments": [dataclasses.asdict(one) for one in self.environments],
            "servers": [dataclasses.asdict(one) for one in self.servers],
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> HostSurvey:
        """The survey that `as_dict` gave.

        Raises:
            DeployError: a field is missing, unknown or of another type.
        """
        try:
            parts = {
                "host": HostFacts.from_dict(value["host"]),
                "disks": tuple(_made(Disk, one) for one in value["disks"]),
                "environments": tuple(_made(FoundEnvironment, one) for one in value["environments"]),
                "servers": tuple(_made(FoundServer, one) for one in value["servers"]),
                "unseen_ports": tuple(_kept(int, one) for one in value["unseen_ports"]),
            }
            return _made(cls, {**value, **parts})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise DeployError(f"not the survey of a host: {error!r}", FIX) from None


Made = TypeVar("Made")
Scalar = TypeVar("Scalar", str, int, bool)


def _made(kind: type[Made], value: Mapping[str, Any]) -> Made:
    """A dataclass of a mapping, each field of the type that it is declared with."""
    types = {one.name: str(one.type) for one in dataclasses.fields(kind)}  # type: ignore[arg-type]
    return kind(**{name: _field(types.get(name, ""), one) for name, one in value.items()})


def _field(declared: str, value: Any) -> Any:
    if declared in ("str", "int", "bool"):
        return _kept({"str": str, "int": int, "bool": bool}[declared], value)
    if declared == "tuple[str, ...]":
        return tuple(_kept(str, one) for one in value)
    if declared == "Mapping[str, str]":
        return {_kept(str, name): _kept(str, one) for name, one in value.items()}
    if declared == "Mapping[str, tuple[str, ...]]":
        return {_kept(str, name): tuple(_kept(str, one) for one in words) for name, words in value.items()}
    return value


def _kept(kind: type[Scalar], value: Any) -> Scalar:
    # Subclasses pass: Ansible hands out strings and numbers of its own.
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    raise TypeError(f"{value!r} is no {kind.__name__}")
