"""A run of the role `model` over lab hosts: started, watched on the hosts, and read afterwards."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.lab import Lab

REPOSITORY = Path(__file__).parents[2]
ROOT = "/opt/inference"
MODEL = "code2sql"
RUN_TIMEOUT = 300  # seconds
RESULT = re.compile(r"^(ok|changed|fatal): \[([^\]]+)\](?:: (FAILED|UNREACHABLE)!)? => (\{.*\})$", re.MULTILINE)


@dataclass(frozen=True)
class Ran:
    """How a run ended: exit status, all that was printed, and the results of its tasks by host."""

    status: int
    output: str

    @property
    def results(self) -> dict[str, list[dict[str, Any]]]:
        """By host, in the order of the tasks."""
        found: dict[str, list[dict[str, Any]]] = {}
        for _, host, _, text in RESULT.findall(self.output):
            found.setdefault(host, []).append(json.loads(text))
        return found

    def received(self) -> dict[str, dict[str, Any]]:
        """What each host that received everything says of it."""
        return {host: one for host, all_ in self.results.items() for one in all_ if "peak_memory" in one}

    def failures(self) -> dict[str, str]:
        """Why hosts failed."""
        return {
            host: str(json.loads(text).get("msg"))
            for word, host, _, text in RESULT.findall(self.output)
            if word == "fatal"
        }


@dataclass
class Transfer:
    """The role `model` for hosts of a lab.

    Args:
        lab: the hosts.
        folder: for inventories and logs.
        source: `model.source`.
        settings: variables of the role; `hosts` has those of single hosts.
    """

    lab: Lab
    folder: Path
    source: str
    settings: dict[str, Any] = field(default_factory=dict)
    hosts: dict[str, dict[str, Any]] = field(default_factory=dict)
    root: str = ROOT
    model: dict[str, Any] = field(default_factory=dict)

    def run(self, *words: str) -> Ran:
        """Run it to its end."""
        return self.finish(self.start(*words))

    def start(self, *words: str) -> subprocess.Popen[str]:
        """Begin a run that goes on while the test does something to the hosts."""
        service = {
            "name": MODEL,
            "port": 8001,
            "engine": "sglang",
            "environment": "sglang",
            "model": {"name": MODEL, "source": self.source, **self.model},
        }
        variables = {
            "ansible_become": True,
            "inference_root": self.root,
            "inference_environments": {"sglang": {"prefix": "/opt/none"}},
            "inference_services": [service],
            **self.settings,
        }
        self.folder.mkdir(parents=True, exist_ok=True)
        inventory = self.folder / "weights.yml"
        inventory.write_text(
            yaml.safe_dump({"all": {"children": {"gpu-nodes": {"hosts": self.hosts, "vars": variables}}}})
        )
        command = [str(Path(sys.executable).parent / "ansible-playbook"), "playbooks/deploy.yml", "--tags", "model"]
        command += ["-v", "-i", str(self.lab.inventory), "-i", str(inventory), "-l", "gpu-nodes", *words]
        environment = {
            **os.environ,
            "ANSIBLE_NOCOLOR": "1",
            "ANSIBLE_CALLBACK_RESULT_FORMAT": "json",
            "ANSIBLE_CALLBACK_FORMAT_PRETTY": "False",
            "ANSIBLE_DISPLAY_OK_HOSTS": "False",
            "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "False",
        }
        return subprocess.Popen(
            command,
            cwd=REPOSITORY,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @staticmethod
    def finish(process: subprocess.Popen[str]) -> Ran:
        """Wait for its end."""
        output, _ = process.communicate(timeout=RUN_TIMEOUT)
        print(output)
        return Ran(process.returncode, output)

    def report(self, host: str) -> dict[str, Any]:
        """What the relay of a host says of itself now; empty where there is none."""
        answer = self.lab.hosts[host].ssh(f"sudo cat {self.root}/incoming/relay.json")
        try:
            value: dict[str, Any] = json.loads(answer.stdout)
        except ValueError:
            return {}
        return value

    def wait_until_received(self, host: str, size: int, process: subprocess.Popen[str]) -> None:
        """Return once a host has so many bytes."""
        self._wait(process, lambda: self.report(host).get("received", 0) >= size)

    @staticmethod
    def _wait(process: subprocess.Popen[str], met: Callable[[], bool]) -> None:
        deadline = time.monotonic() + RUN_TIMEOUT
        while not met():
            if process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the run ended before that:\n{process.communicate()[0]}")
            time.sleep(0.2)

    def digests(self, host: str) -> dict[str, str]:
        """sha256 of every file of the host's models, by `folder/path`."""
        command = (
            f"cd {self.root}/artifacts/models 2>/dev/null && find . -type f ! -name manifest.json | xargs -r sha256sum"
        )
        lines = self.lab.hosts[host].ssh(f"sudo sh -c '{command}'").stdout.splitlines()
        return {line[66:].removeprefix("./"): line[:64] for line in lines}

    def forget(self, *hosts: str) -> None:
        """Remove what the hosts have, for the next test."""
        for host in hosts:
            self.lab.hosts[host].ssh(
                f"sudo rm -rf {self.root}/artifacts {self.root}/incoming {self.root}/cache", check=True
            )

    def listeners(self, host: str) -> str:
        """The TCP ports that a host listens on."""
        return self.lab.hosts[host].ssh("ss -Htln | awk '{print $4}'").stdout
