"""From Molecule's `platforms` to the hosts of a lab: pure, and every mistake is named before anything is made."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

from .base_image import SUITES
from .network import FIRST_HOST, LAB_NETWORK

NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,30}[a-z0-9])?")
KEYS = {"name", "groups", "base", "address", "binds", "bandwidth"}


@dataclass(frozen=True)
class Platform:
    """A host as its user describes it.

    Args:
        name: host name and inventory name.
        groups: inventory groups.
        base: Debian release of its disk.
        address: IPv4 address, empty to be given one.
        binds: `source:/opt/…[:ro]`, folders of this machine that the host sees.
        bandwidth: limit of its link in the words of tc(8), empty for none.
    """

    name: str
    groups: tuple[str, ...] = ()
    base: str = "bookworm"
    address: str = ""
    binds: tuple[str, ...] = ()
    bandwidth: str = ""


def parse_platforms(described: Sequence[Mapping[str, Any]]) -> tuple[Platform, ...]:
    """The platforms of a scenario.

    Raises:
        DeployError: naming the platform and its key.
    """
    platforms = tuple(_parse(index, entry) for index, entry in enumerate(described))
    names = [platform.name for platform in platforms]
    if not names or len(set(names)) != len(names):
        raise DeployError("platforms: at least one, each with a name of its own")
    return platforms


def explicit_number(platforms: Sequence[Platform]) -> int | None:
    """The N that the addresses given explicitly ask for, None when there are none.

    Raises:
        DeployError: they ask for more than one.
    """
    numbers = {ipaddress.IPv4Address(platform.address).packed[2] for platform in platforms if platform.address}
    if len(numbers) > 1:
        raise DeployError("platforms: all addresses of a lab must lie in one 10.97.N.0/24")
    return numbers.pop() if numbers else None


def assign_addresses(platforms: Sequence[Platform], number: int) -> dict[str, str]:
    """Host name to address: those given, and for the others the lowest free ones from 10.97.N.11 on.

    Raises:
        DeployError: two hosts ask for one address, or there are too many hosts.
    """
    given = [platform.address for platform in platforms if platform.address]
    if len(set(given)) != len(given):
        raise DeployError("platforms: two hosts have the same address")
    free = (f"10.97.{number}.{last}" for last in range(FIRST_HOST, 255))
    unused = [address for address in free if address not in given]
    if len(platforms) - len(given) > len(unused):
        raise DeployError(f"platforms: {len(platforms)} hosts are too many for one lab")
    automatic = iter(unused)
    return {platform.name: platform.address or next(automatic) for platform in platforms}


def _parse(index: int, entry: Mapping[str, Any]) -> Platform:
    name = entry.get("name", "")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise DeployError(f"platforms[{index}].name: {name!r} is not a host name", fix="use a-z, 0-9 and -")
    where = f"platforms[{index}] ({name})"
    if unknown := sorted(set(entry) - KEYS):
        raise DeployError(f"{where}: unknown key {unknown[0]}", fix=f"known are {', '.join(sorted(KEYS))}")
    base = entry.get("base", "bookworm")
    if base not in SUITES:
        raise DeployError(f"{where}.base: {base!r} is not a base image", fix=f"use one of {', '.join(SUITES)}")
    return Platform(
        name=name,
        groups=tuple(entry.get("groups", ())),
        base=base,
        address=_address(where, entry.get("address", "")),
        binds=tuple(_bind(where, bind) for bind in entry.get("binds", ())),
        bandwidth=str(entry.get("bandwidth", "")),
    )


def _address(where: str, text: str) -> str:
    if not text:
        return ""
    try:
        address = ipaddress.IPv4Address(text)
    except ValueError as error:
        raise DeployError(f"{where}.address: {error}") from error
    if address not in LAB_NETWORK or not 1 < address.packed[3] < 255:
        raise DeployError(f"{where}.address: {text} is not 10.97.N.2 to 10.97.N.254")
    return str(address)


def _bind(where: str, bind: str) -> str:
    # systemd mounts a tmpfs over /tmp and /run inside a host and would hide what is bound there.
    if not re.fullmatch(r"/[^:]*:/(opt|srv)(/[^:]+)?(:ro)?", bind):
        raise DeployError(f"{where}.binds: {bind!r}", fix="write /path/here:/opt/there or :/srv/there, with :ro if so")
    return bind
