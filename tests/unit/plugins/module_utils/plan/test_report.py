"""A plan as JSON holds it."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import Listener, Running
from ansible_collections.deployer.sglang.plugins.module_utils.plan.report import Launch, plan_report
from tests.doubles.hosts import GIB, described, gpu_facts, host_facts, planned
from tests.doubles.nvidia_smi import Process

BEFORE = {"engine": "llamafactory", "environment": "llamafactory", "gpus": [7], "options": {"template": "qwen"}}
LAUNCH = Launch("0123456789ab", ("/opt/python", "-m", "sglang.launch_server"), {"CUDA_VISIBLE_DEVICES": "6,7"})


def report(service: dict[str, Any], launches: Any = None, **facts: Any) -> dict[str, Any]:
    host = host_facts(**facts)
    plan = planned(service, host=host)
    value = plan_report(plan, host, launches or {})
    parsed: dict[str, Any] = json.loads(json.dumps(value, allow_nan=False))
    return parsed


def test_a_report_says_all_of_what_would_run() -> None:
    gpus = gpu_facts(processes=[Process(6, 9, 1024), Process(7, 9, 1024)], services={9: "code2sql"})
    running = Running("aaaaaaaaaaaa", "llamafactory", "code2sql", "qwen3", 8001, ("7",), True)
    launches = {("code2sql", "service"): LAUNCH}
    value = report({"predecessor": BEFORE}, launches, gpus=gpus, services={"code2sql": running})
    service, before = value["services"]
    assert (service["role"], service["engine"], service["version"]) == ("service", "sglang", "0.5.23")
    assert service["argv"] == list(LAUNCH.argv)
    assert service["variables"] == LAUNCH.variables
    assert (service["current"]["release"], service["next"]) == ("aaaaaaaaaaaa", LAUNCH.release)
    assert service["ports"] == {"8001": ""}
    assert [gpu["index"] for gpu in service["gpus"]] == [6, 7]
    assert service["gpus"][0]["memory_free"] > 79 * GIB, "what its own processes have is free for it"
    memory = service["memory"]
    assert 0 < memory["weights"] < memory["needed"] < memory["available"] <= memory["total"]
    assert service["longest_requests"] == service["kv_tokens"] // service["context"]
    assert (before["role"], before["argv"], before["next"], before["memory"]) == ("predecessor", [], "", None)
    assert before["weight_bytes"] > service["weight_bytes"]


def test_a_check_names_its_finding_and_the_exit_code_is_that_of_the_findings() -> None:
    listeners = (Listener(8001, "pid 9 of alice: nc"),)
    value = report({}, listeners=listeners)
    assert value["exit_code"] == 2
    found = {check["name"]: check["finding"]["id"] for check in value["checks"] if check["finding"]}
    assert found == {"port 8001": "port-taken"}
    assert [set(one) for one in value["findings"]] == [{"id", "severity", "subject", "message", "fix"}]
    assert report({})["exit_code"] == 0


def test_what_is_not_known_is_null_and_not_missing() -> None:
    whole, without = report({})["services"][0], report({"gpus": [], "options": {}}, gpus=0)["services"][0]
    assert set(whole) == set(without)
    assert {key for key, value in without.items() if value is None} >= {"memory", "kv_tokens", "longest_requests"}


def test_no_secret_is_in_a_report() -> None:
    options = {"tensor_parallel_size": 2, "api_key": "hunter2", "hf_token": "hunter2"}
    assert described({"options": options})[0].exposed == ("api_key", "hf_token")
    assert "hunter2" not in json.dumps(report({"options": options}))


def test_what_somebody_started_by_hand_is_what_serves_now() -> None:
    adopted = Listener(8001, "pid 42 of me: uv run python", pids=(42,), adopts="llamafactory")
    service, before = report({"predecessor": BEFORE}, listeners=(adopted,))["services"]
    assert (service["by_hand"], before["by_hand"]) == ("pid 42 of me: uv run python", "")
    (stranger,) = report({}, listeners=(Listener(8001, "pid 9 of alice: nc"),))["services"]
    assert stranger["by_hand"] == ""
