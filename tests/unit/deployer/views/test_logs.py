"""What an operator sees of services' logs."""

from __future__ import annotations

import io
import json

from rich.console import Console

from deployer.runs.service_logs import LogLine, lines_of, merged
from deployer.views.logs import LogPrinter


def printer(as_json: bool = False, several: bool = True, terminal: bool = False) -> tuple[LogPrinter, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, width=60, force_terminal=terminal, color_system="standard" if terminal else None)
    return LogPrinter(console, console, as_json, several), out


def line(host: str, time: str, text: str, level: str = "info") -> LogLine:
    return LogLine(host, "code2sql", time, level, text)


def test_lines_of_several_hosts_are_merged_by_time() -> None:
    one = [line("a", "2026-11-29T02:00:01.000Z", "1"), line("a", "", "1b"), line("a", "2026-11-29T02:00:03.000Z", "3")]
    other = [line("b", "2026-11-29T02:00:02.000Z", "2")]
    assert [found.text for found in merged([one, other])] == ["1", "1b", "2", "3"]


def test_the_order_of_one_log_is_kept_whatever_its_clock_says() -> None:
    log = [line("a", "2026-11-29T02:00:05.000Z", "1"), line("a", "2026-11-29T02:00:01.000Z", "2")]
    assert [found.text for found in merged([log])] == ["1", "2"]


def test_every_line_has_its_host_in_one_column() -> None:
    show, out = printer()
    show.known(["gpu1", "gpu10"])
    show.lines([line("gpu1", "", "x" * 100), line("gpu10", "", "tab\there")])
    assert out.getvalue().splitlines() == [
        f"gpu1  code2sql | {'x' * 100}",
        "gpu10 code2sql | tab     here",
    ]


def test_one_service_needs_no_name() -> None:
    show, out = printer(several=False)
    show.lines([line("gpu1", "", "ready")])
    assert out.getvalue() == "gpu1 | ready\n"


def test_colours_are_for_terminals_and_hosts_do_not_send_any() -> None:
    show, out = printer(terminal=True)
    show.lines([line("gpu1", "", "\x1b[2J[red]x[/red]", "error")])
    assert "\x1b[31m?[2J[red]x[/red]" in out.getvalue()


def test_json_is_one_object_a_line() -> None:
    show, out = printer(as_json=True)
    show.lines([line("gpu1", "2026-11-29T02:00:01.000Z", "\x1b[31mready")])
    show.remark("gpu1", "", "lost")
    first, second = map(json.loads, out.getvalue().splitlines())
    assert first == {
        "host": "gpu1",
        "service": "code2sql",
        "time": "2026-11-29T02:00:01.000Z",
        "level": "info",
        "text": "\x1b[31mready",
    }
    assert second == {"host": "gpu1", "service": "", "problem": "lost"}


def test_an_answer_that_misses_keys_is_shown_as_far_as_it_goes() -> None:
    assert lines_of("gpu1", "s", [{"text": "x"}]) == [LogLine("gpu1", "s", "", "", "x")]


def test_lines_that_are_left_out_are_said() -> None:
    show, out = printer()
    show.left_out("gpu1", "code2sql", 0)
    show.left_out("gpu1", "code2sql", 1200)
    assert "1,200 older lines left out" in out.getvalue()
