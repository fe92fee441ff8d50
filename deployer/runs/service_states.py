"""What a run of the playbook `status` came to: for monitors as an exit code, for programs as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from deployer.runs.results import HostResult, Summary

SERVING, NOT_SERVING, NOT_ASKED = 0, 1, 2
CHOSEN = "status_services"  # the extra variable with the services that are looked at


def exit_code(summary: Summary, status: int, strict: bool = False) -> int:
    """The exit code for monitors.

    Args:
        summary: of the playbook.
        status: ansible-playbook's own.
        strict: what differs from its release counts as what does not serve.
    """
    services = [service for host in summary.hosts.values() for service in host.services]
    if status != 0 or not services:
        return NOT_ASKED
    bad = any(service["state"] != "serving" or (strict and service.get("drift")) for service in services)
    return NOT_SERVING if bad else SERVING


def of_services(summary: Summary, chosen: bool) -> Summary:
    """Without the hosts that answered and have none of the services that were chosen."""
    if not chosen:
        return summary
    hosts = {n: h for n, h in summary.hosts.items() if h.services or h.failure or h.unreachable}
    return replace(summary, hosts=hosts)


def as_json(summary: Summary) -> dict[str, dict[str, Any]]:
    """By host, as docs/status.md has it."""
    return {host.host: _host_json(host) for host in summary.hosts.values()}


def _host_json(host: HostResult) -> dict[str, Any]:
    services: list[Mapping[str, Any]] = list(host.services)
    return {"reachable": not host.unreachable, "failure": host.failure, "services": services}
