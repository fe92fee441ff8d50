"""What has to be true of a host before anything is staged on it."""

from __future__ import annotations

import os
import platform
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.deployer.sglang.plugins.module_utils import procfs
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import nearest
from ansible_collections.deployer.sglang.plugins.module_utils.release import load_release
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import supervisor_for

OLDEST_PYTHON = (3, 9)


@dataclass(frozen=True)
class Check:
    """One line of the preflight: what was looked at, whether it is well, what was seen, and what to do otherwise."""

    id: str
    ok: bool
    detail: str
    fix: str = ""


def check_python(version: tuple[int, ...] = sys.version_info[:3]) -> Check:
    """The Python that runs the modules is new enough."""
    text = ".".join(map(str, version))
    wanted = ".".join(map(str, OLDEST_PYTHON))
    fix = f"install Python {wanted} or newer and set ansible_python_interpreter to it"
    return Check("python", version[:2] >= OLDEST_PYTHON, f"Python {text}", fix)


def check_platform(system: str, machine: str) -> Check:
    """Linux on x86_64: what locks and bundles are made for."""
    fix = "use an x86_64 Linux host, or an environment by prefix:"
    return Check("platform", (system, machine) == ("Linux", "x86_64"), f"{system} {machine}", fix)


def check_supervisor(kind: str, uid: int, systemd_runs: bool) -> Check:
    """What is to keep the service alive can do so here."""
    if kind != "systemd":
        return Check("supervisor", True, f"{kind}, as uid {uid}")
    if not systemd_runs:
        return Check("supervisor", False, "systemd does not run here", "set inference_supervisor: process")
    return Check("supervisor", uid == 0, f"systemd, as uid {uid}", "set ansible_become: true for these hosts")


def check_root(root: str) -> Check:
    """The root folder, or the nearest folder above it that exists, can be written."""
    existing = nearest(root)
    fix = "set ansible_become: true, or inference_root to a folder of this user"
    return Check("root", os.access(existing, os.W_OK | os.X_OK), f"{root} below {existing}", fix)


def check_disk(root: str, needed_gib: float) -> Check:
    """There is room at the root folder."""
    existing = nearest(root)
    free = shutil.disk_usage(existing).free / 2**30
    detail = f"{free:.1f} GiB free at {existing}, {needed_gib:g} wanted"
    return Check("disk", free >= needed_gib, detail, "free space there, or set inference_root to a larger disk")


def check_host_name(name: str) -> Check:
    """The host's own name resolves: where it does not, torch waits 10 s several times over at each start."""
    try:
        address = socket.getaddrinfo(name, None)[0][4][0]
    except OSError as error:
        return Check("host name", False, f"{name}: {error}", f"add '127.0.1.1 {name}' to /etc/hosts")
    return Check("host name", True, f"{name} is {address}")


def check_port(root: str, supervisor: str, service: str, port: int) -> Check:
    """The port is free, or held by this service itself."""
    name = f"port {port}"
    if not procfs.listening_inodes(port):
        return Check(name, True, "free")
    folder = Store(root).service(service)
    try:
        current = folder.release_of("current")
        # What serves now may be kept by another supervisor than what is to serve.
        kind = load_release(folder.release(current)).release.supervisor if current else supervisor
        foreign = procfs.foreign_listeners(port, supervisor_for(kind, service, folder).state().pids)
    except DeployError as error:
        return Check(name, False, error.problem, error.fix)
    if not foreign:
        return Check(name, True, f"held by {service} itself")
    return Check(name, False, f"held by {foreign}", "end that process, or give the service another port")


def list_gpus() -> str:
    """What `nvidia-smi -L` prints; '' where there is none, or it fails."""
    try:
        done = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout if done.returncode == 0 else ""


def check_gpus(wanted: Sequence[str], listing: str) -> Check:
    """Every GPU that is wanted is there, by index (`GPU 6: …`) or UUID (`(UUID: GPU-…)`)."""
    present = {word for line in listing.splitlines() for word in re.findall(r"^GPU (\d+):|UUID: ([^)]+)", line.strip())}
    names = {name for pair in present for name in pair if name}
    missing = [gpu for gpu in wanted if gpu not in names]
    seen = f"{len(listing.splitlines())} lines from nvidia-smi -L" if listing else "nvidia-smi -L lists none"
    detail = f"{', '.join(missing)} not there; {seen}" if missing else f"{', '.join(wanted) or 'none'} wanted"
    return Check("gpus", not missing, detail, "correct gpus: of the service, or look at the driver (nvidia-smi)")


def check_host(
    root: str, supervisor: str, min_free_gib: float, gpus: Sequence[str], ports: Sequence[tuple[str, int]]
) -> list[Check]:
    """All checks of this host.

    Args:
        root: the deployment's root folder.
        supervisor: systemd or process.
        min_free_gib: GiB that have to be free at `root`.
        gpus: indices and UUIDs of the GPUs that the services are to use.
        ports: (service, port) of every service described for this host.
    """
    return [
        check_python(),
        check_platform(platform.system(), platform.machine()),
        check_supervisor(supervisor, os.geteuid(), os.path.isdir("/run/systemd/system")),
        check_root(root),
        check_disk(root, min_free_gib),
        check_host_name(socket.gethostname()),
        check_gpus(gpus, list_gpus() if gpus else ""),
        *(check_port(root, supervisor, service, port) for service, port in ports),
    ]
