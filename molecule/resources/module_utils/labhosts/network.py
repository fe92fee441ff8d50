"""The lab's network: a bridge for the lab, and for each host a network namespace joined to it by a veth pair."""

from __future__ import annotations

import hashlib
import ipaddress
import json
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

from .command import run
from .ledger import Entry, Ledger

LAB_NETWORK = ipaddress.IPv4Network("10.97.0.0/16")
FIRST_HOST = 11  # 10.97.N.1 is the controller; the rest below is left to explicit addresses


def bridge_name(lab: str) -> str:
    """The lab's bridge; Linux allows 15 characters, so a digest stands for the lab's name."""
    return f"sgl-{_digest(lab)}"


def link_name(lab: str, host: str) -> str:
    """The controller's end of the host's veth pair."""
    return f"sv-{_digest(lab)[:4]}{_digest(host)[:7]}"


def namespace_name(lab: str, host: str) -> str:
    return f"sglang-{lab}-{host}"


def controller_address(number: int) -> str:
    return f"10.97.{number}.1"


def choose_number(lab: str, taken: AbstractSet[int]) -> int:
    """The N of a free 10.97.N.0/24, the same for the same lab name while nobody else has it.

    Raises:
        DeployError: all 256 are taken.
    """
    first = int(_digest(lab), 16)
    for offset in range(256):
        number = (first + offset) % 256
        if number not in taken:
            return number
    raise DeployError("All networks 10.97.0.0/24 to 10.97.255.0/24 are taken", fix="destroy labs that nobody uses")


def numbers_in_use() -> set[int]:
    """Every N of which this machine has an address 10.97.N.x."""
    links = json.loads(run(["ip", "-json", "-4", "address"]))
    addresses = [ipaddress.IPv4Address(info["local"]) for link in links for info in link.get("addr_info", [])]
    return {address.packed[2] for address in addresses if address in LAB_NETWORK}


@dataclass(frozen=True)
class HostNetwork:
    """A host's place in the network of its lab."""

    lab: str
    host: str
    address: str

    @property
    def link(self) -> str:
        return link_name(self.lab, self.host)

    @property
    def namespace(self) -> str:
        return namespace_name(self.lab, self.host)

    def create(self, ledger: Ledger) -> None:
        """Make the namespace and its cable. It outlives the host's reboots and power cuts, as a real cable does."""
        ledger.record(Entry("netns", self.namespace))
        run(["ip", "netns", "add", self.namespace])
        ledger.record(Entry("link", self.link))
        run(["ip", "link", "add", self.link, "type", "veth", "peer", "name", "eth0", "netns", self.namespace])
        run(["ip", "link", "set", self.link, "master", bridge_name(self.lab), "up"])
        run(["ip", "-netns", self.namespace, "link", "set", "lo", "up"])
        run(["ip", "-netns", self.namespace, "address", "add", f"{self.address}/24", "dev", "eth0"])
        run(["ip", "-netns", self.namespace, "link", "set", "eth0", "up"])

    def plug(self, up: bool) -> None:
        """Put the host's network cable in, or pull it out."""
        run(["ip", "link", "set", self.link, "up" if up else "down"])

    def shape(self, bandwidth: str) -> None:
        """Limit both directions of the host's link to `bandwidth`, in the words of tc(8): `160mbit`."""
        tbf = ["root", "tbf", "rate", bandwidth, "burst", "512kb", "latency", "100ms"]
        run(["tc", "qdisc", "replace", "dev", self.link, *tbf])
        run(["tc", "-netns", self.namespace, "qdisc", "replace", "dev", "eth0", *tbf])


def create_bridge(lab: str, number: int, ledger: Ledger) -> None:
    bridge = bridge_name(lab)
    ledger.record(Entry("link", bridge))
    run(["ip", "link", "add", bridge, "type", "bridge"])
    run(["ip", "address", "add", f"{controller_address(number)}/24", "dev", bridge])
    run(["ip", "link", "set", bridge, "up"])


def _digest(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()[:8]
