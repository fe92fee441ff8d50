"""A plan: what a rollout would start on every host, whether it fits, and what is wrong with it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.plan.findings import exit_code
from deployer.api.base import Answer, HostAnswer, known_services
from deployer.runs.results import HostResult, Summary

SUBJECT = re.compile(r"inference_services\[(?P<service>[^\]]+)\]")


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or worth knowing before it happens; docs/findings.md explains each id."""

    id: str
    severity: str
    subject: str
    message: str
    fix: str

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> Finding:
        """From JSON."""
        return cls(*(str(value[key]) for key in ("id", "severity", "subject", "message", "fix")))


@dataclass(frozen=True)
class Check:
    """One check of a host itself; `finding` is None where it passed."""

    name: str
    detail: str
    finding: Finding | None = None


@dataclass(frozen=True)
class Gpu:
    """A GPU that a service would get; memory in bytes."""

    index: int
    uuid: str
    product: str
    memory_total: int
    memory_free: int


@dataclass(frozen=True)
class ServicePlan:
    """What would run of a service.

    Args:
        service: its name.
        role: `service`, or `predecessor` for what a rollback would restore.
        engine: such as sglang.
        version: of the engine, '' where it is not known yet.
        current: id of the release that is committed now; '' for none.
        by_hand: what somebody else started and serves its port now: `pid 26120 of me: uv run python`; '' for none.
        next: id of the release that would be; '' while the weights have not been hashed.
        gpus: that it would get.
        weight_bytes: of all its GPUs together; None where they are not known.
        kv_tokens: how many tokens of KV cache there would be; None where that is not known.
        ports: number -> what for.
        argv: of its process.
        raw: as `plan --json` has it.
    """

    service: str
    role: str
    engine: str
    version: str
    current: str
    by_hand: str
    next: str
    gpus: tuple[Gpu, ...]
    weight_bytes: int | None
    kv_tokens: int | None
    ports: Mapping[int, str]
    argv: tuple[str, ...]
    raw: Mapping[str, Any] = field(repr=False)

    @property
    def changes(self) -> bool:
        """True where a rollout would switch it, start it again, or may: without `next` that is not known yet."""
        current = self.raw.get("current") or {}
        return self.role == "service" and not (self.next and self.next == self.current and current.get("runs"))

    @classmethod
    def of(cls, value: Mapping[str, Any]) -> ServicePlan:
        """From JSON."""
        current = value.get("current") or {}
        return cls(
            service=str(value["service"]),
            role=str(value["role"]),
            engine=str(value["engine"]),
            version=str(value["version"] or ""),
            current=str(current.get("release") or ""),
            by_hand=str(value.get("by_hand") or ""),
            next=str(value["next"] or ""),
            gpus=tuple(Gpu(**gpu) for gpu in value["gpus"]),
            weight_bytes=value["weight_bytes"],
            kv_tokens=value["kv_tokens"],
            ports={int(port): str(use) for port, use in value["ports"].items()},
            argv=tuple(value["argv"]),
            raw=value,
        )


@dataclass(frozen=True)
class HostPlan(HostAnswer):
    """The plan of a host; `exit_code` is 0 clean, 1 warnings, 2 errors or no plan."""

    services: tuple[ServicePlan, ...] = ()
    findings: tuple[Finding, ...] = ()
    checks: tuple[Check, ...] = ()
    exit_code: int = 2

    @classmethod
    def of(cls, host: HostResult) -> HostPlan:
        """From what a run came to."""
        if not host.plan:
            return cls(host.host, not host.unreachable, host.failure or "was not planned")
        value = host.plan
        checks = (
            Check(str(one["name"]), str(one["detail"]), Finding.of(one["finding"]) if one["finding"] else None)
            for one in value["checks"]
        )
        return cls(
            host.host,
            raw=value,
            services=tuple(ServicePlan.of(one) for one in value["services"]),
            findings=tuple(Finding.of(one) for one in value["findings"]),
            checks=tuple(checks),
            exit_code=int(value["exit_code"]),
        )


@dataclass(frozen=True)
class Plan(Answer[HostPlan]):
    """The plans of all hosts."""

    @property
    def exit_code(self) -> int:
        """0 clean, 1 warnings, 2 errors or a host that could not be planned."""
        return max((host.exit_code for host in self.hosts.values()), default=2)

    @property
    def errors(self) -> tuple[tuple[str, Finding], ...]:
        """(host, finding) of everything that keeps a rollout from being begun."""
        return tuple(
            (host.host, one) for host in self.hosts.values() for one in host.findings if one.severity == "error"
        )

    @property
    def changes(self) -> tuple[tuple[str, str], ...]:
        """(host, service) of everything that a rollout would switch, or may: without `next` that is not known yet."""
        return tuple((host.host, one.service) for host in self.hosts.values() for one in host.services if one.changes)


def plan_of(summary: Summary, output: str = "", services: Collection[str] = ()) -> Plan:
    """The plan that a run of the playbook `preflight` came to.

    Args:
        summary: of the run.
        output: what ansible-playbook printed.
        services: only these; all where none is named.

    Raises:
        DeployError: one that is named is on no host.
    """
    if services and any(host.plan for host in summary.hosts.values()):
        present = (one["service"] for host in summary.hosts.values() if host.plan for one in host.plan["services"])
        wanted = known_services(services, present)
        hosts = {name: replace(host, plan=_only(host.plan, wanted)) for name, host in summary.hosts.items()}
        summary = replace(summary, hosts=hosts)
    return Plan({name: HostPlan.of(host) for name, host in summary.hosts.items()}, summary, output)


def _only(plan: Mapping[str, Any] | None, services: Collection[str]) -> Mapping[str, Any] | None:
    """A plan without other services and what is found of them alone; what is found of the host stays."""
    if not plan:
        return plan
    kept = [one for one in plan["findings"] if not _of_another(str(one["subject"]), services)]
    return {
        **plan,
        "services": [one for one in plan["services"] if one["service"] in services],
        "findings": kept,
        "exit_code": exit_code(one["severity"] for one in kept),
    }


def _of_another(subject: str, services: Collection[str]) -> bool:
    found = SUBJECT.match(subject)
    return found is not None and found["service"] not in services
