"""The plan of a host: every service described for it, the host itself, and what is found."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.deployer.sglang.plugins.module_utils.gpus import GpuFacts
from ansible_collections.deployer.sglang.plugins.module_utils.plan.description import description_findings
from ansible_collections.deployer.sglang.plugins.module_utils.plan.findings import (
    WARNING,
    Finding,
    finding,
    judged,
    ordered,
)
from ansible_collections.deployer.sglang.plugins.module_utils.plan.gpus import choose_gpus, gpu_named_by, with_unlisted
from ansible_collections.deployer.sglang.plugins.module_utils.plan.host_checks import Check, check_host, failed
from ansible_collections.deployer.sglang.plugins.module_utils.plan.migration import (
    adoption_finding,
    as_if_ended,
    by_hand_finding,
    log_finding,
    started_by_hand,
    to_adopt,
)
from ansible_collections.deployer.sglang.plugins.module_utils.plan.service_plan import (
    ServicePlan,
    Surroundings,
    plan_service,
)
from ansible_collections.deployer.sglang.plugins.module_utils.service import (
    Service,
    environments_used,
    with_predecessors,
)

OVERLAP = "predecessor-overlap"


@dataclass(frozen=True)
class HostPlan:
    """What a host comes to.

    Attributes:
        services: of every service and predecessor.
        checks: of the host itself; none when no host was asked.
        findings: worst first, with the severities that the inventory gives them.
        gpus: service -> the GPUs that it gets, chosen ones included.
    """

    services: tuple[ServicePlan, ...]
    checks: tuple[Check, ...]
    findings: tuple[Finding, ...]
    gpus: Mapping[str, tuple[str, ...]]


def plan_host(
    services: Sequence[Service],
    around: Surroundings,
    root: str,
    supervisor: str,
    needed: int,
    policy: Mapping[str, str],
) -> HostPlan:
    """The plan of a host: a pure function of its arguments.

    Args:
        services: that are described for it.
        around: its facts, environments and models.
        root: the deployment's root folder.
        supervisor: systemd or process.
        needed: bytes that have to be free there before anything is staged.
        policy: finding id -> severity, for what the services do not judge themselves.
    """
    around, by_hand = _as_services_will_find_it(services, around)
    resolved, unavailable = resolve_gpus(services, around)
    around = dataclasses.replace(around, others=resolved)
    plans = []
    found: list[Finding] = []
    for service in resolved:
        hand = by_hand.get(service.name, ())
        # An overlap with a predecessor that runs already is what `hand` says, and better: nobody stops that one.
        described = [one for one in description_findings(service) if not (hand and one.id == OVERLAP)]
        own = [*hand, *unavailable.get(service.name, ()), *described]
        own += _shared(service, resolved, around.host.gpus)
        for role, one in with_predecessors([service]):
            plan, more = plan_service(one, role, around)
            plans.append(plan)
            own += more
        found += judged(own, service.findings, policy)
    used = [around.environments[name] for name in environments_used(resolved) if name in around.environments]
    checks = check_host(around.host, root, supervisor, needed, resolved, used) if around.reachable else []
    policies = {service.name: service.findings for service in resolved}
    checks = [check.judged(policies.get(check.service, {}), policy) for check in checks]
    found += failed(checks)
    return HostPlan(
        services=tuple(plans),
        checks=tuple(checks),
        findings=ordered(found),
        gpus={
            **{service.name: service.gpus for service in resolved},
            **{f"{one.name}.predecessor": one.predecessor.gpus for one in resolved if one.predecessor},
        },
    )


def _as_services_will_find_it(
    services: Sequence[Service], around: Surroundings
) -> tuple[Surroundings, dict[str, tuple[Finding, ...]]]:
    """The host once what has to end has ended, and by service what of that the deployment does not end itself.

    Deployed services end, also where nvidia-smi does not say what memory their processes have; predecessors that were
    started by hand somebody ends.
    """
    host = around.host
    found: dict[str, tuple[Finding, ...]] = {}
    for name, running in host.services.items():
        if running.runs:
            host = dataclasses.replace(host, gpus=with_unlisted(host.gpus, name, running.gpus))
    for service in services:
        where = f"inference_services[{service.name}]"
        listener = to_adopt(service, host)
        say = adoption_finding
        if listener is None:
            listener, say = started_by_hand(service, host), by_hand_finding
        if listener is not None:
            host = as_if_ended(host, service.name, listener)
            found[service.name] = (say(where, listener), *([log_finding(where, listener)] if listener.log else []))
    return dataclasses.replace(around, host=host), found


def resolve_gpus(
    services: Sequence[Service], around: Surroundings
) -> tuple[list[Service], dict[str, tuple[Finding, ...]]]:
    """The services with the GPUs that `gpus: auto` comes to, and by service what stood in the way."""
    kept = {one.name: around.host.services[one.name].gpus for one in services if one.name in around.host.services}
    taken = [gpu for service in services for gpu in service.gpus]
    taken += [gpu for service in services if service.auto_gpus for gpu in kept.get(service.name, ())]
    resolved: list[Service] = []
    found: dict[str, tuple[Finding, ...]] = {}
    facts = around.host.gpus
    for service in services:
        chosen = service.gpus
        if service.auto_gpus:
            chosen = choose_gpus(service.auto_gpus, facts, service.name, taken, kept.get(service.name, ()))
            taken += chosen
        before = service.predecessor
        if before is not None and before.auto_gpus:  # it gets the first of its service's GPUs, where they suffice
            enough = len(chosen) >= before.auto_gpus
            own = (
                chosen[: before.auto_gpus] if enough else choose_gpus(before.auto_gpus, facts, service.name, taken, ())
            )
            before = dataclasses.replace(before, gpus=own)
        service = dataclasses.replace(service, gpus=chosen, predecessor=before)
        resolved.append(service)
        found[service.name] = tuple(
            _unavailable(role, one, facts)
            for role, one in with_predecessors([service])
            if one.auto_gpus and not one.gpus
        )
    return resolved, found


def _shared(service: Service, services: Sequence[Service], facts: GpuFacts) -> Iterator[Finding]:
    """GPUs of other services too, which only a host can tell where one has the index and the other the UUID."""
    where = f"inference_services[{service.name}]"
    for other in services:
        if other.name == service.name:
            continue
        for gpu in facts.gpus:
            by_other = gpu_named_by(gpu, other.gpus)
            used = f"GPU {gpu.index} is used by {other.name} too"
            if by_other and gpu_named_by(gpu, service.gpus):
                yield finding("gpu-repeated", f"{where}.gpus", used, "give each its own")
            elif by_other and service.predecessor and gpu_named_by(gpu, service.predecessor.gpus):
                fix = "give it another GPU, or know that a rollback will not find it free"
                yield finding("gpu-repeated", f"{where}.predecessor.gpus", used, fix, WARNING)


def _unavailable(role: str, service: Service, facts: GpuFacts) -> Finding:
    key = f"inference_services[{service.name}]" + (".predecessor" if role == "predecessor" else "")
    users = "; ".join(
        f"GPU {gpu.index}: pid {process.pid} of {process.service or process.user or 'somebody'}"
        for gpu in facts.gpus
        for process in gpu.processes
        if process.service != service.name
    )
    return finding(
        "gpu-unavailable",
        f"{key}.gpus",
        f"auto wants {service.auto_gpus} GPUs that are whole, well and nobody's, and there are not so many"
        + (f" ({users})" if users else f" ({facts.problem})" if facts.problem else ""),
        "end what uses them, or name GPUs by index" if users else "take a host with more GPUs, or less parallelism",
    )
