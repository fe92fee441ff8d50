"""What Prometheus scrapes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.monitoring.targets import Target, WithoutMetrics, merged, parsed, targets_of, text_of
from deployer.runs.results import HostResult, Summary

SCRAPED: dict[str, Any] = {
    "service": "code2sql",
    "port": 8001,
    "engine": "sglang",
    "model": "qwen3-14b-2d48a6c17c27",
    "served_name": "code2sql",
    "metrics": {"target": "10.0.0.5:8001", "problem": ""},
}
SILENT: dict[str, Any] = {"service": "old", "port": 8002, "metrics": {"target": "", "problem": "it has no metrics"}}


def target(host: str, service: str = "code2sql", address: str = "10.0.0.1:8001") -> Target:
    return Target(address, {"host": host, "service": service})


def test_a_service_with_metrics_is_one_target_and_one_without_says_why() -> None:
    summary = Summary({"gpu1": HostResult("gpu1", services=(SCRAPED, SILENT))})
    targets, without = targets_of(summary, {"code2sql", "old"})
    labels = {
        "host": "gpu1",
        "service": "code2sql",
        "engine": "sglang",
        "model": "qwen3-14b-2d48a6c17c27",
        "served_name": "code2sql",
        "port": "8001",
    }
    assert targets == [Target("10.0.0.5:8001", labels)]
    assert without == [WithoutMetrics("gpu1", "old", "it has no metrics")]
    assert targets_of(summary, {"old"})[0] == []


def test_a_service_that_could_not_be_told_says_what_was_told_instead() -> None:
    hung = {"service": "a", "port": 1, "state": "failing", "detail": "could not be told within 60 s"}
    _, (one,) = targets_of(Summary({"gpu1": HostResult("gpu1", services=(hung,))}), {"a"})
    assert one.problem == "could not be told within 60 s"
    assert merged([target("gpu1", "a")], [], [one], set()) == [target("gpu1", "a")], "it is scraped on"


def test_a_host_that_does_not_answer_keeps_its_targets_and_one_that_is_gone_does_not() -> None:
    before = [target("down"), target("gone"), target("up", address="10.0.0.9:1")]
    now = [target("up")]
    assert merged(before, now, [], {"down"}) == [target("down"), target("up")]


def test_a_service_that_has_no_metrics_any_more_loses_its_target() -> None:
    before = [target("gpu1"), target("gpu1", "other")]
    assert merged(before, [], [WithoutMetrics("gpu1", "code2sql", "why")], None) == [target("gpu1", "other")]


def test_of_a_part_of_the_fleet_the_rest_stays() -> None:
    assert merged([target("b"), target("a")], [target("c")], [], None) == [target(name) for name in "abc"]


def test_what_is_written_is_what_prometheus_documents_and_can_be_read_again() -> None:
    text = text_of([target("gpu1")])
    (group,) = json.loads(text)
    assert group == {"targets": ["10.0.0.1:8001"], "labels": {"host": "gpu1", "service": "code2sql"}}
    assert parsed(text, "targets.json") == [target("gpu1")]


@pytest.mark.parametrize("text", ["{", "[1]", '{"a": 1}', '[{"labels": {}}]'])
def test_what_is_no_list_of_targets_is_named(text: str) -> None:
    with pytest.raises(DeployError, match=r"targets\.json is no list of targets"):
        parsed(text, "targets.json")
