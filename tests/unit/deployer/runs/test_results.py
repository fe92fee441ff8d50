"""Exit codes and host results, folded from events as ansible-runner gives them."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.progress import PREFIX
from deployer.runs.results import (
    CUTOVER,
    MODEL_VERIFY,
    ROLLOUT,
    STATUS,
    VERIFY,
    Summary,
    parse_event,
    progress_line,
    started_task,
)


def event(host: str, kind: str, action: str = "deployer.sglang.preflight", **result: Any) -> dict[str, Any]:
    data = {"host": host, "task": "a task", "task_action": action, "res": result}
    return {"event": kind, "event_data": data}


def cutover(host: str, outcome: str, kind: str = "runner_item_on_ok") -> dict[str, Any]:
    return event(host, kind, CUTOVER, outcome=outcome, service="s", msg="why")


def summed(*events: dict[str, Any]) -> Summary:
    summary = Summary()
    for one in events:
        step = parse_event(one)
        if step is not None:
            summary = summary.after(step)
    return summary


LOOP_FAILED = event("b", "runner_on_failed", CUTOVER, msg="One or more items failed")


@pytest.mark.parametrize(
    ("events", "status", "code"),
    [
        ([cutover("a", "committed"), event("a", "runner_on_ok", CUTOVER)], 0, 0),
        ([cutover("a", "unchanged")], 0, 0),
        ([], 0, 2),
        ([], 4, 2),
        ([event("a", "runner_on_failed", msg="no disk")], 2, 2),
        ([event("a", "runner_on_unreachable", msg="no route")], 4, 2),
        ([cutover("b", "refused", "runner_item_on_failed"), LOOP_FAILED], 2, 2),
        ([cutover("b", "restored", "runner_item_on_failed"), LOOP_FAILED], 2, 1),
        ([cutover("a", "committed"), cutover("b", "refused", "runner_item_on_failed"), LOOP_FAILED], 2, 1),
        ([cutover("a", "committed"), cutover("b", "not_restored", "runner_item_on_failed"), LOOP_FAILED], 2, 3),
        ([event("b", "runner_on_unreachable", CUTOVER, msg="lost")], 4, 3),
        ([event("b", "runner_item_on_failed", CUTOVER, msg="async task did not complete")], 2, 3),
        ([event("b", "runner_on_start", CUTOVER)], 254, 3),
        (
            [event("b", "runner_on_start", CUTOVER), cutover("b", "committed"), event("b", "runner_on_ok", CUTOVER)],
            0,
            0,
        ),
        ([event("b", "runner_on_start")], 254, 2),
        ([cutover("a", "planned")], 0, 0),
    ],
)
def test_the_exit_code_says_what_happened_to_the_service(events: list[Any], status: int, code: int) -> None:
    assert summed(*events).exit_code(status) == code


COMMITTED = [event("a", "runner_on_start", CUTOVER), cutover("a", "committed"), event("a", "runner_on_ok", CUTOVER)]
RESTORED = [cutover("b", "restored", "runner_item_on_failed"), LOOP_FAILED]


@pytest.mark.parametrize(
    ("events", "kind", "interrupted", "code"),
    [
        (COMMITTED, "request", False, 4),
        (COMMITTED, "request", True, 4),
        ([], "request", False, 4),
        ([event("b", "runner_on_start")], "", True, 4),
        ([*COMMITTED, *RESTORED], "failures", False, 1),
        ([*COMMITTED, *RESTORED], "failures", True, 1),
        ([event("b", "runner_on_failed", msg="no disk")], "failures", False, 2),
        (COMMITTED, "hook", False, 1),
        ([*COMMITTED, event("b", "runner_on_start", CUTOVER)], "", True, 3),
    ],
)
def test_a_run_that_was_ended_is_never_called_refused(events: Any, kind: str, interrupted: bool, code: int) -> None:
    ended = [event("b", "runner_on_failed", ROLLOUT, stopped=kind, msg="why")] if kind else []
    summary = summed(*events, *ended)
    assert summary.exit_code(2 if kind else 254, interrupted) == code
    assert (summary.stopped, summary.stopped_why) == (kind, "why" if kind else "")


def test_what_stops_a_run_is_no_failure_of_the_host_that_it_was_said_on() -> None:
    summary = summed(*COMMITTED, event("b", "runner_on_failed", ROLLOUT, stopped="failures", msg="why"))
    assert summary.lost == [] and set(summary.hosts) == {"a", "b"}


@pytest.mark.parametrize(("state", "code"), [("serving", 4), ("changing", 3), ("failing", 3)])
def test_a_cut_over_that_was_not_seen_to_its_end_is_told_from_what_serves(state: str, code: int) -> None:
    unseen = summed(event("b", "runner_on_start", CUTOVER))
    status = summed(event("b", "runner_on_ok", STATUS, services=[{"service": "s", "state": state}]))
    assert unseen.settled_by(status).exit_code(254, interrupted=True) == code
    assert unseen.settled_by(Summary()).exit_code(254, interrupted=True) == 3


def test_the_reason_of_a_failure_is_that_of_the_item_not_of_the_loop() -> None:
    summary = summed(cutover("b", "restored", "runner_item_on_failed"), LOOP_FAILED)
    assert summary.hosts["b"].failure == "why"
    assert [c["outcome"] for c in summary.hosts["b"].cutovers] == ["restored"]


def test_a_task_that_starts_is_told_by_its_name() -> None:
    assert started_task({"event": "playbook_on_task_start", "event_data": {"task": "Ensure x"}}) == "Ensure x"
    assert started_task({"event": "runner_on_start", "event_data": {"task": "Ensure x"}}) == ""


def test_events_that_end_nothing_are_passed_over() -> None:
    assert parse_event({"event": "playbook_on_task_start", "event_data": {"task": "x"}}) is None
    assert parse_event({"event": "verbose", "stdout": "x"}) is None


def test_what_did_not_come_to_an_end_is_no_report() -> None:
    summary = summed(
        event("a", "runner_on_ok", VERIFY, environments=[]),
        event("a", "runner_on_failed", MODEL_VERIFY, msg="no disk", module_stdout="", rc=1),
        event("b", "runner_on_ok", MODEL_VERIFY, models=[]),
        event("c", "runner_on_unreachable", MODEL_VERIFY, msg="no route", unreachable=True),
    )
    assert set(summary.reports_of(VERIFY)) == {"a"}
    assert set(summary.reports_of(MODEL_VERIFY)) == {"b"}
    assert summary.silent(MODEL_VERIFY) == {"a": "no disk", "c": "no route"}


def test_a_line_of_progress_is_told_from_what_else_is_printed() -> None:
    assert progress_line({"event": "verbose", "stdout": f"{PREFIX}gpu1 52 %"}) == "weights: gpu1 52 %"
    assert progress_line({"event": "verbose", "stdout": "Using /etc/ansible/ansible.cfg"}) == ""
    assert progress_line({"event": "runner_on_ok", "stdout": f"{PREFIX}gpu1"}) == ""
