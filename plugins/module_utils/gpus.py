"""The GPUs of a host, as data that travels to the controller."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError


@dataclass(frozen=True)
class GpuProcess:
    """A process that computes on a GPU.

    `memory` in bytes, 0 when nvidia-smi does not say. `user` is '' until someone asked /proc. `service` is filled by
    whoever knows the host's services.
    """

    pid: int
    user: str
    command: str
    memory: int
    service: str = ""


@dataclass(frozen=True)
class Gpu:
    """A GPU. Memory in bytes, 0 where nvidia-smi does not say.

    `index` is the position in nvidia-smi's list, which NVML enumerates in the order of the PCI bus: CUDA counts alike
    only with CUDA_DEVICE_ORDER=PCI_BUS_ID (CUDA C++ Programming Guide, environment variables). `pci` as in
    /sys/bus/pci/devices; `compute_capability` as '9.0', '' when unknown; `minor` is N of /dev/nvidiaN, None when
    unknown; `trouble` is for people, one line each, empty when the GPU is well.
    """

    index: int
    uuid: str
    product: str
    memory_total: int
    memory_reserved: int
    memory_used: int
    memory_free: int
    compute_capability: str
    mig: bool
    mig_devices: int
    trouble: tuple[str, ...]
    processes: tuple[GpuProcess, ...]
    pci: str
    minor: int | None


@dataclass(frozen=True)
class GpuFacts:
    """The GPUs of a host.

    `driver` and `cuda` are versions, '' when unknown. `links` says how two GPUs reach each other ('NV18', 'PIX', 'SYS'
    …), keyed '0-1' by their indices, the smaller first; empty when unknown. `problem` is one line on why there are no
    GPUs or, next to `gpus`, on what could not be read; '' when there is nothing to say.
    """

    driver: str
    cuda: str
    gpus: tuple[Gpu, ...]
    links: Mapping[str, str]
    problem: str

    def as_dict(self) -> dict[str, Any]:
        """The facts as JSON holds them: dicts, lists, strings and numbers."""
        gpus = [{**dataclasses.asdict(gpu), "trouble": list(gpu.trouble)} for gpu in self.gpus]
        for gpu in gpus:
            gpu["processes"] = list(gpu["processes"])
        return {**vars(self), "gpus": gpus, "links": dict(self.links)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> GpuFacts:
        """The facts that `as_dict` gave.

        Raises:
            DeployError: a field is missing or of another type.
        """
        try:
            links = {_kept(str, pair): _kept(str, link) for pair, link in value["links"].items()}
            gpus = tuple(_gpu_from(gpu) for gpu in value["gpus"])
            return cls(**_strings(value, "driver", "cuda", "problem"), gpus=gpus, links=links)
        except (AttributeError, KeyError, TypeError) as error:
            raise DeployError(f"not the GPU facts of a host: {error!r}", "read them from the host again") from None


Kept = TypeVar("Kept", str, int)


def _kept(kind: type[Kept], value: Any) -> Kept:
    # Subclasses pass: Ansible hands out strings and numbers of its own.
    if isinstance(value, kind) and not isinstance(value, bool):
        return value
    raise TypeError(f"{value!r} is no {kind.__name__}")


def _strings(value: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: _kept(str, value[name]) for name in names}


def _integers(value: Mapping[str, Any], *names: str) -> dict[str, Any]:
    return {name: _kept(int, value[name]) for name in names}


def _gpu_from(value: Mapping[str, Any]) -> Gpu:
    if not isinstance(value["mig"], bool):
        raise TypeError(f"mig: {value['mig']!r} is no bool")
    memory = (f"memory_{part}" for part in ("total", "reserved", "used", "free"))
    return Gpu(
        **_strings(value, "uuid", "product", "compute_capability", "pci"),
        **_integers(value, "index", "mig_devices", *memory),
        mig=value["mig"],
        minor=None if value["minor"] is None else _kept(int, value["minor"]),
        trouble=tuple(_kept(str, line) for line in value["trouble"]),
        processes=tuple(
            GpuProcess(**_strings(process, "user", "command", "service"), **_integers(process, "pid", "memory"))
            for process in value["processes"]
        ),
    )
