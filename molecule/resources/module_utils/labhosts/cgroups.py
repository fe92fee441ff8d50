"""A control group per host: without one, the systemds of two hosts would manage the same groups and end each
other's services."""

from __future__ import annotations

import os
from pathlib import Path


def host_cgroups(lab: str, host: str) -> list[Path]:
    """The host's group in each hierarchy that systemd uses to track processes (v2, and v1's name=systemd)."""
    return [root / f"sglang-{lab}-{host}" for root in tracking_hierarchies(Path("/proc/self/mountinfo").read_text())]


def tracking_hierarchies(mountinfo: str) -> list[Path]:
    """Mount points of the hierarchies that systemd tracks processes in, from the text of proc(5) mountinfo."""
    roots: dict[Path, None] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.partition(" ")
        if kind == "cgroup2" or (kind == "cgroup" and "name=systemd" in options):
            roots[Path(before.split()[4])] = None
    return list(roots)


def remove_cgroup(path: Path) -> None:
    """Remove a group and those that the host's systemd made below it; all of its processes have ended."""
    for folder, _, _ in os.walk(path, topdown=False):
        Path(folder).rmdir()
