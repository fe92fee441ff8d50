"""Releases: everything that determines what runs, and the id that is its digest."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.engines import engine_named
from ansible_collections.deployer.sglang.plugins.module_utils.engines.base import Endpoint
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import canonical_json, pretty_json, read_json
from ansible_collections.deployer.sglang.plugins.module_utils.service import Gate, Service
from ansible_collections.deployer.sglang.plugins.module_utils.store import SHORT, Store

SCHEMA = 1
RELEASE_FILE = "release.json"
LAUNCH_FILE = "launch.sh"
UNIT_FILE = "unit.service"
GATE_FILE = "gate.json"
# Set in the launch script: a running process tells by it which release it is.
RELEASE_VARIABLE = "INFERENCE_RELEASE"
LOOPBACK = ("localhost", "127.0.0.1", "0.0.0.0", "::1")


@dataclass(frozen=True)
class Artifact:
    """An artifact on a host: its name, the digest of its content, and the folder it lies in."""

    name: str
    digest: str
    path: str


@dataclass(frozen=True)
class Placement:
    """What the host adds to a service: where things lie, who runs them, how they are kept alive, its own address."""

    root: str
    supervisor: str
    user: str
    address: str


@dataclass(frozen=True)
class Release:
    """What runs. `argv` starts with the environment's python; `variables` is the whole environment of the process.

    `user` is empty where the user who acts on the host is the one who runs it: with the process supervisor.
    """

    service: str
    engine: str
    argv: tuple[str, ...]
    variables: Mapping[str, str]
    environment: Artifact
    model: Artifact
    served_name: str
    gpus: tuple[str, ...]
    host: str
    port: int
    supervisor: str
    user: str
    root: str
    working_directory: str
    stop_timeout: int

    @property
    def unit(self) -> str:
        """The name of the systemd unit."""
        return f"inference-{self.service}.service"

    @property
    def cache(self) -> str:
        """The compile caches of this release's environment."""
        return Store(self.root).cache(self.environment.digest)

    @property
    def option_argv(self) -> tuple[str, ...]:
        """The words that the engine's own parser sees: what follows `-m MODULE [COMMAND]`."""
        rest = self.argv[3:]
        return rest[1:] if rest and not rest[0].startswith("-") else rest

    def as_dict(self) -> dict[str, Any]:
        """The release as release.json holds it, without its id."""
        return {"schema": SCHEMA, **dataclasses.asdict(self)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Release:
        """The release that `as_dict` gave.

        Raises:
            DeployError: a field is missing or unknown.
        """
        try:
            fields = {field.name: value[field.name] for field in dataclasses.fields(cls)}
            fields["environment"] = Artifact(**fields["environment"])
            fields["model"] = Artifact(**fields["model"])
            fields["argv"] = tuple(fields["argv"])
            fields["gpus"] = tuple(fields["gpus"])
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise DeployError(f"not a release: {error!r}", "stage the release again") from None


@dataclass(frozen=True)
class StagedRelease:
    """A release with its id and the texts that run it, as they lie in its folder."""

    id: str
    release: Release
    launch: str
    unit: str


def plan_release(service: Service, environment: Artifact, model: Artifact, placement: Placement) -> Release:
    """What has to run for `service` with these artifacts on this host: a pure function of its arguments."""
    engine = engine_named(service.engine)
    store = Store(placement.root)
    endpoint = Endpoint(service.host, service.port, model.path, service.model.name)
    folder = store.service(service.name)
    return Release(
        service=service.name,
        engine=service.engine,
        argv=(os.path.join(environment.path, "bin", "python"), *engine.command(endpoint, service.options)),
        variables={
            **base_variables(environment.path, store.cache(environment.digest), folder.state, placement.address),
            "CUDA_VISIBLE_DEVICES": ",".join(service.gpus),
            **engine.variables(endpoint),
            **service.environment_variables,
        },
        environment=environment,
        model=model,
        served_name=service.model.name,
        gpus=service.gpus,
        host=service.host,
        port=service.port,
        supervisor=placement.supervisor,
        user=placement.user if placement.supervisor == "systemd" else "",
        root=placement.root,
        working_directory=folder.state,
        stop_timeout=service.stop_timeout,
    )


def base_variables(prefix: str, cache: str, home: str, address: str) -> dict[str, str]:
    """The environment variables of every release, whatever its engine.

    CUDA_DEVICE_ORDER makes indices those of nvidia-smi. NO_PROXY keeps SGLang's warm-up request to itself out of a
    proxy (sglang issues 9814, 9155). The cache folders keep compiled kernels across releases: cold compilation costs
    10 to 30 minutes (sglang PR 5580). SPT_NOENV keeps setproctitle, which SGLang uses, from overwriting the environment
    that RELEASE_VARIABLE is read from.
    """
    no_proxy = ",".join(dict.fromkeys((*LOOPBACK, address)))
    return {
        "CONDA_PREFIX": prefix,
        "CUDA_DEVICE_ORDER": "PCI_BUS_ID",
        "FLASHINFER_WORKSPACE_BASE": cache,
        "HF_HUB_OFFLINE": "1",
        "HOME": home,
        "LANG": "C.UTF-8",
        "NO_PROXY": no_proxy,
        "PATH": f"{prefix}/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONUNBUFFERED": "1",
        "SGLANG_CACHE_DIR": f"{cache}/sglang",
        "SGLANG_DG_CACHE_DIR": f"{cache}/deep_gemm",
        "SPT_NOENV": "1",
        "TORCHINDUCTOR_CACHE_DIR": f"{cache}/torchinductor",
        "TRITON_CACHE_DIR": f"{cache}/triton",
        "XDG_CACHE_HOME": f"{cache}/xdg",
        "no_proxy": no_proxy,
    }


def reserved_variables(engine: str) -> frozenset[str]:
    """Names of the environment variables that the deployment sets itself, for any release of `engine`."""
    endpoint = Endpoint("", 0, "", "")
    own = {RELEASE_VARIABLE, "CUDA_VISIBLE_DEVICES"}
    return frozenset({*own, *base_variables("", "", "", ""), *engine_named(engine).variables(endpoint)})


def release_id(release: Release, launch_without_id: str, unit: str) -> str:
    """The digest, cut to 12 hex digits, of the release and of the texts that run it. Same inputs, same id."""
    inputs = {"release": release.as_dict(), "launch": launch_without_id, "unit": unit}
    return hashlib.sha256(canonical_json(inputs).encode()).hexdigest()[:SHORT]


def files_of(staged: StagedRelease) -> dict[str, str]:
    """File name -> text of the immutable files in a release's folder."""
    return {
        RELEASE_FILE: pretty_json({"id": staged.id, **staged.release.as_dict()}),
        LAUNCH_FILE: staged.launch,
        UNIT_FILE: staged.unit,
    }


def load_release(folder: str) -> StagedRelease:
    """The release that lies in `folder`.

    Raises:
        DeployError: the folder or one of its files is missing or is not what was staged.
    """
    value = read_json(os.path.join(folder, RELEASE_FILE))
    if not isinstance(value, dict) or value.get("id") != os.path.basename(folder):
        raise DeployError(f"{folder} holds no staged release", "deploy again: staging writes it anew")
    texts = {}
    for name in (LAUNCH_FILE, UNIT_FILE):
        try:
            with open(os.path.join(folder, name), encoding="utf-8") as stream:
                texts[name] = stream.read()
        except FileNotFoundError:
            raise DeployError(f"{folder}/{name} is missing", "deploy again: staging writes it anew") from None
    return StagedRelease(value["id"], Release.from_dict(value), texts[LAUNCH_FILE], texts[UNIT_FILE])


def load_gate(folder: str) -> Gate:
    """The gate of the release in `folder`; the default one where none was written."""
    value = read_json(os.path.join(folder, GATE_FILE)) or {}
    known = {field.name for field in dataclasses.fields(Gate)}
    return Gate(**{key: number for key, number in value.items() if key in known})
