"""A plan as typed values, and the part of it that is about some services."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.api.plans import Finding, plan_of
from deployer.runs.results import HostResult, Summary


def finding(identifier: str, severity: str, subject: str) -> dict[str, str]:
    return {"id": identifier, "severity": severity, "subject": subject, "message": "m", "fix": "f"}


def service(name: str, role: str = "service", **changed: Any) -> dict[str, Any]:
    gpu = {"index": 6, "uuid": "GPU-6", "product": "H100", "memory_total": 80, "memory_free": 79}
    value = {
        "service": name, "role": role, "engine": "sglang", "version": "0.5.23", "current": None, "by_hand": "",
        "next": "aaa",
        "gpus": [gpu], "weight_bytes": 7, "kv_tokens": 9, "ports": {"8001": "clients"}, "argv": ["python"],
    }  # fmt: skip
    return {**value, **changed}


def host(name: str, findings: list[dict[str, str]], *services: dict[str, Any]) -> HostResult:
    worst = {one["severity"] for one in findings}
    checks = [
        {"name": "Python", "detail": "3.11", "finding": None},
        {"name": "disk", "detail": "0 B", "finding": finding("host-disk", "error", "disk")},
    ]
    code = 2 if "error" in worst else 1 if "warning" in worst else 0
    return HostResult(
        name, plan={"services": list(services), "findings": findings, "checks": checks, "exit_code": code}
    )


A_WARNING = finding("sampling-differs", "warning", "inference_services[a].predecessor")
B_ERROR = finding("does-not-fit", "error", "inference_services[b]")
HOST_INFO = finding("host-shm", "info", "/dev/shm")


def test_everything_has_its_type() -> None:
    running = {"release": "aaa", "engine": "sglang", "runs": True}
    plan = plan_of(Summary({"h1": host("h1", [A_WARNING], service("a", current=running), service("a", "predecessor"))}))
    one = plan.hosts["h1"]
    assert one.findings == (Finding("sampling-differs", "warning", "inference_services[a].predecessor", "m", "f"),)
    assert [(check.name, check.finding and check.finding.id) for check in one.checks] == [
        ("Python", None),
        ("disk", "host-disk"),
    ]
    first = one.services[0]
    assert (first.current, first.next, first.ports, first.argv) == ("aaa", "aaa", {8001: "clients"}, ("python",))
    assert first.gpus[0].memory_free == 79 and first.raw["kv_tokens"] == first.kv_tokens == 9
    assert (plan.exit_code, plan.errors, plan.changes, plan.failures) == (1, (), (), {})


@pytest.mark.parametrize(
    ("changed", "changes"),
    [
        ({}, True),
        ({"current": {"release": "aaa", "runs": True}}, False),
        ({"current": {"release": "aaa", "runs": False}}, True),
        ({"current": {"release": "bbb", "runs": True}}, True),
        ({"current": {"release": "aaa", "runs": True}, "next": ""}, True),
        ({"role": "predecessor"}, False),
    ],
)
def test_what_a_rollout_would_switch_is_told(changed: dict[str, Any], changes: bool) -> None:
    plan = plan_of(Summary({"h1": host("h1", [], service("a", **changed))}))
    assert bool(plan.changes) == changes


def test_a_host_without_a_plan_says_why_in_a_line() -> None:
    said = "Task failed: Failed to connect to the host via ssh: ssh: connect to host gpu2 port 22: Connection refused"
    lost = HostResult("h2", unreachable=True, failure=said)
    plan = plan_of(Summary({"h1": host("h1", []), "h2": lost, "h3": HostResult("h3")}))
    assert plan.exit_code == 2 and not plan.hosts["h2"].reachable
    assert plan.failures["h2"].startswith("nobody listens at gpu2 port 22. Fix: ")
    assert plan.failures["h3"] == "was not planned"
    assert plan.explained.hosts["h2"].failure == plan.failures["h2"]
    assert plan_of(Summary()).exit_code == 2


def test_one_service_of_several_is_planned_with_what_is_found_of_it_and_of_the_host() -> None:
    summary = Summary({"h1": host("h1", [B_ERROR, A_WARNING, HOST_INFO], service("a"), service("b"))})
    assert plan_of(summary).errors == (("h1", Finding.of(B_ERROR)),)
    plan = plan_of(summary, services=["a"])
    assert plan.exit_code == 1 and [one.service for one in plan.hosts["h1"].services] == ["a"]
    assert [one.id for one in plan.hosts["h1"].findings] == ["sampling-differs", "host-shm"]
    assert plan.summary.plan_exit_code == 1  # what views show
    with pytest.raises(DeployError, match=r"--service c: no host has such a service\. Fix: use some of a, b"):
        plan_of(summary, services=["a", "c"])
    lost = Summary({"h1": HostResult("h1", unreachable=True, failure="x")})
    assert plan_of(lost, services=["c"]).exit_code == 2  # nobody can say whether there is one
