"""A deployment to this machine itself: its inventory, the command line, and what it left on the disk."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.deployer.sglang.plugins.module_utils import journal
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder, Store
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import supervisor_for
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import Supervisor, stop
from tests.gpu_proof.server import Server

REPOSITORY = Path(__file__).parents[2]
TIMEOUT = 1800  # seconds for one command
GATE = {"ready_timeout": 900, "min_healthy_time": 0}
# What the machine's own shell has and an engine may need; a release's environment is only what its service says.
PASSED_ON = ("CUDA_HOME", "LD_LIBRARY_PATH")
PASSED_ON_PREFIXES = ("NCCL_", "NVSHMEM_", "TORCH_SYMM_MEM_")
VERSIONS = """
import importlib.metadata as metadata, json, platform, sys
found = {"python": platform.python_version()}
for name in sys.argv[1:]:
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        pass
print(json.dumps(found))
"""


@dataclass(frozen=True)
class Finished:
    """A command that has ended: its exit code, what it printed, errors last, and how long it took."""

    code: int
    output: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Deployment:
    """One service on this machine.

    Args:
        folder: where everything of it lies.
        prefix: of the environment that has SGLang.
        model: folder of the checkpoint; its name is the service's.
        port: of the service.
        gpus: how many, from the first on.
        options: of the engine.
        variables: of its process.
    """

    folder: Path
    prefix: Path
    model: Path
    port: int
    gpus: int
    options: Mapping[str, Any] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Of the service and of its model."""
        return f"{self.model.name}-tp{self.gpus}".replace(".", "-")

    @property
    def server(self) -> Server:
        """As a client reaches it."""
        return Server(self.port, self.name)

    @property
    def service(self) -> ServiceFolder:
        """What is on the disk of it."""
        return Store(str(self.folder / "root")).service(self.name)

    @property
    def supervisor(self) -> Supervisor:
        """What keeps its process."""
        return supervisor_for("process", self.name, self.service)

    @property
    def launch(self) -> Path:
        """The script that starts the current release."""
        return Path(self.service.path) / "current" / "launch.sh"

    @property
    def log(self) -> Path:
        """Of the newest process."""
        return Path(self.service.logs) / "service.log"

    def run(self, verb: str, *words: str, **options: Any) -> Finished:
        """A command of the package, with these options of the engine beside or in place of the service's own."""
        inventory = self._describe(options)
        command = [sys.executable, "-m", "deployer", verb, "-i", str(inventory), *words]
        with (self.folder / f"{verb}.out").open("w+") as stream:
            begun = os.times().elapsed
            code = subprocess.run(
                command,
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
                timeout=TIMEOUT,
                check=False,
            ).returncode
            seconds = os.times().elapsed - begun
            stream.seek(0)
            return Finished(code, stream.read(), seconds)

    def plan(self) -> Mapping[str, Any]:
        """What the package plans for the service now, as `plan --json` has it.

        Raises:
            DeployError: it cannot be planned.
        """
        done = self.run("plan", "--json")
        try:
            (host,) = json.loads(done.output[done.output.index("{") :]).values()
            (service,) = (one for one in host["services"] if one["role"] == "service")
        except ValueError:
            raise DeployError("the plan cannot be read", "run it by hand", done.output[-4000:]) from None
        return {**service, "findings": host["findings"], "exit_code": done.code}

    def last_cutover(self) -> Mapping[str, Any]:
        """The newest cut-over that came to an end; {} for none."""
        ended = [entry for entry in journal.entries(self.service) if entry.get("event") == "ended"]
        return ended[-1] if ended else {}

    def current(self) -> str | None:
        """The release that is committed."""
        return self.service.release_of("current")

    def pid(self) -> int | None:
        """Of the process that was started; None while none runs."""
        return self.supervisor.state().main_pid

    def stop(self) -> None:
        """End the service and prove it; nothing starts it again."""
        stop(self.supervisor, self.port, 60)

    def _describe(self, options: Mapping[str, Any]) -> Path:
        """Write the inventory."""
        parallel = {"tensor_parallel_size": self.gpus} if self.gpus > 1 else {}
        service = {
            "name": self.name,
            "host": "127.0.0.1",
            "port": self.port,
            "model": {"name": self.name, "source": f"hosts:{self.model}"},
            "gpus": list(range(self.gpus)),
            "engine": "sglang",
            "environment": "sglang",
            "options": {**parallel, **self.options, **options},
            "environment_variables": dict(self.variables),
            "gate": GATE,
        }
        variables = {
            "inference_root": str(self.folder / "root"),
            "inference_supervisor": "process",
            "inference_environments": {"sglang": {"prefix": str(self.prefix)}},
            "inference_services": [service],
        }
        host = {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}
        group = {"hosts": {"localhost": host}, "vars": variables}
        path = self.folder / "hosts.yml"
        self.folder.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump({"all": {"children": {"gpu-nodes": group}}}, sort_keys=False))
        return path


def passed_on(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables of this process that the engine gets as well."""
    return {
        name: value
        for name, value in environment.items()
        if value and (name in PASSED_ON or name.startswith(PASSED_ON_PREFIXES))
    }


def versions_of(prefix: Path, packages: Sequence[str]) -> dict[str, str]:
    """Versions of the packages that an environment's Python finds, wherever they lie, and its own.

    Raises:
        DeployError: it does not run.
    """
    done = subprocess.run(
        [str(prefix / "bin" / "python"), "-c", VERSIONS, *packages],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIMEOUT,
    )
    if done.returncode != 0:
        raise DeployError(f"{prefix}/bin/python does not run", "name an environment with --prefix", done.stderr[-2000:])
    found: dict[str, str] = json.loads(done.stdout)
    return found


def make_checkpoint(prefix: Path, shape: str, folder: Path) -> None:
    """Have the engine's Python write a checkpoint, unless it is there.

    Raises:
        DeployError: it could not.
    """
    if (folder / "model.safetensors.index.json").is_file():
        return
    command: Sequence[str] = [str(prefix / "bin" / "python"), "-m", "tests.gpu_proof.checkpoint", shape, str(folder)]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    if done.returncode != 0:
        raise DeployError(f"{shape} could not be written to {folder}", "see the detail", done.stderr[-4000:])
