"""What of a lab is still on this machine, found without the lab's own records."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from .cgroups import host_cgroups
from .lab import Lab
from .network import bridge_name, link_name, namespace_name


def leftovers(lab: Lab, hosts: Iterable[str]) -> list[str]:
    """Processes, mounts, namespaces, links, control groups and files of the lab, one line each; empty when it is gone.

    Args:
        lab: existing or destroyed.
        hosts: the names that its hosts have, or had.
    """
    names = list(hosts)
    groups = [group for host in names for group in host_cgroups(lab.name, host)]
    namespaces = [f"/run/netns/{namespace_name(lab.name, host)}" for host in names]
    links = [bridge_name(lab.name), *(link_name(lab.name, host) for host in names)]
    folders = [lab.folder, *groups, *(Path(namespace) for namespace in namespaces)]
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return [
        *_processes(f"{lab.folder}/", {group.name for group in groups}),
        *(f"mount {mount}" for mount in mounts if any(path in mount for path in (f"{lab.folder}/", *namespaces))),
        *(f"link {link}" for link in links if Path("/sys/class/net", link).exists()),
        *(str(folder) for folder in folders if folder.exists()),
    ]


def _processes(folder: str, groups: set[str]) -> list[str]:
    """Processes in one of the control groups, or with the lab's folder on their command line."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(FileNotFoundError, ProcessLookupError):
            words = (process / "cmdline").read_text().replace("\0", " ")
            paths = [line.split(":", 2)[2] for line in (process / "cgroup").read_text().splitlines()]
            inside = any(groups.intersection(path.split("/")) for path in paths)
            if process.name != str(os.getpid()) and (inside or folder in words):
                found.append(f"process {process.name} {words}")
    return found
