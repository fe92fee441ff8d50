"""Filters over what a rollout is to bring, and what it came to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.rollout import cutover_items, host_outcome, number_of


def max_fail_percentage(max_fail: Any, hosts: Sequence[str]) -> float:
    """`max_fail_percentage` of a play of all hosts, which stops it when one more fails than may.

    Args:
        max_fail: a count or a percentage of hosts.
        hosts: all of them.
    """
    allowed = number_of(max_fail, len(hosts)) or 0
    return 100 * (allowed + 0.5) / max(1, len(hosts))  # a half, as Ansible divides and compares


class FilterModule:
    """What Ansible looks for."""

    def filters(self) -> dict[str, Any]:
        """The filters of this file by name."""
        return {
            "cutover_items": cutover_items,
            "host_outcome": host_outcome,
            "max_fail_percentage": max_fail_percentage,
        }
