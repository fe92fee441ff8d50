"""The lab behind docs/commands.md: two hosts with the real engines, and a folder in which the commands are typed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from demo.inputs import DemoInputs
from demo.make_tiny_model import CHAT_TEMPLATE
from tests.documented.blocks import File
from tests.documented.terminal import Terminal
from tests.lab.booting import booted
from tests.lab.by_hand import ByHand
from tests.lab.fleet import ROOT, SERVICE, Fleet
from tests.lab.ssh import write_ssh_config

HOSTS = ("gpu1", "gpu2")
PLATFORMS = [{"name": name, "groups": ["gpu-nodes"]} for name in HOSTS]


class Described(Fleet):
    """The fleet as its user has it: hosts.yml, and what they serve in group_vars."""

    def predecessor(self) -> dict[str, object]:
        """What serves is found, not described."""
        return {}

    def write(self, **changes: Any) -> None:
        """Write both files; `changes` of the service."""
        self.describe(**changes)
        (self.folder / "services.yml").unlink()
        (self.folder / "hosts.yml").write_text(self.lab.inventory.read_text())
        (self.folder / "group_vars").mkdir(exist_ok=True)
        described = {
            "ansible_become": True,
            "inference_root": ROOT,
            "inference_environments": self.environments(),
            "inference_services": [self.service],
        }
        (self.folder / "group_vars" / "gpu-nodes.yml").write_text(yaml.safe_dump(described, sort_keys=False))


@dataclass(frozen=True)
class Stage:
    """Where the commands are typed.

    Args:
        fleet: its folder `fleet` lies in the folder of the commands.
        team: what was started by hand on the first host.
    """

    fleet: Described
    team: ByHand

    @property
    def folder(self) -> Path:
        """The folder that the commands are typed in."""
        return self.fleet.folder.parent

    @property
    def terminal(self) -> Terminal:
        """Where they are typed."""
        return Terminal(self.folder)

    def play(self, step: str) -> None:
        """Do a step of the page."""
        STEPS[step](self)

    def write(self, file: File) -> None:
        """Write a file that the page shows, as it is."""
        assert file.whole
        (self.folder / file.path).write_text(file.text)

    def write_an_ssh_configuration(self) -> None:
        """The hosts are known by their names, as to somebody who logs in there every day."""
        write_ssh_config(self.fleet.lab, HOSTS, self.folder)

    def write_an_environment(self) -> None:
        """Somebody names the packages that they want; the model that is hashed below is there as well."""
        folder = self.folder / "environments" / "tools"
        folder.mkdir(parents=True)
        channel = self.fleet.inputs.channel.as_uri()
        described = {
            "name": "tools",
            "channels": [channel],
            "dependencies": ["python=3.11", {"pip": ["pyyaml==6.0.3"]}],
        }
        (folder / "environment.yml").write_text(yaml.safe_dump(described, sort_keys=False))
        (self.folder / "models").symlink_to(self.fleet.inputs.models[0].parent)

    def start_by_hand(self) -> None:
        """The team's LLaMA-Factory serves on the first host."""
        self.team.start()

    def describe(self) -> None:
        """The fleet's inventory is there."""
        self.fleet.write()

    def break_the_description(self) -> None:
        """The gate expects what no model answers, on the second host."""
        broken = {**self.fleet.service, "gate": {**self.fleet.service["gate"], "generations": [NEVER]}}
        folder = self.fleet.folder / "host_vars"
        folder.mkdir(exist_ok=True)
        changed = {**broken, "environment_variables": {**broken["environment_variables"], "RELEASE": "next"}}
        (folder / f"{HOSTS[1]}.yml").write_text(yaml.safe_dump({"inference_services": [changed]}))

    def mend_the_description(self) -> None:
        """It is as it was."""
        (self.fleet.folder / "host_vars" / f"{HOSTS[1]}.yml").unlink()

    def add_the_system_prompt(self) -> None:
        """SGLang's template adds what LLaMA-Factory's adds: on the hosts first, then in the description."""
        for host in HOSTS:
            command = f"sudo install -D -m 644 /dev/stdin {TEMPLATE}"
            self.fleet.lab.hosts[host].ssh(command, stdin=QWEN_SYSTEM + CHAT_TEMPLATE, check=True)
        self.fleet.write(options={**self.fleet.service["options"], "chat_template": TEMPLATE})

    def change_a_file(self) -> None:
        """Somebody edits a launch script on the second host."""
        self.fleet.root(HOSTS[1], f"echo '# a try' >> {ROOT}/services/{SERVICE}/current/launch.sh")

    def change_it_back(self) -> None:
        """And takes it back."""
        self.fleet.root(HOSTS[1], f"sed -i '$d' {ROOT}/services/{SERVICE}/current/launch.sh")


TEMPLATE = "/srv/templates/qwen.jinja"
QWEN_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}<|im_start|>system\n"
    "You are Qwen, created by Alibaba Cloud. You are a helpful assistant.<|im_end|>\n{% endif %}"
)
NEVER = {"prompt": "How many rows has the table t? Answer with SQL.", "pattern": "(?i)select count"}
STEPS: Mapping[str, Callable[[Stage], None]] = {
    "write an ssh configuration": Stage.write_an_ssh_configuration,
    "write an environment": Stage.write_an_environment,
    "start by hand": Stage.start_by_hand,
    "describe": Stage.describe,
    "break the description": Stage.break_the_description,
    "mend the description": Stage.mend_the_description,
    "add the system prompt": Stage.add_the_system_prompt,
    "change a file": Stage.change_a_file,
    "change it back": Stage.change_it_back,
}


@contextmanager
def stage(inputs: DemoInputs, folder: Path) -> Iterator[Stage]:
    """The lab, furnished; it is destroyed however the block ends.

    Args:
        inputs: environments and models.
        folder: for what the commands read and write.
    """
    with booted("documented", PLATFORMS) as lab:
        fleet = Described(lab, inputs, folder / "fleet")
        team = ByHand(Fleet(lab, inputs, folder / "team"), HOSTS[0])
        team.fleet.describe(engine="llamafactory", environment="llamafactory", options={"template": "qwen"})
        team.furnish()
        yield Stage(fleet, team)
