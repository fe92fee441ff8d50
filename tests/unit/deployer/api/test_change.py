"""A change from the order to its result, with the playbooks played back: what is asked, told, run and written down."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.api import change
from deployer.api.change import Change, carry_out
from deployer.runs import asking
from deployer.runs.events import Event
from deployer.runs.interrupts import Interrupts
from deployer.runs.journal import kept_runs
from deployer.runs.questions import Message
from deployer.runs.results import CUTOVER, PREFLIGHT, STATUS, Summary
from deployer.runs.runner import Invocation, Run
from tests.unit.deployer.runs.recorded import recording

Play = Callable[[Callable[[Mapping[str, Any]], None]], int]


def happened(kind: str, host: str, action: str, role: str, **result: Any) -> dict[str, Any]:
    return {
        "event": kind,
        "event_data": {"host": host, "task": "t", "role": role, "task_action": action, "res": result},
    }


def planned(exit_code: int = 0, changes: bool = True, host: str = "gpu1") -> dict[str, Any]:
    current = {"release": "old" if changes else "new", "runs": True}
    service = {"service": "s", "role": "service", "current": current, "next": "new", "argv": ["--api-key", "canary"]}
    plan = {"services": [service], "findings": [], "checks": [], "exit_code": exit_code}
    failed = {"kind": "runner_on_failed", "msg": "no GPU. Fix: x"} if exit_code == 2 else {"kind": "runner_on_ok"}
    return happened(failed.pop("kind"), host, PREFLIGHT, "preflight", plan=plan, **failed)


def switched(outcome: str = "committed", host: str = "gpu1", before: str = "old", after: str = "new") -> dict[str, Any]:
    kind = "runner_item_on_ok" if outcome in ("committed", "unchanged", "planned") else "runner_item_on_failed"
    releases = {"before": before, "after": after}
    return happened(kind, host, CUTOVER, "cutover", service="s", outcome=outcome, msg="why", **releases)


@dataclass
class Played:
    """What plays the playbooks back, and notes with what they were run.

    Args:
        events: of each playbook, in order; a function is called instead.
        statuses: that they end with; 0 where there is none.
    """

    events: dict[str, Sequence[Any]] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    ran: list[tuple[str, Invocation]] = field(default_factory=list)

    def __call__(
        self,
        name: str,
        invocation: Invocation,
        on_event: Callable[[Mapping[str, Any]], None],
        cancelled: Callable[[], bool] | None = None,
    ) -> Run:
        """As `run_playbook`."""
        self.ran.append((name, invocation))
        for event in self.events.get(name, ()):
            if callable(event):
                event()
            else:
                on_event(event)
        return Run(self.statuses.get(name, 0), "what Ansible printed")

    @property
    def names(self) -> list[str]:
        """Which were run."""
        return [name for name, _ in self.ran]


class Person:
    """Somebody at a terminal who says yes, or no."""

    asks_first = True
    has_terminal = True

    def __init__(self, yes: bool) -> None:
        self.yes = yes
        self.foreseen: list[Summary] = []

    def agrees(self, foreseen: Summary, interrupts: Interrupts) -> bool:
        """As they are."""
        self.foreseen.append(foreseen)
        return self.yes

    def confirms(self, question: Message, interrupts: Interrupts) -> str:
        """As they are."""
        return "" if self.yes else "it was not confirmed"


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Played:
    """In place of Ansible."""
    monkeypatch.chdir(tmp_path)
    one = Played()
    for module in (change, asking):
        monkeypatch.setattr(module, "run_playbook", one)
    return one


def order(verb: str = "rollout", **more: Any) -> Change:
    return Change(verb, Invocation(["a,"], extra_vars={"cutover_initiator": "me@here"}, **more))


def kinds(told: list[Event]) -> list[str]:
    return [event.kind for event in told]


def test_what_was_ordered_is_done_without_a_word_and_without_a_second_plan(played: Played) -> None:
    played.events["deploy"] = [planned(), switched(), happened("runner_on_ok", "gpu1", CUTOVER, "cutover")]
    told: list[Event] = []
    result = carry_out(order(), [told.append])
    assert (result.exit_code, result.meaning, played.names) == (0, "", ["deploy"])
    assert kinds(told)[0] == "run.started" and kinds(told)[-1] == "run.ended"
    assert [event.data["outcome"] for event in told if event.kind == "cutover"] == ["committed"]
    assert {*result.plan} == {"gpu1"} and kinds(told).count("plan") == 1
    started = told[0].data
    assert (started["verb"], started["initiator"], started["inventory"]["sources"]) == ("rollout", "me@here", ["a,"])
    assert {event.run for event in told} == {result.run}


def test_the_run_leaves_its_journal_and_its_report(played: Played) -> None:
    played.events["deploy"] = [planned(), switched()]
    told: list[Event] = []
    result = carry_out(order(), [told.append])
    assert result.folder is not None and result.report == result.folder / "report.html"
    (run,) = kept_runs()
    assert run.run == result.run and [event.kind for event in run.events()] == kinds(told)
    record = json.loads((result.folder / "run.json").read_text())
    assert (record["exit_code"], record["hosts"], record["verb"]) == (0, {"gpu1": "committed"}, "rollout")
    assert {*record} >= {"versions", "inventory", "initiator", "seconds", "started", "ended", "meaning"}
    assert all(path.stat().st_mode & 0o077 == 0 for path in result.folder.iterdir())


def test_check_mode_changes_nothing_here_either(played: Played, tmp_path: Path) -> None:
    played.events["deploy"] = [planned(), switched("planned")]
    result = carry_out(order(check=True), operator=Person(False))
    assert (result.exit_code, result.folder, played.names) == (0, None, ["deploy"])
    assert not (tmp_path / ".deployer").exists()


def test_the_plan_is_agreed_to_before_anything_is_begun(played: Played) -> None:
    played.events = {"preflight": [planned()], "deploy": [planned(), switched()]}
    person, told = Person(True), list[Event]()
    assert carry_out(order(), [told.append], person).exit_code == 0
    assert played.names == ["preflight", "deploy"] and kinds(told).count("plan") == 1
    assert person.foreseen[0].hosts["gpu1"].plan
    assert played.ran[1][1].extra_vars["rollout_terminal"] is True


def test_a_no_ends_it_with_nothing_changed(played: Played) -> None:
    played.events["preflight"] = [planned()]
    result = carry_out(order(), operator=Person(False))
    assert (result.exit_code, played.names) == (4, ["preflight"])
    assert "not agreed to" in result.meaning
    assert kept_runs()[0].record["exit_code"] == 4


def test_a_plan_with_errors_is_refused_before_anybody_is_asked(played: Played) -> None:
    played.events["preflight"] = [planned(2), planned(host="gpu2")]
    person, told = Person(True), list[Event]()
    result = carry_out(order(), [told.append], person)
    assert (result.exit_code, played.names, person.foreseen) == (2, ["preflight"], [])
    (message,) = [event.data["text"] for event in told if event.kind == "message"]
    assert message.startswith("1 of 2 hosts cannot be changed: gpu1. Fix: ")


def test_hosts_that_may_fail_are_asked_about(played: Played) -> None:
    played.events["preflight"] = [planned(2), planned(host="gpu2")]
    allowing = order()
    allowing = replace(allowing, invocation=replace(allowing.invocation, extra_vars={"rollout_max_fail": "50%"}))
    person = Person(False)
    assert carry_out(allowing, operator=person).exit_code == 4 and len(person.foreseen) == 1


def test_where_nothing_would_change_it_is_said(played: Played) -> None:
    for changes in (True, False):
        played.events["preflight"] = [planned(changes=changes)]
        told: list[Event] = []
        carry_out(order(), [told.append], Person(False))
        said = [event.data["text"] for event in told if event.kind == "message"]
        assert any("nothing would change" in text for text in said) != changes


def test_staging_is_planned_and_asked_about_and_leaves_the_cut_over_and_the_lock_out(played: Played) -> None:
    played.events = {"preflight": [planned()], "deploy": [planned()]}
    person = Person(True)
    result = carry_out(order("stage", arguments=["--forks", "5"]), operator=person)
    assert (result.exit_code, played.names) == (0, ["preflight", "deploy"]) and len(person.foreseen) == 1
    assert played.ran[1][1].arguments == ("--forks", "5", "--skip-tags", "cutover")
    assert kept_runs()[0].record["hosts"] == {"gpu1": "staged"}
    assert result.report is not None and "Staging done" in result.report.read_text()


def test_staging_that_fails_has_touched_nothing_that_serves(played: Played) -> None:
    played.events["deploy"] = [planned(), happened("runner_on_failed", "gpu1", "m", "model", msg="no room")]
    played.statuses["deploy"] = 2
    result = carry_out(order("stage"))
    assert (result.exit_code, played.names) == (2, ["deploy"])
    assert result.meaning == "refused; nothing that serves was changed"


def test_of_a_rollback_check_mode_is_shown(played: Played) -> None:
    played.events["rollback"] = [switched("planned")]
    person = Person(False)
    assert carry_out(order("rollback"), operator=person).exit_code == 4
    assert played.names == ["rollback"] and played.ran[0][1].check
    assert person.foreseen[0].outcomes == ["planned"]


def test_an_inventory_without_hosts_is_refused_with_the_reason(played: Played) -> None:
    for person, playbook in ((Person(True), "preflight"), (None, "deploy")):
        told: list[Event] = []
        result = carry_out(order(), [told.append], person)
        assert (result.exit_code, played.names[-1]) == (2, playbook)
        assert [event.data["level"] for event in told if event.kind == "message"] == ["error"]


def test_a_host_that_fails_has_its_lock_given_back_and_is_asked_what_it_serves(played: Played) -> None:
    serving = happened("runner_on_ok", "gpu1", STATUS, "status", services=[{"service": "s", "state": "serving"}])
    played.events = {"deploy": [planned(), switched("restored")], "status": [serving]}
    played.statuses["deploy"] = 2
    result = carry_out(order(arguments=["--tags", "cutover"]))
    assert (result.exit_code, played.names) == (1, ["deploy", "lock", "status"])
    assert played.ran[1][1].extra_vars["rollout_lock_state"] == "released" and not played.ran[1][1].arguments
    assert result.status is not None and result.status.hosts["gpu1"].services


def test_an_end_that_was_not_seen_is_settled_by_what_serves(played: Played) -> None:
    for state, code in (("serving", 1), ("changing", 3)):
        services = [{"service": "s", "state": state}]
        played.events = {
            "deploy": [happened("runner_on_start", "gpu1", CUTOVER, "cutover")],
            "status": [happened("runner_on_ok", "gpu1", STATUS, "status", services=services)],
        }
        played.statuses["deploy"] = 4
        assert carry_out(order()).exit_code == code


def test_every_host_is_brought_back_where_that_was_asked_for(played: Played) -> None:
    played.events = {
        "deploy": [switched(), switched("restored", "gpu2"), switched(host="gpu3", before="")],
        "rollback": [
            happened("runner_item_on_ok", "gpu1", CUTOVER, "cutover", service="s", outcome="committed", after="old")
        ],
    }
    played.statuses["deploy"] = 2
    told: list[Event] = []
    result = carry_out(replace(order(), on_failure="restore-all"), [told.append])
    assert played.names == ["deploy", "rollback", "lock", "status"]
    back = played.ran[1][1]
    assert back.limit == "gpu1" and back.extra_vars["cutover_targets"] == {"gpu1": {"s": "old"}}
    (restoring,) = [event for event in told if event.kind == "restoring"]
    assert restoring.data == {"targets": {"gpu1": {"s": "old"}}, "without": {"gpu3": ["s"]}}
    assert result.exit_code == 1 and result.restored is not None and result.restored.exit_code == 1
    assert "had nothing before" in result.meaning


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def until(told: list[Event], kind: str, count: int) -> Callable[[], None]:
    """Waits until so many events of a kind were told, by whichever thread."""

    def wait() -> None:
        deadline = time.monotonic() + 10
        while kinds(told).count(kind) < count:
            assert time.monotonic() < deadline
            time.sleep(0.01)

    return wait


def test_ctrl_c_once_waits_and_twice_says_what_each_host_does(played: Played) -> None:
    told: list[Event] = []
    played.events["deploy"] = [
        planned(),
        happened("runner_on_start", "gpu1", CUTOVER, "cutover"),
        happened("runner_on_start", "gpu2", "x", "release"),
        interrupt,
        until(told, "interrupted", 1),
        interrupt,
        until(told, "interrupted", 2),
    ]
    played.statuses["deploy"] = 254
    result = carry_out(order(), [told.append])
    first, second = (event.data for event in told if event.kind == "interrupted")
    assert (first["count"], first["hosts"]) == (1, {}) and "no further batch" in first["text"]
    assert second["count"] == 2 and {*second["hosts"]} == {"gpu1", "gpu2"}
    assert "by itself" in second["hosts"]["gpu1"] and "nothing that serves" in second["hosts"]["gpu2"]
    assert (result.exit_code, played.names) == (3, ["deploy", "lock"])


def test_ctrl_c_while_the_plan_is_made_ends_it(played: Played) -> None:
    played.events["preflight"] = [interrupt]
    assert carry_out(order(), operator=Person(True)).exit_code == 4 and played.names == ["preflight"]


def test_what_the_controller_lacks_ends_the_run_and_is_written_down(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacks(*given: Any) -> Run:
        raise DeployError("there is no ansible-playbook", "install it")

    monkeypatch.setattr(change, "run_playbook", lacks)
    told: list[Event] = []
    result = carry_out(order(), [told.append])
    assert result.exit_code == 2 and told[-1].kind == "run.ended"
    assert [e.data["text"] for e in told if e.kind == "message"] == ["there is no ansible-playbook. Fix: install it"]
    assert kept_runs()[0].record["exit_code"] == 2


def test_a_listener_that_fails_is_named_in_the_result(played: Played) -> None:
    def broken(event: Event) -> None:
        raise OSError(32, "Broken pipe")

    played.events["deploy"] = [planned(), switched()]
    result = carry_out(order(), [broken])
    assert result.exit_code == 0 and "Broken pipe" in result.problems[0]


def test_a_recorded_run_comes_to_what_it_came_to(played: Played) -> None:
    played.events["deploy"] = [event for event in recording() if "told" not in event]
    played.statuses["deploy"] = 4
    told: list[Event] = []
    result = carry_out(order(), [told.append])
    assert result.exit_code == 1
    outcomes = {name: one["outcome"] for name, one in told[-1].data["hosts"].items()}
    assert outcomes == {"gpu1": "committed", "gpu2": "restored", "gpu3": "unreachable"}
