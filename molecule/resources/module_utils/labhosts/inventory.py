"""What other programs need to reach the lab: an Ansible inventory, Molecule's instance configuration, ssh options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .base_image import USER
from .platforms import Platform


def ssh_options(private_key: Path, known_hosts: Path) -> list[str]:
    """Log in with the lab's key only, to hosts whose keys the lab made only."""
    settings = {
        "IdentityFile": private_key,
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": known_hosts,
        "StrictHostKeyChecking": "yes",
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def ansible_inventory(
    platforms: Sequence[Platform], addresses: Mapping[str, str], options: Sequence[str], sockets: Path
) -> dict[str, Any]:
    """An inventory in Ansible's YAML structure, with the groups of the platforms.

    Args:
        platforms: the lab's hosts.
        addresses: by host name.
        options: of ssh.
        sockets: folder of ssh's shared connections, where `destroy` finds and ends them.
    """
    groups: dict[str, Any] = {}
    for platform in platforms:
        for group in platform.groups or ("ungrouped",):
            groups.setdefault(group, {"hosts": {}})["hosts"][platform.name] = {}
    common = " ".join([*options, "-o", f"ControlPath={sockets}/%h"])
    return {
        "all": {
            "hosts": {name: {"ansible_host": address} for name, address in addresses.items()},
            "vars": {"ansible_user": USER, "ansible_ssh_common_args": common},
            "children": groups,
        }
    }


def molecule_instances(addresses: Mapping[str, str], private_key: Path) -> list[dict[str, Any]]:
    """Molecule's instance configuration, one entry a host."""
    return [
        {"instance": name, "address": address, "user": USER, "port": 22, "identity_file": str(private_key)}
        for name, address in addresses.items()
    ]
