"""Batches, how many hosts may fail, and the mistakes in the settings."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.rollout import (
    batches_of,
    cutover_items,
    host_outcome,
    number_of,
    settings_problems,
    some,
    why_stop,
)

HOSTS = [f"h{number}" for number in range(1, 21)]
SERVICES = [{"name": "a", "port": 1}, {"name": "b", "port": 2}]
STAGED = [
    {"role": "service", "service": "a", "id": "aaaa"},
    {"role": "service", "service": "b", "id": "bbbb"},
    {"role": "predecessor", "service": "a", "id": "pppp"},
]


@pytest.mark.parametrize(
    ("value", "number"),
    [(3, 3), ("3", 3), ("25%", 5), ("1%", 0), ("100%", 20), ("101%", None), ("x", None), (True, None), (-1, None)],
)
def test_a_count_or_a_percentage_of_twenty(value: Any, number: int | None) -> None:
    assert number_of(value, 20) == number


@pytest.mark.parametrize(
    ("batches", "sizes"),
    [
        ([1, "25%", "100%"], [1, 5, 14]),
        ([1], [1] * 20),
        ("50%", [10, 10]),
        (7, [7, 7, 6]),
        (["1%", "100%"], [1, 19]),
        (["30%", "100%"], [6, 14]),
    ],
)
def test_batches_are_cut_as_ansible_cuts_them(batches: Any, sizes: list[int]) -> None:
    assert [len(one) for one in batches_of(HOSTS, batches)] == sizes


@given(
    st.integers(1, 60),
    st.lists(st.one_of(st.integers(1, 60), st.integers(1, 100).map(lambda n: f"{n}%")), min_size=1, max_size=5),
)
def test_batches_are_those_of_serial(count: int, batches: list[Any]) -> None:
    from ansible.executor.playbook_executor import PlaybookExecutor

    class Inventory:
        def get_hosts(self, *given: Any, **named: Any) -> list[str]:
            return [str(number) for number in range(count)]

    class Play:
        hosts, order, serial = "all", None, batches

    executor = PlaybookExecutor.__new__(PlaybookExecutor)
    executor._inventory = Inventory()
    assert batches_of(Inventory().get_hosts(), batches) == executor._get_serialized_batches(Play())


def test_no_batch_is_begun_when_more_hosts_are_lost_than_may() -> None:
    batches = batches_of(HOSTS, [1, "25%", "100%"])
    assert why_stop(batches, 0, [], 0) == ""
    assert why_stop(batches, 2, ["h2", "h3"], 2) == ""
    assert why_stop(batches, 2, ["h2", "h3"], "10%") == ""
    assert "3 of 20 hosts failed or were not reached, 2 may: h2, h3, h4" in why_stop(
        batches, 2, ["h2", "h3", "h4"], "10%"
    )


def test_the_first_batch_has_to_pass_whatever_may_fail() -> None:
    batches = batches_of(HOSTS, [1, "100%"])
    assert "first batch did not pass: h1" in why_stop(batches, 1, ["h1"], 5)
    assert why_stop(batches, 0, ["h1"], 5) == ""


def test_many_names_are_cut() -> None:
    assert some(HOSTS, 2) == "h1, h2 and 18 more"


@pytest.mark.parametrize(
    ("settings", "key"),
    [
        ({"rollout_batches": []}, "rollout_batches"),
        ({"rollout_batches": [1, "half"]}, "rollout_batches"),
        ({"rollout_batches": [0]}, "rollout_batches"),
        ({"rollout_batches": "0%"}, "rollout_batches"),
        ({"rollout_max_fail": "many"}, "rollout_max_fail"),
        ({"rollout_pause": -1}, "rollout_pause"),
        ({"cutover_services": "a", "services": ["a"]}, "cutover_services"),
        ({"cutover_services": ["c"], "services": ["a", "b"]}, "cutover_services"),
    ],
)
def test_a_mistake_is_named_with_its_key_and_a_fix(settings: dict[str, Any], key: str) -> None:
    (line,) = settings_problems(settings)
    assert line.startswith(f"{key}: ") and "Fix: " in line


def test_settings_that_can_be_used_have_no_problems() -> None:
    assert settings_problems({}) == []
    good = {"rollout_batches": [1, "25%"], "rollout_max_fail": "0", "rollout_pause": "30"}
    assert settings_problems({**good, "cutover_services": ["a"], "services": ["b", "a"]}) == []


def test_an_unknown_service_is_answered_with_the_known_ones() -> None:
    assert "use some of a, b" in settings_problems({"cutover_services": ["c"], "services": ["b", "a"]})[0]


def test_what_was_staged_is_what_is_cut_over_to() -> None:
    assert cutover_items(SERVICES, "staged", [], STAGED, None) == [
        {"service": "a", "release": "aaaa"},
        {"service": "b", "release": "bbbb"},
    ]
    assert cutover_items(SERVICES, "staged", ["b"], STAGED, None) == [{"service": "b", "release": "bbbb"}]


def test_a_target_needs_nothing_that_was_staged() -> None:
    assert cutover_items(SERVICES, "@adopted", ["a"], [], None) == [{"service": "a", "release": "@adopted"}]


def test_targets_of_one_host_are_all_that_is_done_there() -> None:
    assert cutover_items(SERVICES, "@previous", ["a"], [], {"b": "cccc"}) == [{"service": "b", "release": "cccc"}]
    assert cutover_items(SERVICES, "@previous", [], [], {}) == []


@pytest.mark.parametrize(
    ("outcomes", "worst"),
    [
        ([], "refused"),
        (["committed", "unchanged"], "committed"),
        (["committed", "restored"], "restored"),
        (["restored", "not_restored"], "not_restored"),
        (["committed", None], "unknown"),
        (["of another version"], "unknown"),
    ],
)
def test_a_host_came_to_what_its_worst_service_came_to(outcomes: list[str | None], worst: str) -> None:
    assert host_outcome([{"outcome": one} if one else {"failed": True} for one in outcomes]) == worst


def test_a_service_that_was_passed_over_counts_for_nothing() -> None:
    assert host_outcome([{"outcome": "committed"}, {"skipped": True}]) == "committed"
