"""What an operator reads of a migration, and what a program does."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from deployer.compare.parity import Explanation
from deployer.migration.state import BACK, DONE, FAILED, RUNNING, Judged, Return, State, StepState, Switched
from deployer.migration.verbs import Question
from deployer.runs.events import Event
from deployer.views.console import Screen
from deployer.views.json_lines import JsonLines
from deployer.views.migration import PersonSeat, ProgramSeat, next_lines, show_ending, show_status
from deployer.views.operator import TerminalOperator

STATE = State(
    "20261129T000000Z-migration",
    0.0,
    given=("hosts.yml",),
    limit="gpus",
    steps={"doctor": StepState(DONE, 1.0, 3.0, "2 hosts"), "canary": StepState(RUNNING, 4.0)},
    canary="a",
    hosts={"a": {"s": Switched("old", "llamafactory", "", "begun")}, "b[x]": {"s": Switched()}},
    comparison=Judged(False, ("s: answers differ",), ("s: 6 of 8",), (Explanation("why-id", "says", "do"),)),
)


def printed(what: Any, *arguments: Any) -> str:
    console = Console(file=io.StringIO(), width=120)
    what(console, *arguments)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_the_status_has_every_step_and_host_and_what_to_type_next() -> None:
    text = printed(show_status, STATE, "folder", None)
    for said in ("doctor", "report", "canary is under way, or its end was not seen", "a canary", "b[x]", "begun"):
        assert said in text
    assert "go on: python -m deployer migrate -i hosts.yml -l gpus\n" in text
    assert "go back: python -m deployer migrate -i hosts.yml -l gpus --back\n" in text


def test_the_end_of_a_call_says_why_the_comparison_did_not_pass() -> None:
    text = printed(show_ending, replace(STATE, exit_code=1, meaning="it went back"), "folder", "report")
    assert "why  why-id: says" in text and "fix: do" in text and "it went back" in text and "report.html" in text
    assert "why-id" not in printed(show_ending, replace(STATE, ended=DONE), None, None)


def test_what_is_over_is_not_gone_on_with() -> None:
    assert list(next_lines(replace(STATE, ended=BACK, hosts={}))) == []
    back = replace(STATE, back=Return(("a",), True, StepState(FAILED)))
    assert [line.startswith("go on: ") and "--back" in line for line in next_lines(back)] == [True]


def test_a_person_is_shown_what_they_are_asked_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(TerminalOperator, "says_yes", lambda self, interrupts: True)
    console = Console(file=io.StringIO(), width=120)
    seat = PersonSeat(console, asks=True)
    assert seat.agrees(Question("confirm", "b to be switched", ("b",)), STATE)
    seat.tell("migration.step", step="plan", state=RUNNING, says="what would start", number=3, of=10)
    seat.tell("migration.step", step="plan", state=FAILED, says="1 error", problems=["a: [no] GPU"], seconds=2.0)
    seat.tell("migration.back", state=RUNNING, targets={"a": {"s": "old"}}, without={})
    seat.tell("message", level="error", text="lost")
    assert isinstance(console.file, io.StringIO)
    text = console.file.getvalue()
    for said in ("did not pass", "s: 6 of 8", "b to be switched", "3 of 10 plan: what would start", "failed 1 error"):
        assert said in text
    assert "a: [no] GPU" in text and "back a: s to old" in text and "lost" in text


def test_a_plan_is_shown_again_with_the_question_where_staging_has_scrolled_it_away(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(TerminalOperator, "says_yes", lambda self, interrupts: True)
    shown: list[list[str]] = []
    monkeypatch.setattr(PersonSeat, "_show_plan", lambda self, hosts: shown.append([*hosts]))
    seat = PersonSeat(Console(file=io.StringIO()), asks=True)
    question = Question("canary", "a to be switched", ("a",))
    seat.tell("plan", hosts={"a": {}, "b": {}})
    seat.tell("migration.step", step="plan", state=DONE, says="2 hosts", problems=[], seconds=2.0)
    assert seat.agrees(question, STATE) and shown == [["a", "b"]]
    seat.tell("migration.step", step="stage", state=DONE, says="staged", problems=[], seconds=2.0)
    assert seat.agrees(question, STATE) and shown == [["a", "b"], ["a"]]


class Closed(io.StringIO):
    """An output whose reader is gone."""

    def write(self, text: str) -> int:
        raise BrokenPipeError("nobody reads it")


def test_a_migration_goes_on_where_nobody_reads_of_it_and_is_not_agreed_to_by_nobody() -> None:
    seat = PersonSeat(Screen(file=Closed()), asks=True)
    step = {"step": "plan", "state": RUNNING, "says": "what would start", "number": 3, "of": 10}
    for one in (seat, ProgramSeat(JsonLines(Closed()))):
        one.tell("migration.step", **step)
    assert not seat.agrees(Question("confirm", "b to be switched", ("b",)), STATE)


def test_a_program_is_told_an_event_a_line_and_asked_nothing() -> None:
    stream = io.StringIO()
    seat = ProgramSeat(JsonLines(stream))
    seat.tell("migration.started", migration="20261129T000000Z-migration", folder="f")
    with seat.watching() as (listener,):
        listener(Event("run.started", {}, run="r"))
    seat.tell("migration.ended", exit_code=0, meaning="", ended=DONE)
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [one["event"] for one in events] == ["migration.started", "run.started", "migration.ended"]
    assert events[2]["run"] == "20261129T000000Z-migration" and not seat.asks
