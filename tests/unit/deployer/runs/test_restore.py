"""Which hosts a failed rollout brings back, and when it did."""

from __future__ import annotations

from typing import Any

import pytest

from deployer.runs.restore import Restored, restore_lines, to_restore, without_tags
from deployer.runs.results import NOT_RESTORED, RESTORED, HostResult, Summary


def cutover(outcome: str, before: str | None, after: str, service: str = "s") -> dict[str, Any]:
    return {"outcome": outcome, "before": before, "after": after, "service": service}


def summary(**hosts: list[dict[str, Any]]) -> Summary:
    return Summary({name: HostResult(name, cutovers=tuple(cutovers)) for name, cutovers in hosts.items()})


def test_only_what_this_run_has_committed_goes_back() -> None:
    seen = summary(
        a=[cutover("committed", "1", "2"), cutover("restored", "3", "3", "t")],
        b=[cutover("unchanged", "2", "2")],
        c=[cutover("committed", None, "2")],
    )
    wanted, without = to_restore(seen)
    assert (wanted, without) == ({"a": {"s": "1"}}, {"c": ["s"]})
    assert restore_lines(wanted, without) == [
        "restoring all: a go back to what they served before",
        "c had no s before: it stays",
    ]
    assert restore_lines({}, {}) == ["restoring all: no host had been cut over"]


@pytest.mark.parametrize(
    ("cutovers", "code"),
    [
        ([cutover("committed", "2", "1")], RESTORED),
        ([cutover("unchanged", "1", "1")], RESTORED),
        ([cutover("committed", "2", "3")], NOT_RESTORED),
        ([cutover("restored", "2", "2")], NOT_RESTORED),
        ([], NOT_RESTORED),
    ],
)
def test_all_is_restored_when_every_host_serves_what_it_had(cutovers: list[dict[str, Any]], code: int) -> None:
    assert Restored({"a": {"s": "1"}}, {}, summary(a=cutovers)).exit_code == code


def test_a_host_that_was_not_reached_is_not_restored() -> None:
    assert Restored({"a": {"s": "1"}}, {}).exit_code == NOT_RESTORED
    assert Restored({}, {"c": ["s"]}).exit_code == RESTORED


def test_tags_are_those_of_the_playbook_that_failed() -> None:
    words = ["--vault-id", "x", "--tags", "cutover", "-t", "a", "--skip-tags=b", "-e", "c=d"]
    assert without_tags(words) == ["--vault-id", "x", "-e", "c=d"]
