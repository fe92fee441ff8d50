"""What an operator is shown."""

from __future__ import annotations

import io

from rich.console import Console

from deployer.runs.results import CUTOVER, RELAY, HostResult, Step, Summary
from deployer.views.console import Reporter, cutover_line, diff_lines, outcome_table, status_details, status_table

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


def test_a_status_fits_a_narrow_terminal() -> None:
    service = {"service": "code2sql", "state": "serving", "engine": "sglang", "current": "0123456789ab", "port": 8001}
    text = shown(status_table(Summary({"gpu1": HostResult("gpu1", services=(service,))})), width=100)
    assert "gpu1" in text
    assert "0123456789ab" in text


def test_what_is_long_stands_below_the_table() -> None:
    service = {"service": "code2sql", "state": "stopped", "detail": "exit status 9"}
    hosts = {"a": HostResult("a", services=(service,)), "b": HostResult("b", unreachable=True, failure="x" * 500)}
    details = status_details(Summary(hosts))
    assert details[0] == "a code2sql: exit status 9"
    assert len(details[1]) < 200


def test_markup_in_what_a_host_says_is_shown_and_not_obeyed() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    step = Step("gpu1", "a task", "x.y.z", "failed", False, {"msg": "[bold]not markup[/bold]"})
    Reporter(console).step(step)
    assert "[bold]not markup[/bold]" in console.export_text()


def test_what_is_waited_for_is_said_once_for_all_hosts() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    reporter = Reporter(console)
    reporter.task("Ensure the environments are there")
    reporter.task("Validating arguments against arg spec 'main' - The models")
    assert console.export_text() == "… Ensure the environments are there\n"


def test_a_step_that_only_started_is_not_shown() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    Reporter(console, verbose=True).step(Step("gpu1", "a task", CUTOVER, "started", False, {}))
    assert console.export_text() == ""


def test_diffs_show_what_would_change() -> None:
    diff = [{"before": "a\nb\n", "after": "a\nc\n", "after_header": "launch.sh"}, {"before": "x", "after": "x"}]
    assert diff_lines(diff) == ["--- launch.sh", "+++ launch.sh", "@@ -2 +2 @@", "-b", "+c"]
    assert diff_lines(None) == []


def test_a_transfer_says_what_came_and_what_was_gone_around() -> None:
    result = {
        "changed": True,
        "received": 542_000_000,
        "resumed": 1_000_000,
        "linked": 1,
        "started": 100.0,
        "landed": 113.4,
        "lost": {"gpu2": "no connection to 10.0.0.2 port 18515: timed out"},
    }
    console = Console(width=160, record=True, force_terminal=False, file=io.StringIO())
    reporter = Reporter(console)
    reporter.progress("weights: gpu1 52 %")
    reporter.step(Step("gpu1", "Wait", RELAY, "ok", False, result))
    lines = console.export_text().splitlines()
    assert lines[0] == "  weights: gpu1 52 %"
    assert lines[1] == "gpu1 changed Wait (542.0 MB in 13 s, 1.0 MB were there, 1 file linked)"
    assert lines[2] == "gpu1 warning gpu2 was left: no connection to 10.0.0.2 port 18515: timed out"
