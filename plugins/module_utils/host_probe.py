"""Reads a host's facts on the host itself; changes nothing."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import platform
import resource
import shutil
import socket
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils import procfs
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.adopt import look
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.targets import committed
from ansible_collections.deployer.sglang.plugins.module_utils.environments.installers import find_condas
from ansible_collections.deployer.sglang.plugins.module_utils.environments.report import report_prefix
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import nearest, read_json
from ansible_collections.deployer.sglang.plugins.module_utils.gpu_probe import read_gpus
from ansible_collections.deployer.sglang.plugins.module_utils.gpus import Gpu, GpuFacts
from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import UNLIMITED, HostFacts, Listener, Running
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import listing_digest
from ansible_collections.deployer.sglang.plugins.module_utils.release import load_release
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import logrotate, supervisor_for
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import MANIFEST_FILE

# What reading a file that is not what was written there comes to.
DAMAGED = (DeployError, OSError, AttributeError, KeyError, OverflowError, TypeError, ValueError)


def read_host(
    root: str, services: Sequence[str], environments: Sequence[Mapping[str, Any]], ports: Sequence[int] = ()
) -> HostFacts:
    """The facts of this host.

    Args:
        root: the deployment's root folder, which need not exist.
        services: names of the services that are described for it.
        environments: `name`, `prefix` and `engines` of every environment by prefix.
        ports: of the services; who else listens there is asked whether it can be adopted.
    """
    store = Store(root)
    folder = nearest(root)
    deployed = {name: found for name in services if (found := _deployed(store, name)) is not None}
    owners = {pid: name for name, (_, pids) in deployed.items() for pid in pids}
    low, high = _words("/proc/sys/net/ipv4/ip_local_port_range", "32768 60999")[:2]
    name = socket.gethostname()
    return HostFacts(
        python=platform.python_version(),
        system=platform.system(),
        machine=platform.machine(),
        glibc=_glibc(),
        uid=os.geteuid(),
        systemd=os.path.isdir("/run/systemd/system"),
        name=name,
        address=_address(name),
        root_folder=folder,
        root_writable=os.access(folder, os.W_OK | os.X_OK),
        disk_free=shutil.disk_usage(folder).free,
        memory=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        shm=shutil.disk_usage("/dev/shm").total if os.path.isdir("/dev/shm") else 0,
        nofile=_limit(resource.RLIMIT_NOFILE),
        nr_open=int(_words("/proc/sys/fs/nr_open", "1048576")[0]),
        memlock=_limit(resource.RLIMIT_MEMLOCK),
        ephemeral=(int(low), int(high)),
        gpus=_owned(read_gpus(), owners),
        listeners=tuple(_adoptable(one, owners, ports) for one in _listeners(owners)),
        models=_models(store),
        built=_built(store),
        incoming=_size(os.path.join(root, "incoming")),
        condas=find_condas(),
        environments={one["name"]: report_prefix(one["name"], one["prefix"], one["engines"]) for one in environments},
        services={name: running for name, (running, _) in deployed.items()},
    )


def processes_of_services(store: Store, besides: str) -> frozenset[int]:
    """The processes of what is deployed on this host, but for one service."""
    names = _entries(os.path.join(store.root, "services"))
    found = (_deployed(store, name) for name in names if name != besides)
    return frozenset(pid for one in found if one is not None for pid in one[1])


def _deployed(store: Store, service: str) -> tuple[Running, frozenset[int]] | None:
    """The current release of a service and the processes that belong to it; None where none was deployed."""
    folder = store.service(service)
    try:
        current = committed(folder, None)  # also where somebody removed the link: its processes are no strangers
        if current is None:
            return None
        release = load_release(folder.release(current)).release
        state = supervisor_for(release.supervisor, service, folder).state()
    except DAMAGED:  # mended by staging; its processes are strangers until then
        return None
    running = Running(
        release=current,
        engine=release.engine,
        served_name=release.served_name,
        model=os.path.basename(release.model.path),
        port=release.port,
        gpus=release.gpus,
        runs=state.running,
    )
    return running, state.pids


def _listeners(owners: Mapping[int, str]) -> Iterable[Listener]:
    groups: dict[int, list[int]] = {}
    group_of = {}
    for process in procfs.all_processes():
        group_of[process.pid] = process.group
        groups.setdefault(process.group, []).append(process.pid)
    for port, pids in sorted(procfs.listening_ports().items()):
        own = sorted({owners[pid] for pid in pids if pid in owners})
        strangers = sorted(pid for pid in pids if pid not in owners)
        if own:
            yield Listener(port, f"service {own[0]}", own[0])
        if strangers or not own:
            family = {pid for one in strangers for pid in groups.get(group_of.get(one, -1), [one])}
            who = "; ".join(map(procfs.describe, strangers)) or "a process of another user"
            yield Listener(port, who, pids=tuple(sorted(family - owners.keys())))


def _adoptable(listener: Listener, owners: Mapping[int, str], ports: Sequence[int]) -> Listener:
    """The same, with what a rollout would make of it."""
    if listener.service or listener.port not in ports:
        return listener
    found = look(listener.port, owners)
    if found is None or not found.automatic:
        return listener
    if found.problem:
        return dataclasses.replace(listener, who=f"{listener.who}, which cannot be adopted ({found.problem})")
    pids = tuple(sorted({*listener.pids, *found.pids}))
    log = found.log if os.path.isfile(found.log) and not logrotate.rotates(found.log) else ""
    return dataclasses.replace(listener, who=found.who, pids=pids, adopts=found.engine, log=log)


def _owned(facts: GpuFacts, owners: Mapping[int, str]) -> GpuFacts:
    """The same GPUs, with the deployment's own processes marked as such."""

    def marked(gpu: Gpu) -> Gpu:
        processes = (dataclasses.replace(one, service=owners.get(one.pid, "")) for one in gpu.processes)
        return dataclasses.replace(gpu, processes=tuple(processes))

    return dataclasses.replace(facts, gpus=tuple(map(marked, facts.gpus)))


def _models(store: Store) -> dict[str, str]:
    found = {}
    for name in _entries(os.path.join(store.root, "artifacts", "models")):
        path = os.path.join(store.root, "artifacts", "models", name, MANIFEST_FILE)
        try:
            files = [(str(one["path"]), int(one["size"])) for one in (read_json(path) or {}).get("files", [])]
        except DAMAGED:  # or not finished: it is brought again
            continue
        if files:
            found[name] = listing_digest(files)
    return found


def _built(store: Store) -> tuple[str, ...]:
    folder = os.path.join(store.root, "artifacts", "environments")
    return tuple(name for name in _entries(folder) if os.path.exists(os.path.join(folder, name, "environment.json")))


def _size(folder: str) -> int:
    """Bytes of the files below a folder; 0 where there is none."""
    found = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):
                found += os.lstat(os.path.join(parent, name)).st_size
    return found


def _entries(folder: str) -> list[str]:
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _glibc() -> str:
    """`2.36`; '' on a host whose C library is another one."""
    name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    return version if name == "glibc" else ""


def _address(name: str) -> str:
    try:
        return str(socket.getaddrinfo(name, None)[0][4][0])
    except OSError:
        return ""


def _limit(which: int) -> int:
    hard = resource.getrlimit(which)[1]
    return UNLIMITED if hard == resource.RLIM_INFINITY else hard


def _words(path: str, default: str) -> list[str]:
    try:
        with open(path, encoding="ascii") as stream:
            return stream.read().split()
    except OSError:
        return default.split()
