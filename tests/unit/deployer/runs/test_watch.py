"""What ansible-runner and the channel tell becomes events: recorded from a real run."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from deployer.runs.events import Event
from deployer.runs.expected import Expected
from deployer.runs.results import CUTOVER, LOCK, RELAY, ROLLOUT, HostResult, Summary
from deployer.runs.watch import Watch, planned_hosts, planned_summary
from tests.unit.deployer.runs.recorded import Ticks, broadcast, watched


def of(told: list[Event], kind: str, **wanted: Any) -> list[Event]:
    return [e for e in told if e.kind == kind and all(e.data.get(key) == value for key, value in wanted.items())]


def step(
    kind: str, task: str = "a task", role: str = "release", action: str = "x.y.z", **result: Any
) -> dict[str, Any]:
    data = {"host": "gpu1", "task": task, "role": role, "task_action": action, "res": result}
    return {"event": kind, "event_data": data}


def told_of(*events: dict[str, Any], **options: Any) -> list[Event]:
    told: list[Event] = []
    watch = Watch(broadcast(told), clock=Ticks(), **options)
    for one in events:
        watch.on_event(one)
    return told


def test_the_plan_is_told_once_and_before_anything_is_staged() -> None:
    told, watch = watched()
    (plan,) = of(told, "plan")
    assert {*plan.data["hosts"]} == {"gpu1", "gpu2", "gpu3"}
    assert plan.data["hosts"]["gpu3"]["reachable"] is False and plan.data["hosts"]["gpu3"]["failure"]
    assert told.index(plan) < told.index(of(told, "task", phase="lock")[0])
    assert watch.plan == plan.data["hosts"]


def test_a_plan_that_is_known_is_not_told_again() -> None:
    told, watch = watched(planned=False)
    assert not of(told, "plan") and watch.plan == {}


def test_every_phase_of_every_host_ends_with_its_seconds() -> None:
    told, _ = watched()
    phases = ["preflight", "lock", "environment", "model", "release", "cutover"]
    for host, expected in (("gpu1", [*phases, "lock"]), ("gpu2", phases)):
        ends = [e.data for e in of(told, "step", host=host) if "phase_seconds" in e.data]
        assert [end["phase"] for end in ends] == expected
        assert all(end["phase_seconds"] > 0 for end in ends)
    release = next(e for e in of(told, "step", host="gpu1", phase="release") if "phase_seconds" in e.data)
    assert release.data["phase_changed"] is True
    lost = of(told, "step", host="gpu3")
    assert [one.data["kind"] for one in lost] == ["unreachable", "unreachable"]
    assert "phase_seconds" in lost[-1].data


def test_only_what_changed_failed_or_ended_a_phase_is_told() -> None:
    told, _ = watched()
    for one in of(told, "step"):
        assert one.data["changed"] or one.data["kind"] != "ok" or "phase_seconds" in one.data, one
    more, _ = watched(everything=True)
    assert len(of(more, "step")) > len(of(told, "step"))


def test_a_failure_is_told_with_its_reason_once() -> None:
    told, _ = watched()
    (first, total) = of(told, "step", host="gpu3")
    assert "port 1. Fix: " in first.data["message"] and "message" not in total.data
    (cutover,) = of(told, "cutover", host="gpu2")
    assert cutover.data["outcome"] == "restored" and cutover.data["serving"] == "old"
    assert cutover.data["failure"]["kind"] == "crash" and cutover.data["failure"]["evidence"]
    assert "exit" in cutover.data["reason"]
    (end,) = of(told, "step", host="gpu2", phase="cutover")
    assert end.data["kind"] == "failed" and "message" not in end.data


def test_a_cut_over_that_passed_serves_the_new_one_with_its_seconds() -> None:
    (cutover,) = of(watched()[0], "cutover", host="gpu1")
    assert (cutover.data["outcome"], cutover.data["serving"]) == ("committed", "new")
    assert cutover.data["after"] == cutover.data["target"] != cutover.data["before"]
    assert {"drain", "stop", "gate", "commit"} <= {*cutover.data["seconds"]}


def test_what_is_told_over_the_channel_is_told_on_with_what_is_expected() -> None:
    for expected, seconds in ((Expected({("gpu2", "code2sql"): 42.0}), 42.0), (Expected(), None)):
        told, _ = watched(expected=expected)
        states = of(told, "state")
        assert {(one.data["host"], one.data["expected"]) for one in states} == {("gpu2", seconds)}
    assert all({*one.data} == {"host", "service", "state", "seconds", "expected", "serving"} for one in states)


def test_keys_that_are_not_in_the_schema_are_left_out_of_what_is_told() -> None:
    progress = {"told": "progress", "host": "gpu1", "phase": "model", "done": 5, "total": "many", "canary": "x"}
    told, _ = watched(progress, {"told": "nonsense", "host": "gpu1"}, {"told": "log", "host": "gpu1", "text": "x"})
    (event,) = of(told, "progress", phase="model")
    assert event.data == {
        "host": "gpu1", "phase": "model", "service": "", "done": 5, "total": 0, "unit": "", "text": "",
    }  # fmt: skip
    assert not of(told, "nonsense") and not of(told, "log")


def test_a_state_that_arrives_after_the_outcome_is_left_out() -> None:
    late = {"told": "state", "host": "gpu2", "service": "code2sql", "state": "commit", "seconds": 1, "serving": "new"}
    assert of(watched(late)[0], "state") and not of(watched(late)[0], "state", state="commit")


@pytest.mark.parametrize(
    ("events", "level", "text"),
    [
        ([step("runner_on_ok", action=LOCK, took_over="mia@ops1 since 02:40")], "warning", "lock taken over from mia"),
        ([step("runner_on_failed", action=ROLLOUT, stopped="failures", msg="no further batch")], "warning", "no furth"),
        ([step("runner_on_ok", would_run=["echo x"])], "info", "gpu1: would run echo x"),
        ([{"event": "verbose", "stdout": "weights: gpu1 52 %"}], "info", "weights: gpu1 52 %"),
    ],
)
def test_what_is_said_beside_a_step_is_a_message(events: list[dict[str, Any]], level: str, text: str) -> None:
    (message,) = of(told_of(*events), "message")
    assert message.data["level"] == level and text in message.data["text"]


def test_a_transfer_says_what_came_and_what_was_gone_around() -> None:
    result = {"changed": True, "received": 542_000_000, "linked": 1, "started": 100.0, "landed": 113.4}
    lost = {"gpu2": "no connection"}
    told = told_of(step("runner_on_ok", action=RELAY, role="model", lost=lost, **result))
    assert of(told, "step")[0].data["note"] == "542.0 MB in 13 s, 1 file linked"
    assert of(told, "message")[0].data["text"] == "gpu1: gpu2 was left: no connection"


def test_what_would_change_is_told_in_check_mode_only() -> None:
    changed = step("runner_on_ok", changed=True, diff=[{"before": "a\n", "after": "b\n", "after_header": "launch.sh"}])
    assert of(told_of(changed, diff=True), "diff")[0].data["lines"][-2:] == ["-a", "+b"]
    assert not of(told_of(changed), "diff")


def test_a_known_problem_is_told_with_its_fix_and_others_with_all_their_lines() -> None:
    lines = "options.a: no such option. Fix: b\noptions.c: no such option. Fix: d"
    (failed,) = of(told_of(step("runner_on_failed", msg=lines)), "step")
    assert failed.data["message"] + "\n" + failed.data["detail"] == lines
    (silent,) = of(told_of(step("runner_on_failed")), "step")
    assert silent.data["message"] == "failed without a message"
    ignored = step("runner_on_failed", msg="no")
    ignored["event_data"]["ignore_errors"] = True
    assert not [one for one in of(told_of(ignored), "step") if one.data["kind"] != "ok"]


def started(task: str, role: str) -> dict[str, Any]:
    return step("runner_on_start", task, role)


@pytest.mark.parametrize(
    ("events", "state", "does"),
    [
        ([started("Stage", "release")], "", "nothing that serves was touched"),
        ([started("Switch", "cutover")], "", "finishes its cut-over or restores"),
        ([started("Switch", "cutover")], "gate", "code2sql is at gate: the host finishes or restores by itself"),
        ([started("Switch", "cutover")], "commit", "finishes the switch by itself"),
        ([started("Switch", "cutover")], "restore", "goes on to restore"),
        (
            [
                started("Switch", "cutover"),
                step("runner_item_on_ok", "Switch", "cutover", CUTOVER, outcome="committed", service="code2sql"),
                started("Give back", "rollout_lock"),
            ],
            "",
            "code2sql is committed",
        ),
    ],
)
def test_what_a_host_does_by_itself_follows_from_what_was_last_known(
    events: list[dict[str, Any]], state: str, does: str
) -> None:
    watch = Watch(broadcast([]))
    for one in events:
        watch.on_event(one)
    if state:
        watch.told("state", {"host": "gpu1", "service": "code2sql", "state": state})
    assert does in watch.by_itself()["gpu1"]


def test_the_channel_may_speak_while_ansible_does() -> None:
    told: list[Event] = []
    watch = Watch(broadcast(told))

    def speak(host: str) -> None:
        for number in range(200):
            watch.told("progress", {"host": host, "done": number, "total": 200})

    threads = [threading.Thread(target=speak, args=(f"gpu{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for _ in range(200):
        watch.on_event(step("runner_on_ok", changed=True))
    for thread in threads:
        thread.join()
    assert len(of(told, "progress")) == 1600 and len(of(told, "step")) == 200
    for number in range(8):
        assert [one.data["done"] for one in of(told, "progress", host=f"gpu{number}")] == [*range(200)]


def test_a_plan_comes_back_from_its_event_without_what_processes_are_started_with() -> None:
    plan = {"services": [{"service": "s", "argv": ["--api-key", "x"], "variables": {"A": "x"}}], "checks": []}
    summary = Summary({"a": HostResult("a", plan={**plan, "exit_code": 1}), "b": HostResult("b", failure="no")})
    hosts = planned_hosts(summary)
    assert hosts["a"]["services"] == [{"service": "s"}]
    back = planned_summary(hosts)
    assert back.plan_exit_code == 2 and back.hosts["b"].plan is None and back.hosts["b"].failure == "no"
