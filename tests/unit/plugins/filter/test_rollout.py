"""Filters over a rollout, as playbooks call them."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.filter.rollout import FilterModule

FILTERS = FilterModule().filters()


@pytest.mark.parametrize(
    ("max_fail", "total", "allowed"), [(0, 7, 0), (2, 7, 2), ("10%", 20, 2), ("1%", 20, 0), (3, 3, 3)]
)
def test_one_more_host_than_may_fail_stops_the_play(max_fail: Any, total: int, allowed: int) -> None:
    """Ansible stops where failed / all > percentage / 100 (ansible.plugins.strategy.linear)."""
    percentage = FILTERS["max_fail_percentage"](max_fail, [str(number) for number in range(total)])
    assert [failed / total > percentage / 100 for failed in (allowed, allowed + 1)] == [False, True]


def test_without_hosts_nothing_is_divided_by_them() -> None:
    assert FILTERS["max_fail_percentage"](0, []) > 0
