"""Releases: everything that determines what runs, and the id that is its digest."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.engines import engine_named
from ansible_collections.deployer.sglang.plugins.module_utils.engines.base import Endpoint
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import (
    canonical_json,
    hash_file,
    pretty_json,
    read_json,
    read_text,
)
from ansible_collections.deployer.sglang.plugins.module_utils.service import Gate, Handover, Service
from ansible_collections.deployer.sglang.plugins.module_utils.store import SHORT, Store

SCHEMA = 1
RELEASE_FILE = "release.json"
LAUNCH_FILE = "launch.sh"
UNIT_FILE = "unit.service"
GATE_FILE = "gate.json"
HANDOVER_FILE = "handover.json"
SUMS_FILE = "SHA256SUMS"  # as `sha256sum -c` reads it
OPTIONAL = ("adopted", "identity_option")  # fields of a release that release.json has only where they say something
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
    `adopted` says of a release that was found running what else it takes to start it so (`adoption.record`); it is
    empty for what the deployment staged, whose release.json and id have no trace of it.
    `identity_option` takes the release's id, which the engine then tells; the id is a digest and cannot be in `argv`.
    It is empty, and without a trace, for an engine that has no such option.
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
    adopted: Mapping[str, Any] = field(default_factory=dict)
    identity_option: str = ""

    @property
    def required(self) -> tuple[tuple[str, str], ...]:
        """Paths without which it cannot run, each with what it is. Of the host's own units systemd knows them."""
        if self.adopted.get("by") == "unit":
            return ()
        if self.adopted:
            found = ((self.adopted["program"], "program"), (self.working_directory, "working folder"))
        else:
            found = ((self.argv[0], "environment"), (self.model.path, "model"))
        return tuple((path, what) for path, what in found if path)

    def command(self, identifier: str) -> tuple[str, ...]:
        """The whole command of the process, of the release with this id."""
        return (*self.argv, self.identity_option, identifier) if self.identity_option else self.argv

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
        value = dataclasses.asdict(self)
        for name in OPTIONAL:
            if not value[name]:
                del value[name]
        return {"schema": SCHEMA, **value}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Release:
        """The release that `as_dict` gave.

        Raises:
            DeployError: a field is missing or unknown.
        """
        try:
            fields = {one.name: value[one.name] for one in dataclasses.fields(cls) if one.name not in OPTIONAL}
            fields["adopted"] = dict(value.get("adopted") or {})
            fields["identity_option"] = str(value.get("identity_option") or "")
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


def plan_release(
    service: Service, environment: Artifact, model: Artifact, placement: Placement, versions: Mapping[str, str]
) -> Release:
    """What has to run for `service` with these artifacts on this host: a pure function of its arguments.

    Args:
        service: as described.
        environment: that it runs in.
        model: the weights.
        placement: what the host adds.
        versions: of the environment's packages, by PEP 503 name.
    """
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
        identity_option=engine.identity_in(versions.get(engine.package, ""), service.options),
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
    files = {
        RELEASE_FILE: pretty_json({"id": staged.id, **staged.release.as_dict()}),
        LAUNCH_FILE: staged.launch,
        UNIT_FILE: staged.unit,
    }
    sums = (f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n" for name, text in sorted(files.items()))
    return {**files, SUMS_FILE: "".join(sums)}


def verify_release(folder: str) -> None:
    """Compare a release's files with what was staged; one that was staged before there were sums is taken as it is.

    Raises:
        DeployError: a file was changed, or is gone.
    """
    for line in (read_text(os.path.join(folder, SUMS_FILE)) or "").splitlines():
        digest, _, name = line.partition("  ")
        try:
            found = hash_file(os.path.join(folder, os.path.basename(name)))
        except FileNotFoundError:
            found = "nothing"
        if found != digest:
            raise DeployError(
                f"{os.path.join(folder, name)} was changed after it was staged (sha256 wanted {digest}, found {found})",
                "deploy again: staging writes it anew",
            )


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
    return Gate.from_dict(read_json(os.path.join(folder, GATE_FILE)) or {})


def load_handover(*folders: str) -> Handover:
    """How requests are kept away, as the first of these releases' folders that says so has it; else the default."""
    values = (read_json(os.path.join(folder, HANDOVER_FILE)) for folder in folders if folder)
    return Handover.from_dict(next((value for value in values if value), {}))
