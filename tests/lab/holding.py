"""Stops a cut-over on a host in the state that a test wants it in, so that the fault comes at that moment.

Each state is on disk before it is entered. A watcher on the host sees it there and stops the process that holds the
service's lock: SIGSTOP, which nothing notices until SIGCONT. It stands at the very beginning of the state then, but
for `stopped`, which is in the state `stop` when nobody listens on the port any more.
"""

from __future__ import annotations

import json
import shlex
import subprocess
from dataclasses import dataclass

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.host import LabHost
from tests.lab.fleet import FOLDER, PORT

# Not `prove`: without GPUs there is nothing to wait for, and it is over before anybody sees it. Unit tests have it.
STATES = ("drain", "stop", "stopped", "start", "gate", "commit", "restore")
PATIENCE = 60  # seconds for a state to be reached
WATCHER = """
import json, os, signal, sys, time

folder, wanted, patience, port = sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4])
listening = ":%04X 00000000:0000 0A" % port


def state():
    try:
        with open(folder + "/transaction.json") as stream:
            return json.load(stream)["state"]
    except FileNotFoundError:
        return ""


def reached():
    if wanted != "stopped":
        return state() == wanted
    return state() == "stop" and listening not in open("/proc/net/tcp").read()


def holder():
    inode = os.stat(folder + "/lock").st_ino
    for line in open("/proc/locks"):
        words = line.split()
        if words[1] == "FLOCK" and words[5].rpartition(":")[2] == str(inode):
            return int(words[4])
    return 0


deadline = time.monotonic() + patience
print("watching", flush=True)
while not reached():
    if time.monotonic() > deadline:
        sys.exit("the state was not reached; it is %r" % state())
    time.sleep(0.0005)
pid = holder()
os.kill(pid, signal.SIGSTOP)
print(json.dumps({"pid": pid, "state": state()}), flush=True)
"""


@dataclass(frozen=True)
class Held:
    """A transaction that stands still.

    Args:
        host: where.
        pid: of the process that carries it out, there.
    """

    host: LabHost
    pid: int

    def go_on(self, after: float = 0) -> None:
        """Let it go on, by the host itself after so many seconds: it may be out of reach by then."""
        later = f"setsid sh -c 'sleep {after}; kill -CONT {self.pid}' >/dev/null 2>&1 </dev/null &"
        self.host.ssh(f"sudo sh -c {shlex.quote(later if after else f'kill -CONT {self.pid}')}", check=True)

    def kill(self) -> None:
        """End the process that carries it out, and nothing else."""
        self.host.ssh(f"sudo kill -KILL {self.pid}", check=True)

    def parent(self) -> int:
        """Who waits for that process."""
        return int(self.host.ssh(f"ps -o ppid= -p {self.pid}", check=True).stdout)

    def kill_parent(self) -> None:
        """End who waits for that process, and leave the process as it is."""
        self.host.ssh(f"sudo kill -KILL {self.parent()}", check=True)


class Watch:
    """Watches for a state, from when it is made.

    Args:
        host: where a cut-over is to begin.
        state: to hold it in: one of `STATES`.
    """

    def __init__(self, host: LabHost, state: str) -> None:
        self.host, self.state = host, state
        command = f"sudo python3 -c {shlex.quote(WATCHER)} {FOLDER} {state} {PATIENCE} {PORT}"
        self._watcher = subprocess.Popen(
            [*host.ssh_args, host.address, command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        assert self._line() == "watching"

    def held(self) -> Held:
        """Return once the transaction stands still in that state."""
        said = self._line()
        self._watcher.wait(timeout=PATIENCE)
        found = json.loads(said) if said.startswith("{") else {}
        wanted = "stop" if self.state == "stopped" else self.state
        assert found.get("state") == wanted, f"not held in {self.state}: {said}"
        return Held(self.host, int(found["pid"]))

    def _line(self) -> str:
        assert self._watcher.stdout is not None
        return self._watcher.stdout.readline().strip()
