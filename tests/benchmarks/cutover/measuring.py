"""One lab host with the real engines: the same change once by hand and once by the product, and a client all along."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from tests.benchmarks.cutover.report import Round
from tests.lab.asking import Asking, Outage
from tests.lab.by_hand import ByHand
from tests.lab.fleet import FOLDER, ROOT, SERVICE, Finished, Fleet

HOST = "gpu1"
UNIT = f"inference-{SERVICE}"
PATIENCE = 300  # seconds for an engine to answer
OLD, NEW = "llamafactory", "sglang"


# Runs on the host, so that no round trip counts: a host of the lab has this machine's clock.
BY_HAND = """
import os, signal, subprocess, sys, time

launch, pids = sys.argv[1], sys.argv[2:]
begin = time.monotonic()
for pid in pids:
    os.kill(int(pid), signal.SIGTERM)
while any(os.path.exists("/proc/" + pid) for pid in pids):
    time.sleep(0.005)
print(begin, time.monotonic(), flush=True)
with open("/srv/by-hand.log", "w") as log:
    subprocess.Popen([launch], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
"""


@dataclass(frozen=True)
class Bench:
    """What is measured on.

    Args:
        team: a furnished host.
        deployed: the old engine is started by the product as well, not by hand.
    """

    team: ByHand
    deployed: bool

    @property
    def fleet(self) -> Fleet:
        """The host's fleet."""
        return self.team.fleet

    def round(self) -> Round:
        """Once by hand, once by the product; the host is as before afterwards."""
        self.stage()
        self.team.start()
        stop, start = self.by_hand()
        if self.deployed:
            require(self.fleet.deployer("rollout", HOST))
            require(self.fleet.deployer("rollback", HOST))
        else:
            self.team.start()
        outage, failed_outside = self.cut_over()
        self.forget()
        return Round(stop, start, outage, failed_outside)

    def warm_up(self) -> None:
        """Start both engines once: the first start reads everything from the disk, and compiles."""
        self.stage()
        self.team.start()
        self.by_hand()

    def stage(self) -> None:
        """Put the new release on the host, on which the service is not yet known."""
        self.forget()
        require(self.fleet.ansible("playbooks/deploy.yml", HOST, "--tags", "stage"))

    def by_hand(self) -> tuple[float, float]:
        """Seconds for the old engine to end, and for the new one to answer, as somebody would type it."""
        launch = self.fleet.root(HOST, f"grep -l sglang.launch_server {FOLDER}/releases/*/launch.sh")
        with Asking(self.fleet.url(HOST), SERVICE) as asking:
            wait_for(asking, OLD)
            pids = map(str, self.team.look().pids)
            printed = self.fleet.root(HOST, shlex.join(["python3", "-c", BY_HAND, launch, *pids]))
            begin, stopped = map(float, printed.split())
            wait_for(asking, NEW)
            answered = min(answer.end for answer in asking.answers if answer.engine == NEW)
        self.team.stop()
        return stopped - begin, answered - stopped

    def cut_over(self) -> tuple[float, int]:
        """Seconds that a client is without an answer in a rollout, and how many questions failed at another time."""
        with Asking(self.fleet.url(HOST), SERVICE) as asking:
            wait_for(asking, OLD)
            require(self.fleet.deployer("rollout", HOST))
            wait_for(asking, NEW)
        seen = asking.outages()
        change = change_of(asking, seen)
        return change.seconds, sum(len(one.failed) for one in seen if one is not change)

    def forget(self) -> None:
        """End what the product serves, and remove the service with all of its releases; artifacts stay."""
        self.fleet.root(
            HOST,
            f"systemctl disable --now {UNIT} 2>/dev/null; rm -rf {FOLDER} {ROOT}/rollout.json"
            f" /etc/systemd/system/{UNIT}.service; systemctl daemon-reload",
        )


def change_of(asking: Asking, seen: list[Outage]) -> Outage:
    """The outage between the old engine's last answer and the new one's first.

    Raises:
        DeployError: there is none: both answered at once.
    """
    first = min(answer.end for answer in asking.answers if answer.engine == NEW)
    for outage in seen:
        if outage.start < first <= outage.end:
            return outage
    raise DeployError("the client saw no outage: was it the old engine that answered before?")


def wait_for(asking: Asking, engine: str) -> None:
    """Until the client has had an answer of an engine to a question that it asked from now on.

    Raises:
        DeployError: that took too long.
    """
    now = time.monotonic()
    wait(lambda: asking.good_since(now, engine), f"{engine} does not answer")


def wait(met: Callable[[], bool], problem: str) -> None:
    """Look again and again.

    Raises:
        DeployError: not met within `PATIENCE` seconds.
    """
    deadline = time.monotonic() + PATIENCE
    while not met():
        if time.monotonic() > deadline:
            raise DeployError(f"{problem} after {PATIENCE} s")
        time.sleep(0.05)


def require(done: Finished) -> None:
    """Raises DeployError where a command has failed."""
    if done.status != 0:
        raise DeployError(f"a command ended with status {done.status}", detail=done.output[-4000:])
