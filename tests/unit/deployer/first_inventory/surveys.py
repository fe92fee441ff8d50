"""Hosts as they were seen, in the shapes that teams have."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.gpus import Gpu, GpuFacts, GpuProcess
from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import UNLIMITED, HostFacts
from ansible_collections.deployer.sglang.plugins.module_utils.host_survey.facts import (
    Disk,
    FoundEnvironment,
    FoundServer,
    HostSurvey,
)
from deployer.first_inventory.inventory import FirstInventory, first_inventory
from deployer.first_inventory.survey import Seen
from deployer.first_inventory.targets import Target

GIB = 2**30
MODEL = "/data/saves/qwen3-14b-ft-20250710_154849"
DAY = "2026-11-29"


def gpus(count: int, busy: int | None = None, pid: int = 26120) -> GpuFacts:
    """So many H100s, one of which a process computes on."""

    def one(index: int) -> Gpu:
        processes = (GpuProcess(pid, "me", "python", 30 * GIB),) if index == busy else ()
        return Gpu(
            index=index, uuid=f"GPU-{index:08d}", product="NVIDIA H100 80GB HBM3", memory_total=80 * GIB,
            memory_reserved=0, memory_used=0, memory_free=80 * GIB, compute_capability="9.0", mig=False, mig_devices=0,
            trouble=(), processes=processes, pci=f"0000:{index:02x}:00.0", minor=index,
        )  # fmt: skip

    problem = "" if count else "nvidia-smi is not installed"
    return GpuFacts("570.86" if count else "", "12.8" if count else "", tuple(map(one, range(count))), {}, problem)


def facts(**changes: Any) -> HostFacts:
    """A host with eight GPUs, looked at as root."""
    values: dict[str, Any] = {
        "python": "3.11.2", "system": "Linux", "machine": "x86_64", "glibc": "2.36", "uid": 0, "systemd": True,
        "name": "gpu1", "address": "10.0.0.1", "root_folder": "/opt", "root_writable": True, "disk_free": 900 * GIB,
        "memory": 512 * GIB, "shm": 64 * GIB, "nofile": UNLIMITED, "nr_open": 2**20, "memlock": UNLIMITED,
        "ephemeral": (32768, 60999), "gpus": gpus(8, busy=7),
    }  # fmt: skip
    return HostFacts(**{**values, **changes})


SGLANG = FoundEnvironment(
    "/opt/conda/envs/sglang", "conda", "root", "3.12.1", "12.6", {"sglang": "0.4.9.post2", "torch": "2.7.1"},
    ("sglang",), True,
)  # fmt: skip
FACTORY = FoundEnvironment(
    "/opt/conda/envs/llamafactory",
    "conda",
    "root",
    "3.11.9",
    "12.6",
    {"llamafactory": "0.9.5"},
    ("llamafactory",),
    True,
)


def factory(**changes: Any) -> FoundServer:
    """The team's LLaMA-Factory, by hand."""
    server = FoundServer(
        port=8001, address="0.0.0.0", engine="llamafactory", who="pid 26120 of me: uv run python",
        started="2026-11-28T09:12:44Z", model=MODEL, model_is_folder=True, model_open=True, served_name="code2sql",
        gpus=("7",), gpus_from="nvidia-smi",
        options={"model_name_or_path": (MODEL,), "template": ("qwen",)}, supervision="hand",
        prefix=FACTORY.path,
    )  # fmt: skip
    return replace(server, **changes)


def sglang(**changes: Any) -> FoundServer:
    """SGLang, by hand, as in the team's document."""
    options = {
        "model_path": (MODEL,), "host": ("0.0.0.0",), "port": ("8001",), "tensor_parallel_size": ("2",),
        "tp_size": ("2",), "max_running_requests": ("100",), "enable_metrics": (), "log_requests": (),
        "log_requests_level": ("1",), "mem_fraction_static": ("0.85",), "served_model_name": ("code2sql",),
    }  # fmt: skip
    server = FoundServer(
        port=8001, address="0.0.0.0", engine="sglang", who="pid 311 of me: python -m sglang.launch_server",
        started="2026-11-28T09:12:44Z", model=MODEL, model_is_folder=True, model_open=True, served_name="code2sql",
        gpus=("6", "7"), gpus_from="nvidia-smi", options=options, supervision="hand", prefix=SGLANG.path,
    )  # fmt: skip
    return replace(server, **changes)


def survey(*servers: FoundServer, **changes: Any) -> HostSurvey:
    """A host on which these serve."""
    values: dict[str, Any] = {
        "host": facts(), "login": "deploy", "home": "/home/deploy", "by_sudo": True,
        "disks": (Disk("/data", 7000 * GIB, True), Disk("/", 900 * GIB, True)),
        "environments": (FACTORY, SGLANG), "servers": servers,
    }  # fmt: skip
    return HostSurvey(**{**values, **changes})


def inventory_of(**hosts: HostSurvey | Seen) -> FirstInventory:
    """The inventory of hosts by name."""
    seen = [one if isinstance(one, Seen) else Seen(Target(name), one) for name, one in hosts.items()]
    return first_inventory(seen, {}, DAY, "fleet")
