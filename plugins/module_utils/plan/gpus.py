"""Which GPUs of a host a service gets, and what is wrong with them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from ansible_collections.deployer.sglang.plugins.module_utils.gpus import Gpu, GpuFacts, GpuProcess
from ansible_collections.deployer.sglang.plugins.module_utils.plan.findings import Finding, finding

GIB = 2**30
# SGLang refuses a group whose fullest GPU has less than this share of another one's free memory
# (`_check_tp_memory_balance` in its distributed/bootstrap.py).
EVEN = 0.9
# Best first (the legend of `nvidia-smi topo -m`); NVLink, which outranks them all, is told by its number of links.
LINKS = ("PIX", "PXB", "PHB", "NODE", "SYS")
SLOW_LINKS = ("NODE", "SYS")
CHOICE_STEP = GIB  # GPUs whose free memory differs by less count as equally free


def free_for(gpu: Gpu, services: Sequence[str]) -> int:
    """Bytes that are free of a GPU once these services' processes have ended there."""
    return gpu.memory_free + sum(process.memory for process in gpu.processes if process.service in services)


def with_unlisted(facts: GpuFacts, service: str, names: Sequence[str]) -> GpuFacts:
    """The GPUs, where memory that is in use and that no process shows counts as that of the service which runs there.

    In a container, and under WSL, nvidia-smi lists no processes, or not their memory.

    Args:
        facts: of the host.
        service: that runs.
        names: indices and UUIDs of its GPUs.
    """

    def owned(gpu: Gpu) -> Gpu:
        unknown = gpu.memory_used - sum(one.memory for one in gpu.processes)
        strangers = any(one.service != service for one in gpu.processes)
        if strangers or unknown <= 0 or not gpu_named_by(gpu, names):
            return gpu
        return replace(gpu, processes=(*gpu.processes, GpuProcess(0, "", "", unknown, service)))

    return replace(facts, gpus=tuple(map(owned, facts.gpus)))


def gpu_named(name: str, gpus: Sequence[Gpu]) -> Gpu | None:
    """The GPU of an index or a UUID; None where there is none."""
    found = next((gpu for gpu in gpus if name in (str(gpu.index), gpu.uuid)), None)
    alike = [gpu for gpu in gpus if name.startswith("GPU-") and gpu.uuid.startswith(name)]
    return found or (alike[0] if len(alike) == 1 else None)  # CUDA takes the beginning of a UUID as well


def choose_gpus(
    count: int, facts: GpuFacts, service: str, taken: Sequence[str], kept: Sequence[str]
) -> tuple[str, ...]:
    """The GPUs for `gpus: auto`: whole, nobody's, equally free, best linked; those of before where they still do.

    Args:
        count: how many.
        facts: of the host.
        service: whose processes do not count, as they end before it starts.
        taken: indices and UUIDs that other services are described with.
        kept: what the service has now; a second run must not move it.
    Returns:
        Their indices, in order; empty when there are not enough.
    """
    if kept and len(kept) == count and all(gpu_named(name, facts.gpus) for name in kept):
        return tuple(kept)  # whatever is wrong with them is found, and not evaded by a move
    free = [gpu for gpu in facts.gpus if _is_free(gpu, service, taken)]
    groups = itertools.islice(itertools.combinations(free, count), 20_000)  # of 16 GPUs there are 12,870 groups of 8
    best = min(groups, key=lambda group: _rank(group, facts.links, service), default=())
    return tuple(str(gpu.index) for gpu in best)


def _is_free(gpu: Gpu, service: str, taken: Sequence[str]) -> bool:
    foreign = any(process.service != service for process in gpu.processes)
    return not (gpu.mig or gpu.trouble or foreign or gpu_named_by(gpu, taken))


def _rank(group: Sequence[Gpu], links: Mapping[str, str], service: str) -> tuple[object, ...]:
    """Lower is better: one product, equally free, not in use, the weakest link, all links, most memory, lowest indices.

    A GPU in use may have no process to show: nvidia-smi in a container does not see those of others.
    """
    used = max(1 - free_for(gpu, (service,)) / max(1, gpu.memory_total) for gpu in group)
    free = [free_for(gpu, (service,)) // CHOICE_STEP for gpu in group]
    weights = [_weight(link) for link in _links_of(group, links)]
    return (
        len({gpu.product for gpu in group}),
        min(free) < EVEN * max(free),
        used > 1 - EVEN,
        max(weights, default=0),
        sum(weights),
        -min(free),
        [gpu.index for gpu in group],
    )


def _links_of(group: Sequence[Gpu], links: Mapping[str, str]) -> list[str]:
    pairs = itertools.combinations(sorted(gpu.index for gpu in group), 2)
    return [links.get(f"{first}-{second}", "") for first, second in pairs]


def _weight(link: str) -> int:
    """0 for 32 NVLinks, more for fewer, then the kinds of PCIe paths; unknown counts as the worst."""
    if link.startswith("NV") and link[2:].isdigit():
        return max(0, 32 - int(link[2:]))
    return 100 + (LINKS.index(link) if link in LINKS else len(LINKS))


def gpu_findings(
    where: str, names: Sequence[str], facts: GpuFacts, own: Sequence[str], later: bool = False
) -> Iterator[Finding]:
    """What is wrong with the GPUs of a service.

    Args:
        where: key of the service.
        names: indices and UUIDs that it is to use.
        facts: of the host.
        own: services whose processes have ended when it starts.
        later: for what a rollback would start: who uses its GPUs now says nothing of then.
    """
    if names and not facts.gpus:
        return  # the host's checks say why (gpu-driver)
    group: list[Gpu] = []
    for name in dict.fromkeys(names):
        gpu = gpu_named(name, facts.gpus)
        if name.startswith("MIG-") and any(one.mig for one in facts.gpus):
            continue  # nvidia-smi -q does not give the UUIDs of parts: the engine finds out
        if gpu is None:
            there = ", ".join(str(one.index) for one in facts.gpus)
            fix = f"choose among {there}" + (f"; nvidia-smi also says: {facts.problem}" if facts.problem else "")
            yield finding("gpu-absent", f"GPU {name}", "is not there", fix)
        elif gpu in group:
            by_uuid = f"is GPU {gpu.index}, which is listed by its index too"
            message = by_uuid if name == gpu.uuid else "is listed by its UUID too"
            yield finding("gpu-repeated", f"GPU {name}", message, "list each GPU once")
        else:
            group.append(gpu)
            yield from _one_gpu(gpu)
            yield from () if later else _users(gpu, own)
    if len(group) > 1 and not later:
        yield from _one_group(where, group, facts.links, own)


def gpu_named_by(gpu: Gpu, names: Sequence[str]) -> bool:
    """Whether one of these indices and UUIDs means this GPU."""
    return any(gpu_named(name, (gpu,)) is not None for name in names)


def gpu_trouble(gpu: Gpu, severity: str = "") -> Finding | None:
    """What is wrong with the device itself; None when it is well."""
    if not gpu.trouble:
        return None
    fix = "drain it, reset it (nvidia-smi -r) or have it replaced"
    return finding("gpu-trouble", f"GPU {gpu.index}", "; ".join(gpu.trouble), fix, severity)


def _one_gpu(gpu: Gpu) -> Iterator[Finding]:
    subject = f"GPU {gpu.index}"
    if gpu.mig:
        parts = f"it is split into {gpu.mig_devices} parts" if gpu.mig_devices else "it has no parts yet"
        yield finding(
            "gpu-mig",
            subject,
            f"is in MIG mode: {parts}",
            f"nvidia-smi -i {gpu.index} -mig 0, and reset it; or name one part of it by its MIG-… UUID",
        )


def _users(gpu: Gpu, own: Sequence[str]) -> Iterator[Finding]:
    for process in gpu.processes:
        if process.service not in own:
            who = f"service {process.service}" if process.service else process.user or "somebody"
            command = f": {process.command}" if process.command and not process.service else ""
            memory = f", {process.memory / GIB:.1f} GiB" if process.memory else ""
            yield finding(
                "gpu-busy",
                f"GPU {gpu.index}",
                f"is used by pid {process.pid} of {who}{command}{memory}",
                "end that process just before the rollout, or choose another GPU",
            )


def _one_group(where: str, group: Sequence[Gpu], links: Mapping[str, str], own: Sequence[str]) -> Iterator[Finding]:
    free = {gpu.index: free_for(gpu, own) for gpu in group}
    least, most = (choose(free, key=lambda index: free[index]) for choose in (min, max))
    if free[least] < EVEN * free[most]:
        yield finding(
            "gpu-memory-uneven",
            f"{where}.gpus",
            f"GPU {least} has {free[least] / GIB:.1f} GiB free and GPU {most} has {free[most] / GIB:.1f}: "
            "SGLang refuses a group that differs by more than a tenth",
            f"see who uses GPU {least}, or choose GPUs that are equally free",
        )
    products = sorted({gpu.product for gpu in group})
    if len(products) > 1:
        fix = "group GPUs of one kind: the slowest sets the pace and the smallest the memory"
        yield finding("gpu-mixed", f"{where}.gpus", f"{' and '.join(products)} in one group", fix)
    slow = sorted({link for link in _links_of(group, links) if link in SLOW_LINKS})
    if slow:
        yield finding(
            "gpu-link-slow",
            f"{where}.gpus",
            f"the GPUs reach each other across the host's CPU ({', '.join(slow)} in nvidia-smi topo -m)",
            "choose GPUs that are linked by NVLink or below one switch; gpus: auto does",
        )
