"""Hosts that are folders and ports of this machine, with a light stand-in for the engine: rollouts in seconds."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.deployer.sglang.plugins.module_utils.procfs import all_processes, variable_of
from tests.doubles.run_events import consent, outcome_of

REPOSITORY = Path(__file__).parents[2]
SERVICE = "code2sql"
TIMEOUT = 120  # seconds; far more than a run takes


@dataclass(frozen=True)
class Ended:
    """A run that has ended: its exit status, and what it printed."""

    status: int
    output: str

    @property
    def outcome(self) -> dict[str, Any]:
        """What `--json` printed."""
        return outcome_of(self.output)


@dataclass
class LocalFleet:
    """An inventory of such hosts.

    Args:
        folder: for all that belongs to them.
        prefix: of the stand-in's environment.
        hosts: their names.
        services: of each host, beside SERVICE.
    """

    folder: Path
    prefix: Path
    hosts: Sequence[str]
    services: Sequence[str] = ()
    ports: dict[tuple[str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [(host, service) for host in self.hosts for service in (SERVICE, *self.services)]
        self.ports = dict(zip(names, free_ports(len(names)), strict=True))
        make_model(self.folder / "model")

    @property
    def inventory(self) -> Path:
        """The inventory's file."""
        return self.folder / "hosts.yml"

    def root(self, host: str) -> Path:
        """`inference_root` of a host."""
        return self.folder / "roots" / host

    def describe(self, faults: Mapping[str, str] | None = None, lost: Sequence[str] = (), **variables: Any) -> None:
        """Write the inventory.

        Args:
            faults: of hosts' engines, by host (tests/doubles/openai_server.py).
            lost: hosts that cannot be reached.
            variables: of all hosts; another `variant` makes another release, and `gate` is asked beside what always is.
        """
        variant = str(variables.pop("variant", "first"))
        gate = variables.pop("gate", {})
        hosts = {}
        for host in self.hosts:
            own: dict[str, Any] = {"inference_root": str(self.root(host))}
            own["inference_services"] = [
                self._service(host, name, variant, (faults or {}).get(host, "none"), gate)
                for name in (SERVICE, *self.services)
            ]
            if host in lost:
                own.update(ansible_connection="ssh", ansible_host="127.0.0.1", ansible_port=1, ansible_ssh_retries=0)
            hosts[host] = own
        everywhere = {
            "ansible_connection": "local",
            "ansible_python_interpreter": sys.executable,
            "inference_supervisor": "process",
            "inference_environments": {"sglang": {"prefix": str(self.prefix)}},
            "cutover_poll": 1,
            **variables,
        }
        text = yaml.safe_dump(
            {"all": {"children": {"gpu-nodes": {"hosts": hosts, "vars": everywhere}}}}, sort_keys=False
        )
        self.inventory.write_text(text)

    def _service(self, host: str, name: str, variant: str, fault: str, gate: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "name": name,
            "port": self.ports[host, name],
            "host": "127.0.0.1",
            "model": {"name": name, "source": f"hosts:{self.folder / 'model'}"},
            "gpus": [],
            "engine": "sglang",
            "environment": "sglang",
            "options": {"device": "cpu", "fault": fault},
            "environment_variables": {"VARIANT": variant},
            "gate": {"ready_timeout": 20, "min_healthy_time": 0, "request_timeout": 5, **gate},
            "stop_timeout": 5,
        }

    def command(self, playbook: str, *words: str) -> list[str]:
        """The command line of ansible-playbook."""
        program = str(Path(sys.executable).parent / "ansible-playbook")
        return [program, str(REPOSITORY / "playbooks" / f"{playbook}.yml"), "-i", str(self.inventory), *words]

    def deployer_command(self, verb: str, *words: str) -> list[str]:
        """The command line of `python -m deployer`."""
        options = ["-i", str(self.inventory), *consent(verb, words), *words]
        return [sys.executable, "-m", "deployer", *verb.split(), *options]

    def ansible(self, playbook: str, *words: str) -> Ended:
        """`ansible-playbook PLAYBOOK`."""
        return self.run(self.command(playbook, *words))

    def deployer(self, verb: str, *words: str) -> Ended:
        """`python -m deployer VERB`."""
        return self.run(self.deployer_command(verb, *words))

    def run(self, command: Sequence[str]) -> Ended:
        """A command, from this fleet's folder."""
        done = subprocess.run(command, cwd=self.folder, **self.surroundings, timeout=TIMEOUT, check=False)
        print(f"$ {' '.join(command)}\n{done.stdout}\n[exit {done.returncode}]")
        return Ended(done.returncode, done.stdout)

    @property
    def surroundings(self) -> dict[str, Any]:
        """What every command is run with: the collection's own settings, no terminal, everything in one stream."""
        variables = {
            **os.environ,
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY),
            "ANSIBLE_NOCOLOR": "1",
            "NO_COLOR": "1",
            "COLUMNS": "160",
            "PYTHONPATH": str(REPOSITORY),
        }
        streams = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return {"env": variables, "text": True, **streams}

    def link(self, host: str, role: str, service: str = SERVICE) -> str:
        """The release that a link names; '' where there is none."""
        path = self.root(host) / "services" / service / role
        return os.path.basename(os.readlink(path)) if path.is_symlink() else ""

    def serving(self, service: str = SERVICE) -> list[str]:
        """The hosts on which somebody listens at the service's port."""
        return [host for host in self.hosts if listens(self.ports[host, service])]

    def locked(self) -> list[str]:
        """The hosts that a rollout has locked."""
        return [host for host in self.hosts if (self.root(host) / "rollout.json").exists()]

    def end(self) -> None:
        """End every engine, and whatever else of these hosts still runs."""
        for process in all_processes():
            home = variable_of(process.pid, "HOME") or ""
            if home.startswith(str(self.folder)):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)


def make_environment(prefix: Path) -> Path:
    """An environment whose sglang is the stand-in."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    doubles = REPOSITORY / "tests" / "doubles"
    (site,) = prefix.glob("lib/python3*/site-packages")
    shutil.copytree(doubles / "engine" / "sglang", site / "sglang")
    shutil.copy(doubles / "openai_server.py", site / "sglang" / "launch_server.py")
    return prefix


def make_model(folder: Path) -> None:
    """A model of one small tensor."""
    folder.mkdir()
    config = {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 1,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 16,
        "max_position_embeddings": 4096,
        "vocab_size": 256,
        "torch_dtype": "bfloat16",
    }
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer_config.json").write_text(json.dumps({"chat_template": "{{ messages }}"}))
    (folder / "tokenizer.json").write_text("{}")
    tensors = {"model.embed_tokens.weight": {"dtype": "BF16", "shape": [256, 64], "data_offsets": [0, 32768]}}
    header = json.dumps(tensors).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(header)) + header + bytes(32768))


def free_ports(count: int) -> list[int]:
    """Ports that nobody listens at."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [int(one.getsockname()[1]) for one in sockets]


def listens(port: int) -> bool:
    """True when somebody listens at a port of this machine."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def wait_until(met: Any, seconds: float = 30) -> None:
    """Wait until `met()` is true.

    Raises:
        TimeoutError: it does not become so.
    """
    deadline = time.monotonic() + seconds
    while not met():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not met within {seconds} s")
        time.sleep(0.05)
