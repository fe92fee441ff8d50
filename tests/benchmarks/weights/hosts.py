"""Eight lab hosts on equal links, made and destroyed by the playbooks that Molecule and the tests use.

The controller has the same link as each host, not the sum of them: what it sends is shaped on the lab's bridge.
What it receives is not, which is acknowledgements. All hosts share one kernel and thereby one page cache, which cannot
be emptied for one of them: the source is in it from the first transfer on, for every way alike.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.command import run
from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.lab import Lab
from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.network import (
    bridge_name,
    controller_address,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

REPOSITORY = Path(__file__).parents[3]
TARGET = "/srv/weights"  # on the hosts, theirs to write to
ROOT = "/opt/inference"


@dataclass(frozen=True)
class Fleet:
    """Booted hosts, and the model folder that goes to them.

    Args:
        lab: the hosts.
        source: the model folder on the controller.
        folder: for what a way needs besides, such as an inventory; removed at the end.
        bandwidth: of each link, in the words of tc(8).
    """

    lab: Lab
    source: Path
    folder: Path
    bandwidth: str

    @property
    def names(self) -> tuple[str, ...]:
        """The hosts' names, in the order in which they get the weights."""
        return tuple(self.lab.hosts)

    @property
    def controller(self) -> str:
        """The controller's address in the lab's network."""
        number = next(iter(self.lab.hosts.values())).address.split(".")[2]
        return controller_address(int(number))

    def shape(self) -> None:
        """Limit every link to the bandwidth; the hosts' are when they boot, the controller's is not."""
        for host in self.lab.hosts.values():
            host.shape(self.bandwidth)
        limit = ["root", "tbf", "rate", self.bandwidth, "burst", "512kb", "latency", "100ms"]  # as the hosts' links
        run(["tc", "qdisc", "replace", "dev", bridge_name(self.lab.name), *limit])

    def unshape(self) -> None:
        """Lift the limits of all links, also of those that have none."""
        for host in self.lab.hosts.values():
            run(["tc", "qdisc", "replace", "dev", host.network.link, "root", "noqueue"])
            run(["tc", "-netns", host.network.namespace, "qdisc", "replace", "dev", "eth0", "root", "noqueue"])
        run(["tc", "qdisc", "replace", "dev", bridge_name(self.lab.name), "root", "noqueue"])

    def wipe(self) -> None:
        """Remove what the hosts were sent, and let this machine's disk settle: nobody pays for the one before."""
        roots = shlex.join([TARGET, ROOT])
        command = f"sudo rm -rf {roots} && sudo install -d -o deploy {TARGET}"
        for host in self.lab.hosts.values():
            host.ssh(command, check=True)
        run(["sync", "--file-system", str(self.folder), str(self.lab.folder)])

    def require_copies(self, hosts: Sequence[str], folder: str) -> None:
        """Check that each host has every file of the source at its size.

        Raises:
            DeployError: naming the host and a file.
        """
        wanted = {path.name: path.stat().st_size for path in self.source.iterdir()}
        for name in hosts:
            listing = self.lab.hosts[name].ssh(f"sudo find {folder} -type f -printf '%f %s\\n'", check=True).stdout
            found = {file: int(size) for file, _, size in (line.partition(" ") for line in listing.splitlines())}
            wrong = sorted(file for file, size in wanted.items() if found.get(file) != size)
            if wrong:
                raise DeployError(f"{name}: {folder}/{wrong[0]} has {found.get(wrong[0])} bytes, not as sent")


def platforms(count: int, bandwidth: str, binds: Sequence[str]) -> list[dict[str, Any]]:
    """Hosts gpu1 to gpuN, as Molecule describes them."""
    return [
        {"name": f"gpu{number}", "groups": ["gpu-nodes"], "bandwidth": bandwidth, "binds": list(binds)}
        for number in range(1, count + 1)
    ]
