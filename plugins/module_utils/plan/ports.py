"""The ports that a service opens, those that its engine derives from the first, and who has them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.engines import engine_named
from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import HostFacts
from ansible_collections.deployer.sglang.plugins.module_utils.plan.findings import Finding, finding
from ansible_collections.deployer.sglang.plugins.module_utils.plan.parallelism import Parallelism, parallelism_of
from ansible_collections.deployer.sglang.plugins.module_utils.plan.pool import whole_number
from ansible_collections.deployer.sglang.plugins.module_utils.service import Service

LAST_PORT = 65535
# Source of these: `PortArgs.init_new` in SGLang 0.5.23's server_args.py; 0.4.9 has the same constants.
DP_ATTENTION_DELTA = 233  # ZMQ_TCP_PORT_DELTA
DP_ATTENTION_NAMES = ("port base", "detokenizer", "rpc", "metrics", "scheduler", "load collector")
BOOTSTRAP_PORT = 8998  # --disaggregation-bootstrap-port, its default


def derived_ports(service: Service, parallelism: Parallelism, options: Mapping[str, Any]) -> dict[int, str]:
    """Ports beside the service's own -> what the engine uses them for.

    Without DP attention SGLang talks through files and one NCCL port, which it chooses among free ones unless it is
    given.

    Args:
        service: as it is described.
        parallelism: of it.
        options: its options, canonical.
    """
    if service.engine != "sglang":
        return {}
    ports: dict[int, str] = {}
    given = whole_number(options.get("nccl_port"))
    if given:
        ports[given] = "NCCL (nccl_port)"
    address = str(options.get("dist_init_addr", "")).rpartition(":")[2]
    first = int(address) if address.isascii() and address.isdigit() else 0
    if parallelism.attention_data > 1:
        above = service.port + DP_ATTENTION_DELTA
        first = first or (above if above <= LAST_PORT else service.port - DP_ATTENTION_DELTA)
        count = len(DP_ATTENTION_NAMES)
        base = first + 1 if first + count <= LAST_PORT else first - count - 1
        ports.update({base + step: f"DP attention, {name}" for step, name in enumerate(DP_ATTENTION_NAMES)})
    if first:
        ports[first] = "torch.distributed (dist_init_addr)" if address else "DP attention, torch.distributed"
    if options.get("disaggregation_mode") == "prefill":
        port = whole_number(options.get("disaggregation_bootstrap_port")) or BOOTSTRAP_PORT
        ports[port] = "disaggregation (disaggregation_bootstrap_port)"
    for name in ("smg_http_sidecar_port", "engine_info_bootstrap_port", "gated_launch_port"):
        port = whole_number(options.get(name)) or 0
        if port:
            ports[port] = name
    return dict(sorted(ports.items()))


def held_by(port: int, service: str, host: HostFacts) -> list[str]:
    """Who listens on a port and is not the service itself, for people."""
    return [one.who for one in host.listeners if one.port == port and one.service != service]


def port_findings(
    where: str, service: Service, derived: Mapping[int, str], host: HostFacts, others: Sequence[Service]
) -> Iterator[Finding]:
    """Derived ports that someone has or nobody can have, and ports that the kernel may give to anyone.

    Args:
        where: key of the service.
        service: as it is described.
        derived: `derived_ports` of it.
        host: the host's facts.
        others: the other services that are described for this host.
    """
    elsewhere = {other.port: f"is the port of service {other.name}" for other in others}
    for other in others:
        options = engine_named(other.engine).canonical(other.options)
        for port in derived_ports(other, parallelism_of(other.engine, options), options):
            elsewhere.setdefault(port, f"by that of service {other.name}")
    for port, use in derived.items():
        holders = [f"is held by {who}" for who in held_by(port, service.name, host)]
        holders += [elsewhere[port]] if port in elsewhere else []
        holders += ["is the service's own port"] if port == service.port else []
        holders += [] if 1 <= port <= LAST_PORT else [f"is none: they end at {LAST_PORT}"]
        for holder in holders:
            yield finding(
                "port-derived-taken",
                f"port {port}",
                f"is used by the engine for {use}, and {holder}",
                "end that process, give the service another port, or set that option",
            )
    low, high = host.ephemeral
    for port in (service.port, *derived):
        if low <= port <= high:
            yield finding(
                "port-ephemeral",
                f"port {port}",
                f"lies in the range {low}-{high} that the kernel hands out to any connection",
                f"take a port below {low}, or reserve it (sysctl net.ipv4.ip_local_reserved_ports)",
            )
