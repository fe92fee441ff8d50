"""How an operator reaches a lab's hosts by their names: an ssh configuration."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.lab import Lab


def write_ssh_config(lab: Lab, names: Sequence[str], folder: Path, known: Path | None = None) -> Path:
    """Write `ssh_config`, and give its path.

    Args:
        lab: the hosts.
        names: of those that it is to have.
        folder: to write it in.
        known: other host keys than the lab's.
    """
    entries = [
        f"Host {name}\n  HostName {lab.hosts[name].address}\n  User deploy\n  IdentityFile {lab.private_key}\n"
        f"  IdentitiesOnly yes\n  UserKnownHostsFile {known or lab.known_hosts}\n  GlobalKnownHostsFile /dev/null\n"
        for name in names
    ]
    path = folder / "ssh_config"
    path.write_text("\n".join(entries))
    return path
