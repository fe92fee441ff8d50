"""Test doubles of what a plan is made from: a host's facts, described services, environments and models.

Everything that takes time is made once, so that a hundred hosts cost little more than one.
"""

from __future__ import annotations

import copy
import dataclasses
import functools
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.engines.option_table import Option, OptionTable
from ansible_collections.deployer.sglang.plugins.module_utils.environments.report import EnvironmentReport
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.gpus import Gpu, GpuFacts
from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import UNLIMITED, HostFacts
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import list_files
from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import ModelFacts, read_model
from ansible_collections.deployer.sglang.plugins.module_utils.nvidia_smi import parse_query, parse_topology
from ansible_collections.deployer.sglang.plugins.module_utils.plan.host_plan import HostPlan, plan_host
from ansible_collections.deployer.sglang.plugins.module_utils.plan.service_plan import Surroundings
from ansible_collections.deployer.sglang.plugins.module_utils.service import Service
from ansible_collections.deployer.sglang.plugins.module_utils.service_description import parse_services
from tests.doubles import nvidia_smi
from tests.doubles.published_models import publish

GIB = 2**30
ROOT = "/opt/inference"
QWEN3 = "Qwen/Qwen3-14B"
MODEL = "/data/saves/qwen3-14b-ft-20250710_154849"
ENVIRONMENTS = {"sglang": {"prefix": "/opt/conda/envs/sglang"}, "llamafactory": {"prefix": "/opt/conda/envs/lf"}}
# A service that nothing is to be found at: two GPUs of eight, an address of its own, nothing asked of the pool.
DESCRIPTION: dict[str, Any] = {
    "name": "code2sql",
    "port": 8001,
    "host": "10.0.0.5",
    "model": {"name": "code2sql", "source": MODEL},
    "gpus": [6, 7],
    "engine": "sglang",
    "environment": "sglang",
    "options": {"tensor_parallel_size": 2},
}
# Of 0.5.23's options those that a plan looks at, and some of other kinds.
SGLANG_OPTIONS = (
    *(
        Option((f"--{long}", f"--{short}"), "int")
        for long, short in (
            ("tensor-parallel-size", "tp-size"),
            ("pipeline-parallel-size", "pp-size"),
            ("data-parallel-size", "dp-size"),
            ("expert-parallel-size", "ep-size"),
            ("attention-data-parallel-size", "attn-dp-size"),
        )
    ),
    *(
        Option((f"--{name}",), "int")
        for name in ("nnodes", "nccl-port", "max-running-requests", "max-total-tokens", "log-requests-level")
    ),
    *(Option((f"--{name}",), "size") for name in ("context-length", "chunked-prefill-size")),
    *(Option((f"--{name}",), "flag") for name in ("enable-metrics", "log-requests", "enable-dp-attention")),
    *(Option((f"--{name}",), "flag") for name in ("disable-cuda-graph", "mm-enable-dp-encoder")),
    Option(("--mem-fraction-static",), "float"),
    Option(("--dtype",), "str", ("auto", "half", "bfloat16", "float32")),
    Option(("--kv-cache-dtype",), "str", ("auto", "bfloat16", "fp8_e4m3", "fp8_e5m2")),
    Option(("--quantization",), "str", ("awq", "fp8", "gptq")),
    Option(("--dist-init-addr", "--nccl-init-addr"), "str"),
    Option(("--chat-template",), "str"),
    Option(("--cuda-graph-bs",), "int", None, True),
    Option(("--disable-radix",), "flag", deprecated="use disable_radix_cache instead"),
)
LLAMAFACTORY_OPTIONS = (
    *(Option((f"--{name}",), "str") for name in ("template", "default_system", "infer_backend")),
    *(Option((f"--{name}",), "float") for name in ("temperature", "top_p", "repetition_penalty")),
    *(Option((f"--{name}",), "int") for name in ("top_k", "max_new_tokens")),
)
VERSIONS = {"sglang": "0.5.23", "llamafactory": "0.9.3"}
OPTIONS = {"sglang": SGLANG_OPTIONS, "llamafactory": LLAMAFACTORY_OPTIONS}
TEMPLATES = {"default": "", "qwen": "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."}


def host_facts(gpus: GpuFacts | int = 8, **changes: Any) -> HostFacts:
    """A host with nothing to find fault with.

    Args:
        gpus: as `gpu_facts` gives them, or the number of idle H100s.
        changes: other fields of it.
    """
    known: dict[str, Any] = {
        "python": "3.11.9",
        "system": "Linux",
        "machine": "x86_64",
        "glibc": "2.35",
        "uid": 0,
        "systemd": True,
        "name": "gpu-1",
        "address": "10.0.0.5",
        "root_folder": "/opt",
        "root_writable": True,
        "disk_free": 2000 * GIB,
        "memory": 2048 * GIB,
        "shm": 1024 * GIB,
        "nofile": 2**20,
        "nr_open": 2**20,
        "memlock": UNLIMITED,
        "ephemeral": (32768, 60999),
        "gpus": gpu_facts(gpus) if isinstance(gpus, int) else gpus,
    }
    return HostFacts(**{**known, **changes})


def gpu_facts(
    count: int = 8,
    link: str | Mapping[str, str] = "NV18",
    users: Mapping[int, str] | None = None,
    services: Mapping[int, str] | None = None,
    **document: Any,
) -> GpuFacts:
    """GPUs as a host's probe reports them.

    Args:
        count: of GPUs; H100s unless `document` has another `product`.
        link: between any two, or by pair ('0-1') where the others are SYS.
        users: pid -> user, as /proc would have them.
        services: pid -> service of the deployment.
        document: `processes`, `mig`, `trouble`, `used` and the like (`nvidia_smi.host`).
    """
    if count == 0:
        return GpuFacts("", "", (), {}, "nvidia-smi is not installed")
    facts = parse_query(nvidia_smi.host(count=count, **document)) if document else _idle(count)
    links = _links(count, link) if isinstance(link, str) else parse_topology(nvidia_smi.topology(count, link))

    def owned(gpu: Gpu) -> Gpu:
        processes = tuple(
            dataclasses.replace(one, user=(users or {}).get(one.pid, ""), service=(services or {}).get(one.pid, ""))
            for one in gpu.processes
        )
        return dataclasses.replace(gpu, processes=processes)

    return dataclasses.replace(facts, gpus=tuple(map(owned, facts.gpus)) if document else facts.gpus, links=links)


@functools.cache
def _idle(count: int) -> GpuFacts:
    return parse_query(nvidia_smi.host(count=count))


@functools.cache
def _links(count: int, link: str) -> dict[str, str]:
    return parse_topology(nvidia_smi.topology(count, link)) if count > 1 else {}


def described(*services: Mapping[str, Any], environments: Mapping[str, Any] = ENVIRONMENTS) -> tuple[Service, ...]:
    """Services as the inventory's reader makes them of `DESCRIPTION` and the keys that each says otherwise.

    A key with the value None is left out.
    """
    merged = [{**copy.deepcopy(DESCRIPTION), **one} for one in services or ({},)]
    raw = [{key: value for key, value in one.items() if value is not None} for one in merged]
    return parse_services(raw, environments)[0]


def environment(name: str = "sglang", options: Iterable[Option] | None = (), **changes: Any) -> EnvironmentReport:
    """An environment with the engine of its name.

    Args:
        name: sglang or llamafactory.
        options: beside those of `OPTIONS`; None when they could not be read.
        changes: other fields of it.
    """
    version = (changes.get("versions") or VERSIONS).get(name, "")
    table = None if options is None else OptionTable(name, version, (*OPTIONS[name], *options))
    known: dict[str, Any] = {
        "path": ENVIRONMENTS[name]["prefix"],
        "digest": "e" * 64,
        "versions": {name: version, "torch": "2.9.1+cu128"},
        "glibc": "2.28",
        "cuda": "12.8",
        "options": {name: table} if table else {},
        "templates": TEMPLATES if name == "llamafactory" else {},
    }
    return EnvironmentReport(name, **{**known, **changes})


@functools.cache
def model(name: str = QWEN3) -> ModelFacts:
    """The facts of a published checkpoint (tests/doubles/published_models.py), read once."""
    with tempfile.TemporaryDirectory() as folder:
        publish(Path(folder), name)
        return dataclasses.replace(read_model(folder, list_files(folder)), path=MODEL)


def planned(
    *services: Mapping[str, Any],
    host: HostFacts | None = None,
    environments: Sequence[EnvironmentReport] | None = None,
    models: Mapping[str, ModelFacts | DeployError] | None = None,
    supervisor: str = "systemd",
    needed: int = 0,
    policy: Mapping[str, str] | None = None,
    reachable: bool = True,
) -> HostPlan:
    """The plan of services, as `described` takes them, on a host that everything is well with unless said otherwise."""
    reports = (environment("sglang"), environment("llamafactory")) if environments is None else environments
    around = Surroundings(
        host=host or host_facts(),
        environments={one.name: one for one in reports},
        models={MODEL: model()} if models is None else models,
        reachable=reachable,
    )
    return plan_host(described(*services), around, ROOT, supervisor, needed, policy or {})
