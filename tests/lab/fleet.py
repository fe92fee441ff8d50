"""A fleet of lab hosts as an operator drives it: an inventory, the two ways in, and a client on the network."""

from __future__ import annotations

import contextlib
import copy
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import yaml

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.lab import Lab
from demo.inputs import DemoInputs
from tests.doubles.run_events import consent, outcome_of

REPOSITORY = Path(__file__).parents[2]
ROOT = "/opt/inference"
SERVICE = "code2sql"
PORT = 8001
FOLDER = f"{ROOT}/services/{SERVICE}"
PLAIN = {"ANSIBLE_NOCOLOR": "1", "NO_COLOR": "1", "COLUMNS": "160"}  # output for a test to read
RUN_TIMEOUT = 900  # seconds; two engines starting on two busy cores take their time

SGLANG_ON_CPU = {
    "device": "cpu",
    "attention_backend": "torch_native",
    "sampling_backend": "pytorch",
    "cuda_graph_backend_decode": "disabled",
    "cuda_graph_backend_prefill": "disabled",
    "disable_overlap_schedule": True,
    "enable_metrics": True,
    # Enough for the log, which rounds to hundredths of a GiB, to say how large the KV cache is.
    "max_total_tokens": 1_048_576,
    "max_running_requests": 8,
    "sleep_on_idle": True,
}


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    status: int
    output: str

    @property
    def outcome(self) -> dict[str, Any]:
        """What `--json` printed."""
        return outcome_of(self.output)


@dataclass(frozen=True)
class Running:
    """A command that goes on while the test does something.

    Args:
        process: leader of a session of its own, as that of a terminal.
        printed: the file that its output goes to.
    """

    process: subprocess.Popen[bytes]
    printed: Path

    def finish(self, seconds: int = 120) -> Finished:
        """Wait for its end, at most so long."""
        try:
            self.process.wait(timeout=seconds)
        finally:
            output = self.printed.read_text(errors="replace")
            print(f"{output}\n[exit {self.process.returncode}]")
        return Finished(self.process.returncode, output)

    def kill(self) -> None:
        """End the controller at once: what was typed, and all that it has started."""
        for pid in self._family():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait()

    def interrupt(self) -> None:
        """Ctrl-C in its terminal."""
        os.killpg(self.process.pid, signal.SIGINT)

    def _family(self) -> set[int]:
        """The command and its descendants: ansible-runner gives ansible-playbook a session of its own."""
        listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout
        parents = {int(pid): int(parent) for pid, parent in map(str.split, listed.splitlines())}
        family = {self.process.pid}
        while found := {pid for pid, parent in parents.items() if parent in family} - family:
            family |= found
        return family


@dataclass
class Fleet:
    """Hosts of a lab under one service description.

    Args:
        lab: the hosts.
        inputs: environments and models, as the demo makes them.
        folder: for the inventory and the journals of this fleet.
        host_services: changes of one host's service, by host.
    """

    lab: Lab
    inputs: DemoInputs
    folder: Path
    service: dict[str, Any] = field(default_factory=dict)
    host_services: dict[str, dict[str, Any]] = field(default_factory=dict)

    def describe(self, seed: int = 0, hosts: Mapping[str, Mapping[str, Any]] | None = None, **changes: Any) -> None:
        """Write the inventory: SGLang with the model of `seed`; `changes` for all, `hosts` for one host each."""
        self.service = {**self._baseline(seed), **changes}
        self.host_services = {name: {**self.service, **own} for name, own in (hosts or {}).items()}
        gpu1 = self.host_services.get("gpu1", copy.deepcopy(self.service))
        predecessor = self.predecessor()
        if predecessor:
            gpu1.setdefault("predecessor", predecessor)
        self.host_services["gpu1"] = gpu1
        group = {
            "hosts": {name: {"inference_services": [s]} for name, s in self.host_services.items()},
            "vars": {
                "ansible_become": True,
                "inference_root": ROOT,
                "inference_environments": self.environments(),
                "inference_services": [self.service],
            },
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        text = yaml.safe_dump({"all": {"children": {"gpu-nodes": group}}})
        (self.folder / "services.yml").write_text(text)

    def serve_predecessor(self, host: str) -> None:
        """Have LLaMA-Factory serve on a host where SGLang is staged."""
        self.describe()
        for verb, words in (("rollout", ()), ("rollback", ("--to", "@predecessor"))):
            done = self.deployer(verb, host, *words)
            assert done.status == 0, done.output

    def environments(self) -> dict[str, dict[str, str]]:
        """`inference_environments`."""
        return {
            "sglang": {"lock": str(self.inputs.environments["sglang-cpu"])},
            "llamafactory": {"lock": str(self.inputs.environments["llamafactory-cpu"])},
        }

    def _baseline(self, seed: int) -> dict[str, Any]:
        return {
            "name": SERVICE,
            "port": PORT,
            "model": {"name": SERVICE, "source": str(self.inputs.models[seed])},
            "gpus": [],
            "engine": "sglang",
            "environment": "sglang",
            "options": dict(SGLANG_ON_CPU),
            "environment_variables": {"SGLANG_USE_CPU_ENGINE": 1},
            "gate": {"ready_timeout": 400, "min_healthy_time": 3},
            "stop_timeout": 60,
        }

    def predecessor(self) -> dict[str, Any]:
        """What served before."""
        options = {"template": "qwen", "infer_backend": "huggingface"}
        return {"engine": "llamafactory", "environment": "llamafactory", "options": options}

    def deployer(self, verb: str, limit: str = "gpu-nodes", *words: str) -> Finished:
        """`python -m deployer VERB`, started from an empty folder, with the answer as JSON."""
        command = [sys.executable, "-m", "deployer", verb, *self._inventory(), "-l", limit, "--json"]
        command += [*consent(verb, words), *words]
        return self._run(command, self.folder)

    def typed(self, *words: str) -> Finished:
        """`python -m deployer` with words of its own, in the folder of this fleet."""
        return self._run([sys.executable, "-m", "deployer", *words], self.folder)

    def ansible(self, playbook: str, limit: str = "gpu-nodes", *words: str, folder: Path = REPOSITORY) -> Finished:
        """`ansible-playbook PLAYBOOK`."""
        return self._run([*self.command(playbook, limit), *words], folder)

    def command(self, playbook: str, limit: str) -> list[str]:
        """The command line of `ansible-playbook PLAYBOOK`."""
        command = [str(Path(sys.executable).parent / "ansible-playbook"), playbook, *self._inventory()]
        return [*command, "-l", limit]

    def _inventory(self) -> list[str]:
        return ["-i", str(self.lab.inventory), "-i", str(self.folder / "services.yml")]

    def _run(self, command: list[str], folder: Path) -> Finished:
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **PLAIN},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=RUN_TIMEOUT,
            check=False,
        )
        print(f"$ {' '.join(command)}\n{done.stdout}\n[exit {done.returncode}]")
        return Finished(done.returncode, done.stdout)

    def begin(self, verb: str, limit: str = "gpu-nodes", *words: str, **environment: str) -> Running:
        """`python -m deployer VERB` that goes on while the test does something, with more environment variables."""
        command = [sys.executable, "-m", "deployer", verb, *self._inventory(), "-l", limit, "--json"]
        command += [*consent(verb, words), *words]
        # A test run in the background has SIGINT ignored, and its children would inherit that.
        command = ["env", "--default-signal=INT", *command]
        with tempfile.NamedTemporaryFile(dir=self.folder, prefix=f"{verb}-", delete=False) as stream:
            process = subprocess.Popen(
                command,
                cwd=self.folder,
                env={**os.environ, **PLAIN, **environment},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Running(process, Path(stream.name))

    def state(self, host: str) -> str:
        """What `status` says of the service."""
        services = self.deployer("status", host).outcome[host]["services"]
        return str(services[0]["state"])

    def root(self, host: str, command: str) -> str:
        """What `command` prints on a host, as root."""
        return self.lab.hosts[host].ssh(f"sudo sh -c {shlex.quote(command)}", check=True).stdout.strip()

    def pid(self, host: str) -> str:
        """The main process of the service's unit."""
        return self.root(host, f"systemctl show -p MainPID --value inference-{SERVICE}")

    def link(self, host: str, role: str) -> str:
        """The release that current, previous or predecessor names."""
        return self.root(host, f"readlink {FOLDER}/{role} || true").rpartition("/")[2]

    def release(self, host: str) -> dict[str, Any]:
        """release.json of the current release."""
        value: dict[str, Any] = json.loads(self.root(host, f"cat {FOLDER}/current/release.json"))
        return value

    def url(self, host: str) -> str:
        """The service, as a client on the network reaches it."""
        return f"http://{self.lab.hosts[host].address}:{PORT}"

    def models(self, host: str) -> list[str]:
        """The names that the service lists."""
        answer = httpx.get(f"{self.url(host)}/v1/models", timeout=60, trust_env=False).raise_for_status()
        return [entry["id"] for entry in answer.json()["data"]]

    def chat(self, host: str) -> int:
        """Ask for a chat completion over the network; the number of generated tokens."""
        body = {"model": SERVICE, "messages": [{"role": "user", "content": "Say hello."}], "max_tokens": 8}
        url = f"{self.url(host)}/v1/chat/completions"
        answer = httpx.post(url, json=body, timeout=120, trust_env=False).raise_for_status()
        return int(answer.json()["usage"]["completion_tokens"])

    def answers_within(self, host: str, seconds: int) -> bool:
        """True once the service lists its models; for a host that boots."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            try:
                return self.models(host) == [SERVICE]
            except httpx.HTTPError:
                time.sleep(1)
        return False

    def is_sglang(self, host: str) -> bool:
        """SGLang has /health; LLaMA-Factory has not."""
        return httpx.get(f"{self.url(host)}/health", timeout=60, trust_env=False).status_code == 200


class DoubleFleet(Fleet):
    """The same with a light double of SGLang (tests/doubles), for what needs many starts and no engine."""

    PREFIX = "/opt/double"

    def install(self, host: str) -> None:
        """Put the double's environment on a host, as an existing prefix."""
        doubles = REPOSITORY / "tests" / "doubles"
        files = {f"sglang/{p.relative_to(doubles / 'engine' / 'sglang')}": p for p in doubles.glob("engine/**/*.py")}
        files["sglang/launch_server.py"] = doubles / "openai_server.py"
        self.root(host, f"python3 -m venv --without-pip {self.PREFIX}")
        site = self.root(host, f"{self.PREFIX}/bin/python -c 'import site; print(site.getsitepackages()[0])'")
        for name, path in files.items():
            self.root(host, f"mkdir -p {site}/{Path(name).parent}")
            self.lab.hosts[host].ssh(f"sudo tee {site}/{name} >/dev/null", stdin=path.read_text(), check=True)

    def environments(self) -> dict[str, dict[str, str]]:
        """`inference_environments`."""
        return {"sglang": {"prefix": self.PREFIX}}

    def _baseline(self, seed: int) -> dict[str, Any]:
        gate = {"ready_timeout": 60, "min_healthy_time": 0}
        return {**super()._baseline(seed), "options": {"device": "cpu"}, "environment_variables": {}, "gate": gate}

    def predecessor(self) -> dict[str, Any]:
        """What served before."""
        return {}
