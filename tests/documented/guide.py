"""The hosts behind docs/guide.md: for each of its sections that has commands, its own."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.lab import Lab
from ansible_collections.deployer.sglang.plugins.module_utils.rollout_lock import Holder
from demo.inputs import DemoInputs
from tests.documented.blocks import File
from tests.documented.files import merged, without_gpus
from tests.documented.terminal import Remote, Terminal
from tests.doubles.engine_wheels import write_engine_wheels
from tests.lab.booting import booted
from tests.lab.by_hand import ByHand
from tests.lab.fleet import REPOSITORY, ROOT, SGLANG_ON_CPU, Fleet
from tests.lab.ssh import write_ssh_config

CHECKOUT = "sglang-deployer"
NEW = "gpu3"  # a host that is in no inventory yet
CONTROLLER = "ops1"  # a controller that is a host of the lab itself
USER = "mia"  # who has no root
SHARE = ".share"
VERSIONS = ("0.5.22", "0.5.23")  # of the double; the first is deployed, the second is the new one
QUICK = {"gate": {"min_healthy_time": 1}, "stop_timeout": 30}
REAL = {**QUICK, "options": SGLANG_ON_CPU, "environment_variables": {"SGLANG_USE_CPU_ENGINE": 1}}
DOUBLE = {**QUICK, "options": {"device": "cpu"}}


class Stage:
    """Hosts, and a folder in which commands are typed.

    Args:
        lab: the hosts.
        inputs: environments and models.
        folder: of the commands; it has a checkout of this repository in it.
        service: what each service says where there is no GPU.
    """

    def __init__(self, lab: Lab, inputs: DemoInputs, folder: Path, service: Mapping[str, Any] = DOUBLE) -> None:
        self.lab = lab
        self.inputs = inputs
        self.folder = folder
        self.service = service
        self.fleet = Fleet(lab, inputs, folder / ".furnishing")
        self.terminal: Terminal | Remote = Terminal(
            folder, self._known_hosts(), {"ANSIBLE_SSH_CONTROL_PATH_DIR": str(lab.folder / "ssh")}
        )
        (folder / CHECKOUT).symlink_to(REPOSITORY)

    def _known_hosts(self) -> dict[str, Path]:
        """The operator's machine knows the hosts by their names."""
        names = self.folder / "hosts"
        lines = [f"{host.address} {name}" for name, host in self.lab.hosts.items()]
        names.write_text("\n".join(["127.0.0.1 localhost", *lines, ""]))
        config = write_ssh_config(self.lab, [*self.lab.hosts], self.folder)
        return {"/etc/hosts": names, "/etc/ssh/ssh_config": config}

    def play(self, step: str) -> None:
        """Do a step of the page."""
        method: Callable[[], None] = getattr(self, step.replace(" ", "_"))
        method()

    def write(self, file: File) -> None:
        """Write a file that the page shows, for hosts without GPUs."""
        path = self.folder / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        shown = yaml.safe_load(file.text)
        if not file.whole:
            shown = merged(yaml.safe_load(path.read_text()) if path.exists() else {}, shown)
        path.write_text(yaml.safe_dump(without_gpus(shown, self.service), sort_keys=False))

    def type(self, *lines: str) -> None:
        """Type what stands on no page."""
        for line in lines:
            done = self.terminal.run(line)
            assert done.status == 0, f"$ {line}\n{done.output}\n[exit code {done.status}]"

    def model(self, path: str, seed: int = 0) -> None:
        """A model's folder there."""
        shutil.copytree(self.inputs.models[seed], self.folder / path)

    def environment(self, folder: str) -> None:
        """SGLang's double in an environment that is described and locked there, and fetched."""
        write_engine_wheels(self.folder / "wheels", *VERSIONS)
        for wheel in self.inputs.environments["sglang-cpu"].glob("bundle/installer/*.whl"):
            os.link(wheel, self.folder / "wheels" / wheel.name)
        path = self.folder / folder
        path.mkdir(parents=True)
        sources = {"indexes": [], "find_links": [str(self.folder / "wheels")]}
        (path.parent / "sources.yml").write_text(yaml.safe_dump(sources))
        (path / "environment.yml").write_text(
            f"name: sglang\nchannels: [{self.inputs.channel.as_uri()}]\n"
            f"dependencies:\n  - python=3.11\n  - pip:\n      - sglang=={VERSIONS[0]}\n"
        )
        self.type(f"python -m deployer lock {folder}", f"python -m deployer bundle {folder}")


class FirstDeployment(Stage):
    """Two hosts with the real engines; on the first one somebody has started LLaMA-Factory."""

    def __init__(self, lab: Lab, inputs: DemoInputs, folder: Path) -> None:
        super().__init__(lab, inputs, folder, REAL)
        self.team = ByHand(self.fleet, "gpu1")
        self.fleet.describe(engine="llamafactory", environment="llamafactory", options={"template": "qwen"})
        self.team.furnish()
        self.team.start()

    def take_the_environment_for_a_cpu(self) -> None:
        """In place of the locks for GPUs, the ones that were fetched for the lab."""
        target = self.folder / "fleet" / "environments" / "sglang"
        shutil.rmtree(target)
        shutil.copytree(self.inputs.environments["sglang-cpu"], target, copy_function=os.link)


class Described(Stage):
    """Hosts that have an inventory `fleet`, and serve nothing yet."""

    def __init__(self, lab: Lab, inputs: DemoInputs, folder: Path) -> None:
        super().__init__(lab, inputs, folder)
        self.model("fleet/models/code2sql")
        self.environment("fleet/environments/sglang")
        names = [name for name in lab.hosts if name.startswith("gpu") and name != NEW]
        hosts = {"all": {"children": {"gpu-nodes": {"hosts": dict.fromkeys(names)}}}}
        service = {"name": "code2sql", "port": 8001, "engine": "sglang", "environment": "sglang"}
        described = {
            "ansible_become": True,
            "inference_findings": {"open-without-key": "accepted"},
            "inference_environments": {"sglang": {"lock": "environments/sglang"}},
            "inference_services": [{**service, "model": {"name": "code2sql", "source": "models/code2sql"}}],
        }
        self.write(File("fleet/hosts.yml", yaml.safe_dump(hosts), whole=True))
        self.write(File("fleet/group_vars/gpu-nodes.yml", yaml.safe_dump(described), whole=True))


class DayTwo(Described):
    """Two hosts serve; a third one is new."""

    def __init__(self, lab: Lab, inputs: DemoInputs, folder: Path) -> None:
        super().__init__(lab, inputs, folder)
        self.model("fleet/models/code2sql-20261101", seed=1)
        self.type("python -m deployer rollout -i fleet/hosts.yml --yes --batches 100%")
        self.first = self.fleet.link("gpu1", "current")

    def put_a_gateway_on_the_hosts(self) -> None:
        """It writes down what it is told."""
        program = '#!/bin/sh\necho "$@" >> /var/log/lb.log\n'
        for host in self.lab.hosts:
            self.fleet.root(host, f"printf %s {shlex.quote(program)} > /usr/local/bin/lb; chmod 755 /usr/local/bin/lb")

    def note_an_older_release(self) -> None:
        """The first one of the first host."""
        self.terminal.variables["RELEASE"] = self.first

    def leave_a_lock(self) -> None:
        """Of a controller that this one cannot look into."""
        holder = Holder("20261101T080000Z", "mia@ops2", "ops2", "rollout of code2sql", 1793520000.0, "another machine")
        self.fleet.root("gpu1", f"echo {shlex.quote(json.dumps(holder.as_dict()))} > {ROOT}/rollout.json")

    def write_a_vault_password(self) -> None:
        """In a file that this user alone can read."""
        path = self.folder / "vault-password"
        path.touch(mode=0o600)
        path.write_text("not a password of anything\n")


class WithoutInternet(Described):
    """A machine with internet, and a controller without: a host of the lab has no way out."""

    def carry_it_over(self) -> None:
        """The files, and what the controller has anyway: it reaches the host, and knows its name."""
        there = self.lab.hosts[CONTROLLER]
        for name in ("carry.tar", "carry.tar.sha256"):
            with (self.folder / name).open("rb") as stream:
                subprocess.run([*there.ssh_args, there.address, f"cat > {name}"], stdin=stream, check=True)
        self._send("/etc/hosts", (self.folder / "hosts").read_text() + f"{there.address} {CONTROLLER}\n")
        self._send("/etc/ssh/lab_key", self.lab.private_key.read_text())
        self._send("/etc/ssh/ssh_known_hosts", self.lab.known_hosts.read_text())
        address = self.lab.hosts["gpu1"].address
        config = f"Host gpu1\n  HostName {address}\n  User deploy\n  IdentityFile ~/.ssh/lab_key\n"
        self._send("/etc/ssh/ssh_config", config)
        self.fleet.root(CONTROLLER, "install -o deploy -m 600 /etc/ssh/lab_key ~deploy/.ssh/; rm /etc/ssh/lab_key")
        self.terminal = Remote(there)

    def _send(self, path: str, text: str) -> None:
        self.lab.hosts[CONTROLLER].ssh(f"sudo tee {path} > /dev/null", stdin=text, check=True)


class WithoutRoot(Described):
    """On the host there is a user who may not become root."""

    def __init__(self, lab: Lab, inputs: DemoInputs, folder: Path) -> None:
        super().__init__(lab, inputs, folder)
        for host in lab.hosts:
            self.fleet.root(
                host,
                f"useradd --create-home --shell /bin/bash {USER}; install -d -o {USER} -m 700 ~{USER}/.ssh;"
                f"install -o {USER} -m 600 ~deploy/.ssh/authorized_keys ~{USER}/.ssh/",
            )

    def reboot_the_host(self) -> None:
        """In order."""
        self.lab.hosts["gpu1"].reboot()

    def let_the_service_crash(self) -> None:
        """All of its processes at once."""
        self.fleet.root("gpu1", f"pkill -KILL -u {USER} -f sglang.launch_server")

    def write_an_entry_point(self) -> None:
        """As the page shows it, but for its last line."""
        (self.folder / "entrypoint.sh").write_text(f"#!/bin/sh\n/home/{USER}/inference/services/code2sql/start\n")


class SeveralServices(Described):
    """One host serves one of the two models."""

    def __init__(self, lab: Lab, inputs: DemoInputs, folder: Path) -> None:
        super().__init__(lab, inputs, folder)
        self.model("fleet/models/chat", seed=1)
        self.type("python -m deployer rollout -i fleet/hosts.yml --yes")


class SharedFolder(Described):
    """Two hosts see one folder of models."""

    def __init__(self, lab: Lab, inputs: DemoInputs, folder: Path) -> None:
        super().__init__(lab, inputs, folder)
        shutil.copytree(inputs.models[0], folder / SHARE / "code2sql")

    def write_into_the_shared_folder(self) -> None:
        """Somebody puts another revision over the one that is served."""
        shutil.copytree(self.inputs.models[1], self.folder / SHARE / "code2sql", dirs_exist_ok=True)


# What a section says it is for -> what furnishes it, and its hosts.
STAGES: Mapping[str, tuple[Callable[[Lab, DemoInputs, Path], Stage], tuple[str, ...]]] = {
    "first deployment": (FirstDeployment, ("gpu1", "gpu2")),
    "day two": (DayTwo, ("gpu1", "gpu2", NEW)),
    "without internet": (WithoutInternet, ("gpu1", CONTROLLER)),
    "without root": (WithoutRoot, ("gpu1",)),
    "without systemd": (WithoutRoot, ("gpu1",)),
    "several services": (SeveralServices, ("gpu1",)),
    "nfs": (SharedFolder, ("gpu1", "gpu2")),
}


@contextmanager
def stage(name: str, inputs: DemoInputs, folder: Path) -> Iterator[Stage]:
    """The hosts of a section; they are destroyed however the block ends.

    Args:
        name: as the page has it: `<!-- stage: NAME -->`.
        inputs: environments and models.
        folder: for what the commands read and write.
    """
    make, hosts = STAGES[name]
    (folder / SHARE).mkdir()
    binds = [f"{folder / SHARE}:/srv/models:ro"]
    with booted("guide", [{"name": host, "groups": ["gpu-nodes"], "binds": binds} for host in hosts]) as lab:
        yield make(lab, inputs, folder)
