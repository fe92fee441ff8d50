"""Filters over the service description, as roles call them."""

from __future__ import annotations

from typing import Any

from ansible_collections.deployer.sglang.plugins.filter.services import FilterModule

FILTERS = FilterModule().filters()
ENVIRONMENTS = {"sglang": {"lock": "locks/sglang"}, "llamafactory": {"prefix": "/opt/lf"}, "unused": {"lock": "x"}}
SERVICE: dict[str, Any] = {
    "name": "code2sql",
    "port": 8001,
    "model": {"name": "team/code2sql", "source": "/data/qwen"},
    "engine": "sglang",
    "environment": "sglang",
    "gate": {"ready_timeout": 3600},
    "predecessor": {"engine": "llamafactory", "environment": "llamafactory"},
}


def test_what_is_used_is_brought_once_and_what_is_not_used_is_left() -> None:
    assert FILTERS["environments_used"]([SERVICE], ENVIRONMENTS) == [
        {"name": "sglang", "lock": "locks/sglang", "prefix": "", "backend": "rattler"},
        {"name": "llamafactory", "lock": "", "prefix": "/opt/lf", "backend": "rattler"},
    ]
    assert FILTERS["models_used"]([SERVICE], ENVIRONMENTS) == [{"name": "team-code2sql", "source": "/data/qwen"}]


def test_problems_are_lines_and_none_is_an_empty_list() -> None:
    problems = FILTERS["service_problems"]
    assert problems([SERVICE], ENVIRONMENTS) == []
    found = problems([{**SERVICE, "port": 0}], ENVIRONMENTS)
    assert [line.split(":")[0] for line in found] == ["inference_services[code2sql].port"]


def test_a_setting_that_is_misspelled_is_named() -> None:
    assert FILTERS["unknown_settings"](["inference_root", "inference_services"]) == []
    assert FILTERS["unknown_settings"](["inference_suprvisor"]) == [
        "inference_suprvisor: unknown setting. Fix: did you mean inference_supervisor?"
    ]
    assert "inference_supervisor: is 'upstart'" in FILTERS["placement_problems"](["/opt/x", "me", "upstart"])[0]


def test_a_judgement_of_no_finding_is_named() -> None:
    assert FILTERS["findings_problems"]({"gpu-busy": "accepted"}) == []
    assert FILTERS["findings_problems"]({"gpu-bsy": "accepted"}) == [
        "inference_findings.gpu-bsy: is no finding. Fix: did you mean gpu-busy?"
    ]


def test_a_cut_over_is_waited_for_at_least_as_long_as_two_gates_take() -> None:
    assert FILTERS["cutover_seconds"]([SERVICE], ENVIRONMENTS) > 2 * 3600
