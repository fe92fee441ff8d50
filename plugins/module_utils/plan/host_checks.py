"""What has to be true of a host, whatever it is to serve: `doctor` shows every check, a plan those that fail."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from ansible_collections.deployer.sglang.plugins.module_utils.environments.installers import (
    BRING_BACKEND,
    CONDAS,
    SEARCHED,
)
from ansible_collections.deployer.sglang.plugins.module_utils.environments.report import EnvironmentReport
from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import UNLIMITED, HostFacts
from ansible_collections.deployer.sglang.plugins.module_utils.plan.findings import (
    WARNING,
    Finding,
    finding,
    judged,
)
from ansible_collections.deployer.sglang.plugins.module_utils.plan.gpus import gpu_named_by, gpu_trouble
from ansible_collections.deployer.sglang.plugins.module_utils.plan.ports import held_by
from ansible_collections.deployer.sglang.plugins.module_utils.service import Service

GIB = 2**30
OLDEST_PYTHON = (3, 9)
DESCRIPTORS = 65536  # sglang issue 744
SHARED_MEMORY = GIB  # a GPU; NCCL and multimodal features pass through it (sglang issue 5096)
# The oldest driver of each CUDA major version under minor version compatibility (CUDA Toolkit release notes, table
# "CUDA Toolkit and Minimum Required Driver Version for CUDA Minor Version Compatibility").
DRIVERS = {11: (450, 80, 2), 12: (525, 60, 13), 13: (580,)}


@dataclass(frozen=True)
class Check:
    """One line of `doctor`: what was looked at, what was seen, and the finding where that is not well.

    `service` is the one that it is about; '' where it is about the host.
    """

    name: str
    detail: str
    finding: Finding | None = None
    service: str = ""

    def judged(self, *policies: Mapping[str, str]) -> Check:
        """The same check with the severity that the inventory gives its finding."""
        return self if self.finding is None else replace(self, finding=judged([self.finding], *policies)[0])


def check_host(
    host: HostFacts,
    root: str,
    supervisor: str,
    needed: int,
    services: Sequence[Service],
    environments: Sequence[EnvironmentReport],
) -> list[Check]:
    """All checks of a host.

    Args:
        host: its facts.
        root: the deployment's root folder.
        supervisor: systemd or process.
        needed: bytes that are to be free there.
        services: that are described for it.
        environments: that they use.
    """
    gpus = max((len(service.gpus) or service.auto_gpus for service in services), default=0)
    checks = [
        _python(host),
        _platform(host, any(one.transfer for one in environments)),
        _supervisor(host, supervisor),
        _root(host, root),
        _disk(host, needed),
        _name(host),
        _descriptors(host, supervisor),
    ]
    if gpus:
        checks += [_locked_memory(host, supervisor), _shared_memory(host, gpus)]
    if gpus or host.gpus.gpus:
        checks += _gpus(host, gpus, services)
    checks += [_port(host, service) for service in services]
    for environment in environments:
        checks += _environment(host, environment, gpus)
    return checks


def failed(checks: Sequence[Check]) -> Iterator[Finding]:
    """The findings of the checks that did not pass."""
    return (check.finding for check in checks if check.finding is not None)


def version_of(text: str) -> tuple[int, ...]:
    """`580.159.04` as numbers; empty where it is no version."""
    parts = text.split(".")
    return tuple(map(int, parts)) if all(re.fullmatch("[0-9]{1,9}", part) for part in parts) else ()


def _check(name: str, detail: str, ok: bool, identifier: str, subject: str, message: str, fix: str) -> Check:
    return Check(name, detail, None if ok else finding(identifier, subject, message, fix))


def _python(host: HostFacts) -> Check:
    wanted = ".".join(map(str, OLDEST_PYTHON))
    ok = version_of(".".join(host.python.split(".")[:2])) >= OLDEST_PYTHON
    fix = f"install Python {wanted} or newer and set ansible_python_interpreter to it"
    return _check("Python", host.python, ok, "host-python", "Python", f"{host.python} is older than {wanted}", fix)


def _platform(host: HostFacts, locked: bool) -> Check:
    """Linux; on x86_64 where an environment is built there, as locks and bundles are made for that."""
    seen = f"{host.system} {host.machine}, glibc {host.glibc or '(another C library)'}"
    ok = host.system == "Linux" and (host.machine == "x86_64" or not locked)
    fix = "use an x86_64 Linux host, or an environment by prefix:"
    return _check("platform", seen, ok, "host-platform", "platform", f"is {host.system} {host.machine}", fix)


def _supervisor(host: HostFacts, supervisor: str) -> Check:
    seen = f"{supervisor}, as uid {host.uid}"
    if supervisor != "systemd":
        return Check("supervisor", seen)
    if not host.systemd:
        fix = "set inference_supervisor: process"
        return _check("supervisor", seen, False, "host-supervisor", "supervisor", "systemd does not run here", fix)
    message = f"systemd units need root, and this is uid {host.uid}"
    fix = "set ansible_become: true for these hosts"
    return _check("supervisor", seen, host.uid == 0, "host-supervisor", "supervisor", message, fix)


def _root(host: HostFacts, root: str) -> Check:
    seen = f"{root} below {host.root_folder}"
    message = f"{host.root_folder} cannot be written to by uid {host.uid}"
    fix = "set ansible_become: true, or inference_root to a folder of this user"
    return _check("root folder", seen, host.root_writable, "host-root", root, message, fix)


def _disk(host: HostFacts, needed: int) -> Check:
    seen = f"{host.disk_free / GIB:.1f} GiB free at {host.root_folder}, {needed / GIB:.1f} needed"
    short = f"{host.disk_free / GIB:.1f} GiB are free and {needed / GIB:.1f} are needed"
    fix = "free space there, or set inference_root to a larger disk"
    return _check("disk", seen, host.disk_free >= needed, "host-disk", host.root_folder, short, fix)


def _name(host: HostFacts) -> Check:
    """Where the own name does not resolve, torch waits 10 s several times over at each start."""
    seen = f"{host.name} is {host.address}" if host.address else f"{host.name} does not resolve"
    message = f"its own name {host.name} does not resolve: each start waits for it several times"
    fix = f"add '127.0.1.1 {host.name}' to /etc/hosts"
    return _check("host name", seen, bool(host.address), "host-name", "host name", message, fix)


def _descriptors(host: HostFacts, supervisor: str) -> Check:
    """A systemd unit sets its own limit, up to what the kernel allows; a process has the user's."""
    limit = host.nr_open if supervisor == "systemd" else host.nofile
    where, fix = (
        ("fs.nr_open", f"sysctl -w fs.nr_open={2**20}")
        if supervisor == "systemd"
        else ("nofile", "raise it in /etc/security/limits.conf")
    )
    ok = limit == UNLIMITED or limit >= DESCRIPTORS
    message = f"{limit} open files are allowed and {DESCRIPTORS} are needed under load"
    seen = "unlimited" if limit == UNLIMITED else f"{where} {limit}"
    return _check("open files", seen, ok, "host-nofile", where, message, fix)


def _locked_memory(host: HostFacts, supervisor: str) -> Check:
    ok = supervisor == "systemd" or host.memlock == UNLIMITED
    seen = "unlimited" if ok else f"{host.memlock // 1024} KiB"
    message = f"{seen} of memory may be locked: NCCL and InfiniBand pin their buffers"
    fix = "set memlock to unlimited in /etc/security/limits.conf"
    return _check("locked memory", seen, ok, "host-memlock", "memlock", message, fix)


def _shared_memory(host: HostFacts, gpus: int) -> Check:
    needed = SHARED_MEMORY * gpus
    seen = f"/dev/shm of {host.shm / GIB:.1f} GiB"
    message = f"{host.shm / GIB:.1f} GiB for {gpus} GPU(s): NCCL passes data through it and wants a GiB a GPU"
    fix = f"mount -o remount,size={max(8, gpus)}G /dev/shm, or --shm-size of the container"
    return _check("shared memory", seen, host.shm >= needed, "host-shm", "/dev/shm", message, fix)


def _gpus(host: HostFacts, wanted: int, services: Sequence[Service]) -> list[Check]:
    facts = host.gpus
    seen = f"driver {facts.driver or '?'}, CUDA up to {facts.cuda or '?'}"
    if facts.problem:
        fix = "install the driver and see that nvidia-smi works"
        severity = "" if wanted and not facts.gpus else WARNING
        found = finding("gpu-driver", "GPUs", facts.problem, fix, severity)
        checks = [Check("GPU driver", facts.problem, found if wanted else None)]
    else:
        checks = [Check("GPU driver", seen)]
    for gpu in facts.gpus:
        users = ", ".join(process.service or process.user or "somebody" for process in gpu.processes)
        memory = f"{gpu.memory_free / GIB:.1f} of {gpu.memory_total / GIB:.1f} GiB free"
        detail = f"{gpu.product}, {memory}" + (f", used by {users}" if users else "")
        user = next((one.name for one in services if gpu_named_by(gpu, one.gpus)), "")
        trouble = gpu_trouble(gpu, "" if user else WARNING)
        checks.append(Check(f"GPU {gpu.index}", "; ".join((detail, *gpu.trouble)), trouble, user))
    return checks


def _port(host: HostFacts, service: Service) -> Check:
    holders = "; ".join(held_by(service.port, service.name, host))
    own = "; ".join(one.who for one in host.listeners if one.port == service.port and one.service == service.name)
    seen = f"held by {holders or own}" if holders or own else "free"
    fix = "end that process, or give the service another port"
    subject = f"port {service.port}"
    check = _check(subject, seen, not holders, "port-taken", subject, f"is held by {holders}", fix)
    return replace(check, service=service.name)


def _environment(host: HostFacts, environment: EnvironmentReport, gpus: int) -> list[Check]:
    """Whether the compiled packages of an environment run here."""
    subject = f"inference_environments.{environment.name}"
    checks = []
    if environment.glibc and host.glibc:
        checks.append(
            _check(
                f"glibc for {environment.name}",
                f"{host.glibc}, {environment.glibc} needed",
                version_of(host.glibc) >= version_of(environment.glibc),
                "glibc-too-old",
                subject,
                f"its packages need glibc {environment.glibc} and this host has {host.glibc}",
                "use a newer distribution, or lock versions that run on this one",
            )
        )
    if environment.backend in CONDAS and os.path.basename(environment.path) not in host.built:
        name = environment.backend
        seen = host.condas.get(name, "not found")
        problem = f"is to be built by {name}, and this host has none, {SEARCHED}"
        check = _check(
            f"{name} for {environment.name}",
            seen,
            name in host.condas,
            "backend-missing",
            subject,
            problem,
            BRING_BACKEND.format(name),
        )
        checks.append(check)
    oldest = DRIVERS.get(next(iter(version_of(environment.cuda)), 0))
    if gpus and oldest and host.gpus.driver:
        wanted = ".".join(map(str, oldest))
        checks.append(
            _check(
                f"driver for {environment.name}",
                f"{host.gpus.driver}, {wanted} needed for CUDA {environment.cuda}",
                version_of(host.gpus.driver) >= oldest,
                "driver-too-old",
                subject,
                f"it brings CUDA {environment.cuda}, which needs driver {wanted}; this host has {host.gpus.driver}",
                f"update the driver to {wanted} or newer, or lock packages for an older CUDA",
            )
        )
    return checks
