"""In which order the old release ends and the new one starts, and why."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ansible_collections.deployer.sglang.plugins.module_utils.gpus import Gpu
from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import HostFacts
from ansible_collections.deployer.sglang.plugins.module_utils.plan.migration import to_adopt
from ansible_collections.deployer.sglang.plugins.module_utils.service import Service

START = "start"
STOP_FIRST = "stop-first"
START_FIRST = "start-first"


@dataclass(frozen=True)
class Strategy:
    """How a service is cut over, and the reason for people."""

    kind: str
    reason: str


def strategy_of(service: Service, gpus: Sequence[Gpu], host: HostFacts, port_owner: str = "") -> Strategy:
    """Start first where the new release can run beside the old one and somebody else owns the public port.

    Args:
        service: as described, its GPUs chosen.
        gpus: those it gets.
        host: its facts.
        port_owner: the gateway that owns the public port and can point it at either; '' for none, and then there is
            a moment without service whatever else is free.
    """
    before = _before(service, host)
    if not before:
        return Strategy(START, "nothing serves yet")
    reasons = []
    if not port_owner:
        reasons.append(f"no gateway owns port {service.port}, which old and new share")
    used = [str(gpu.index) for gpu in gpus if gpu.processes]
    if used:
        reasons.append(f"GPU {', '.join(used)} {'is' if len(used) == 1 else 'are'} in use by {before}")
    if reasons:
        return Strategy(STOP_FIRST, "; ".join(reasons))
    return Strategy(START_FIRST, f"{port_owner} owns the public port, and the GPUs are free beside {before}")


def _before(service: Service, host: HostFacts) -> str:
    """What serves now, for people; '' for nothing."""
    running = host.services.get(service.name)
    if running is not None and running.runs:
        return f"release {running.release}"
    listener = to_adopt(service, host)
    return listener.who if listener is not None else ""
