"""LLaMA-Factory on a lab host as a team runs it: an ordinary user, their project, `nohup env … uv run …` by SSH."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.host import LabHost
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import wait_until
from tests.lab.fleet import PORT, SERVICE, Fleet

USER = "ops"
HOME = f"/home/{USER}"
PROJECT = f"{HOME}/LLaMA-Factory"
MODEL = f"{PROJECT}/saves/qwen3-14b-ft-20250710_154849"
LOG = f"{PROJECT}/{SERVICE}_{PORT}.log"
ROOT = "/srv/team"  # where the product builds the environment that the team's project uses
SECRET = "ops-password"  # in a variable of the user's shell, which the server inherits
STARTS_WITHIN = 120  # seconds on a busy machine
COMMAND = (
    f"nohup env CUDA_VISIBLE_DEVICES= API_HOST=0.0.0.0 API_PORT={PORT} API_MODEL_NAME={SERVICE}"
    f" uv run python -m llamafactory.cli api --model_name_or_path {MODEL} --template qwen"
    f" > {SERVICE}_{PORT}.log 2>&1 &"
)

# The process that listens on the port and all above it that the same user started; what can be compared of each.
LOOK = """
import json, os, sys

port = int(sys.argv[1])
inodes = set()
for table in ("/proc/net/tcp", "/proc/net/tcp6"):
    for words in map(str.split, open(table).readlines()[1:]):
        if words[3] == "0A" and int(words[1].rpartition(":")[2], 16) == port:
            inodes.add("socket:[%s]" % words[9])


def links(pid):
    found = {}
    try:
        for name in os.listdir("/proc/%d/fd" % pid):
            found[int(name)] = os.readlink("/proc/%d/fd/%s" % (pid, name))
    except OSError:
        pass
    return found


def text(pid, name):
    return open("/proc/%d/%s" % (pid, name), "rb").read().decode(errors="surrogateescape")


def described(pid):
    status = dict(line.split(":", 1) for line in text(pid, "status").splitlines())
    streams = links(pid)
    limits = [line.split()[-3:-1] for line in text(pid, "limits").splitlines() if line.startswith("Max open files")]
    return {
        "pid": pid,
        "parent": int(status["PPid"]),
        "argv": text(pid, "cmdline").split(chr(0))[:-1],
        "environ": dict(one.split("=", 1) for one in text(pid, "environ").split(chr(0)) if "=" in one),
        "folder": os.readlink("/proc/%d/cwd" % pid),
        "executable": os.readlink("/proc/%d/exe" % pid),
        "users": status["Uid"].split(),
        "groups": [*status["Gid"].split(), *sorted(status["Groups"].split())],
        "umask": status["Umask"].strip(),
        "stdout": streams.get(1, ""),
        "stderr": streams.get(2, ""),
        "open_files": limits[0],
    }


pids = [int(name) for name in os.listdir("/proc") if name.isdigit()]
listening = [pid for pid in pids if inodes & set(links(pid).values())]
chain = []
pid = min(listening) if listening else 0
while pid > 1:
    one = described(pid)
    if chain and one["users"] != chain[-1]["users"]:
        break
    chain.append(one)
    pid = one["parent"]
print(json.dumps(chain))
"""


@dataclass(frozen=True)
class Process:
    """What a process was started with, and as whom."""

    argv: tuple[str, ...]
    environ: dict[str, str]
    folder: str
    executable: str
    users: tuple[str, ...]
    groups: tuple[str, ...]
    umask: str
    stdout: str
    stderr: str
    open_files: tuple[str, ...]

    def differences(self, other: Process, ignored: Sequence[str] = ("INFERENCE_RELEASE",)) -> dict[str, Any]:
        """What is not the same in `other`, field by field; environment variables by name, without the ignored."""
        found: dict[str, Any] = {}
        for name, value in vars(self).items():
            if name != "environ" and value != getattr(other, name):
                found[name] = (value, getattr(other, name))
        for name in sorted({*self.environ, *other.environ} - {*ignored}):
            if self.environ.get(name) != other.environ.get(name):
                found[f"environ {name}"] = (self.environ.get(name), other.environ.get(name))
        return found


@dataclass(frozen=True)
class Tree:
    """What serves a port: the process that listens, and those of its user above it, up to what was typed."""

    pids: tuple[int, ...]
    processes: tuple[Process, ...]

    @property
    def engine(self) -> Process:
        """The process that listens."""
        return self.processes[0]

    @property
    def typed(self) -> Process:
        """What the user's command line became: `uv run …`."""
        return next(one for one in self.processes if one.argv[:2] == ("uv", "run"))


@dataclass(frozen=True)
class ByHand:
    """A lab host with the team's user, project and environment on it.

    Args:
        fleet: an inventory with an environment `llamafactory`.
        name: of the host.
    """

    fleet: Fleet
    name: str

    @property
    def host(self) -> LabHost:
        """The lab host."""
        return self.fleet.lab.hosts[self.name]

    def furnish(self) -> None:
        """Make user, environment and project; the model lies in the project's folder."""
        words = ("--tags", "environment", "-e", f"inference_root={ROOT}")
        done = self.fleet.ansible("playbooks/deploy.yml", self.name, *words)
        assert done.status == 0, done.output
        self.fleet.root(
            self.name,
            f"id {USER} 2>/dev/null || useradd --create-home --shell /bin/bash {USER};"
            f"install -d -o {USER} -m 700 {HOME}/.ssh;"
            f"install -o {USER} -m 600 ~deploy/.ssh/authorized_keys {HOME}/.ssh/",
        )
        self._send(Path(sys.executable).with_name("uv"), "/usr/local/bin/uv")
        python = self.fleet.root(self.name, f"ls {ROOT}/artifacts/environments/llamafactory-*/bin/python")
        # What `uv venv` makes; the packages are those of the environment that the product built.
        self.user(f"mkdir -p {MODEL} && {python} -m venv --without-pip --system-site-packages {PROJECT}/.venv")
        for path in self.fleet.inputs.models[0].iterdir():
            self._send(path, f"{MODEL}/{path.name}", user=USER)

    def start(self) -> None:
        """Type the command, and wait until it serves."""
        self.user(f"cd {PROJECT}; export WANDB_API_KEY={SECRET}; {COMMAND}")
        assert self.fleet.answers_within(self.name, STARTS_WITHIN), self.user(f"tail -50 {LOG}")

    def stop(self) -> None:
        """SIGTERM to what was typed and what it started, as `pkill` would; return when nobody listens any more."""
        pids = " ".join(map(str, self.look().pids))
        self.fleet.root(self.name, f"kill {pids}")
        assert wait_until(lambda: self.gone(pids), 60)

    def gone(self, pids: str) -> bool:
        """True when none of these processes is left."""
        return self.fleet.root(self.name, f"for pid in {pids}; do test -e /proc/$pid && echo $pid; done; true") == ""

    def user(self, command: str) -> str:
        """What a command prints for the team's user, by SSH as they would."""
        arguments = [USER if word == "deploy" else word for word in self.host.ssh_args]
        done = subprocess.run(
            [*arguments, self.host.address, command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        return done.stdout.strip()

    def look(self) -> Tree:
        """What serves the port now."""
        found = json.loads(self.fleet.root(self.name, f"python3 -c {shlex.quote(LOOK)} {PORT}"))
        pids = tuple(one.pop("pid") for one in found)
        values = [{k: tuple(v) if isinstance(v, list) else v for k, v in one.items() if k != "parent"} for one in found]
        return Tree(pids, tuple(Process(**one) for one in values))

    def _send(self, path: Path, target: str, user: str = "root") -> None:
        """Copy a file there."""
        command = (
            f"sudo sh -c 'cat > {target} && chmod {path.stat().st_mode & 0o777:o} {target} && chown {user} {target}'"
        )
        with path.open("rb") as stream:
            subprocess.run([*self.host.ssh_args, self.host.address, command], stdin=stream, check=True, timeout=120)
