"""What an operator is shown."""

from __future__ import annotations

import io
import os

import pytest
from rich.console import Console

from deployer.runs.results import HostResult, Summary
from deployer.views.console import Screen, cutover_line, outcome_table
from deployer.views.console import shown as safe

RESTORED = {
    "outcome": "restored",
    "service": "code2sql",
    "before": "aaa",
    "after": "aaa",
    "target": "bbb",
    "seconds": {"stop": 1.25},
}


def shown(*things: object, width: int = 120) -> str:
    console = Console(width=width, record=True, force_terminal=False, file=io.StringIO())
    for thing in things:
        console.print(thing)
    return console.export_text()


def test_a_cut_over_is_one_line_with_its_times() -> None:
    assert shown(cutover_line(RESTORED)).strip() == "restored code2sql: aaa serves again, bbb did not pass (stop 1.2 s)"


def test_where_nothing_served_before_nothing_is_said_to_serve_again() -> None:
    line = shown(cutover_line({**RESTORED, "before": None, "after": None})).strip()
    assert line == "restored code2sql: nothing serves, as before, bbb did not pass (stop 1.2 s)"


def test_the_outcome_says_which_release_every_host_is_at() -> None:
    hosts = {
        "a": HostResult("a", cutovers=(RESTORED,)),
        "b": HostResult("b", unreachable=True, failure="no route"),
        "c": HostResult("c"),
    }
    text = shown(outcome_table(Summary(hosts)))
    assert "restored" in text
    assert "unreachable" in text
    assert "not cut over" in text


def test_what_hosts_say_cannot_move_the_cursor() -> None:
    odd = {"service": "s\x1b[2J", "outcome": "committed", "before": "\x1b[2J", "after": "[/x]", "target": "\x1b]0;x"}
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(outcome_table(Summary({"h": HostResult("h", cutovers=(odd,))})))
    console.print(cutover_line(odd))
    assert "\x1b" not in console.export_text()


def test_states_that_took_no_time_are_not_worth_a_word() -> None:
    line = shown(cutover_line({**RESTORED, "outcome": "committed", "seconds": {"drain": 0.01, "gate": 12.0}}))
    assert line.strip() == "committed code2sql: aaa → bbb (gate 12.0 s)"


def test_a_hosts_text_is_shown_and_not_obeyed() -> None:
    assert safe("[bold]no markup[/]\x1b[2J\nmore") == "\\[bold]no markup\\[/]?[2J?more"
    assert safe("one\ntwo", lines=True) == "one\ntwo"


def test_an_output_that_nobody_reads_is_an_error_and_not_the_end() -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "w") as nobody:
        console = Screen(file=nobody)
        with pytest.raises(BrokenPipeError):
            console.print("x" * 100_000, soft_wrap=True, highlight=False)
        os.dup2(os.open(os.devnull, os.O_WRONLY), write)  # what is left is written when it is closed
