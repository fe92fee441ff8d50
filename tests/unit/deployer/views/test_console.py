"""What an operator is shown."""

from __future__ import annotations

import io

from rich.console import Console

from deployer.runs.results import HostResult, Summary
from deployer.views.console import cutover_line, outcome_table
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
    assert shown(cutover_line(RESTORED)).strip() == "restored code2sql: aaa → bbb (stop 1.2 s)"


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


def test_states_that_took_no_time_are_not_worth_a_word() -> None:
    line = shown(cutover_line({**RESTORED, "outcome": "committed", "seconds": {"drain": 0.01, "gate": 12.0}}))
    assert line.strip() == "committed code2sql: aaa → bbb (gate 12.0 s)"


def test_a_hosts_text_is_shown_and_not_obeyed() -> None:
    assert safe("[bold]no markup[/]\x1b[2J\nmore") == "\\[bold]no markup\\[/]?[2J?more"
    assert safe("one\ntwo", lines=True) == "one\ntwo"
