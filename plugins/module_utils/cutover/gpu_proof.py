"""That a service's GPUs are nobody's: before it starts, no process computes on them and their memory is free."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Sequence

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.gpu_probe import read_usage
from ansible_collections.deployer.sglang.plugins.module_utils.gpus import Gpu
from ansible_collections.deployer.sglang.plugins.module_utils.plan.gpus import gpu_named

MEMORY_FLOOR = 1024**3  # bytes that may be in use on a GPU without a process: the driver's own, and a margin
PATIENCE = 30.0  # seconds; the driver gives memory back a moment after the process has ended
POLL = 1.0

Usage = Callable[[], Sequence[Gpu]]


def foreign_use(gpus: Sequence[str], allowed: Collection[int], usage: Usage = read_usage) -> str:
    """Who computes on a service's GPUs and is none of `allowed`; for people, '' when nobody does.

    Args:
        gpus: indices or UUIDs.
        allowed: processes of the service that is there, and of other services that the deployment put there.
        usage: reads the host's GPUs.
    """
    if not gpus:
        return ""
    return "; ".join(
        f"GPU {gpu.index}: pid {one.pid} of {one.user or 'another user'}"
        f"{f' ({one.command})' if one.command else ''}, {one.memory / 1024**3:.1f} GiB"
        for gpu in _used(gpus, usage)
        for one in gpu.processes
        if one.pid not in allowed
    )


def prove_free(
    gpus: Sequence[str],
    others: Collection[int],
    leftovers: Callable[[Collection[int]], None],
    usage: Usage = read_usage,
    patience: float = PATIENCE,
) -> None:
    """Wait until nothing is left of what computed on a service's GPUs.

    Args:
        gpus: indices or UUIDs; nothing is asked for none.
        others: processes of other services that share these GPUs on purpose; there memory says nothing.
        leftovers: called with the processes that are still there: ends those that are the service's own.
        usage: reads the host's GPUs.
        patience: seconds.
    Raises:
        DeployError: a process stays, or memory that nobody shows.
    """
    if not gpus:
        return
    deadline = time.monotonic() + patience
    while True:
        used = _used(gpus, usage)
        problem = _left(used, others)
        if not problem:
            return
        leftovers([one.pid for gpu in used for one in gpu.processes if one.pid not in others])
        if time.monotonic() >= deadline:
            fix = "end what holds it (nvidia-smi, fuser -v /dev/nvidia*); a hung driver needs a reboot"
            raise DeployError(problem, fix)
        time.sleep(min(POLL, patience / 5))


def _used(gpus: Sequence[str], usage: Usage) -> list[Gpu]:
    present = usage()
    named = (gpu_named(name, present) for name in dict.fromkeys(gpus))
    return [gpu for gpu in named if gpu is not None]


def _left(used: Sequence[Gpu], others: Collection[int]) -> str:
    for gpu in used:
        strangers = [one for one in gpu.processes if one.pid not in others]
        if strangers:
            one = strangers[0]
            who = f"pid {one.pid} of {one.user or 'another user'}: {one.command}"
            return f"GPU {gpu.index} is still computed on by {who}"
        shared = any(one.pid in others for one in gpu.processes)
        if not shared and gpu.memory_used > MEMORY_FLOOR:
            return f"GPU {gpu.index} has {gpu.memory_used / 1024**3:.1f} GiB in use, and no process shows whose it is"
    return ""
