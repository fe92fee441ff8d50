"""When a line was logged, how grave it is, and whether it is wanted."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.log_lines import (
    LONGEST,
    Carried,
    Line,
    Wanted,
    kept,
    moment,
    plain,
    since_epoch,
    understood,
)

AT_TWO = 1795831200.0  # 2026-11-28T02:00:00Z


@pytest.fixture(autouse=True)
def in_utc(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The host's clock shows UTC."""
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


def levels(*texts: str, before: Carried | None = None) -> list[str]:
    return [line.level for line in understood(map(Line, texts), before or Carried())[0]]


@pytest.mark.parametrize(
    ("level", "text"),
    [
        ("info", "[2026-11-28 02:00:00 TP0] Prefill batch, #new-seq: 1"),
        ("info", '[2026-11-28 02:00:00] INFO:     127.0.0.1:50744 - "GET /metrics HTTP/1.1" 200 OK'),
        ("info", "INFO:     Application startup complete."),
        ("info", "[INFO|2026-11-28 02:00:00] llamafactory.model.loader:143 >> all params: 1"),
        ("info", "[INFO|tokenization_utils_base.py:2060] 2026-11-28 02:00:00,123 >> loading file vocab.json"),
        (
            "warning",
            "[WARNING|2026-11-28 02:00:00] llamafactory.hparams.parser:148 >> We recommend enable mixed precision",
        ),
        ("warning", "[2026-11-28 02:00:00] WARNING:  Invalid HTTP request received."),
        ("warning", "/opt/x/http_server.py:489: FastAPIDeprecationWarning: ORJSONResponse is deprecated"),
        ("warning", "[2026-11-28 02:00:00] Cannot detect CUDA architecture."),
        ("error", "ERROR:    [Errno 98] error while attempting to bind on address"),
        ("error", "[2026-11-28 02:00:00 TP0] Scheduler hit an exception: Traceback (most recent call last):"),
        ("error", "[2026-11-28 02:00:00] Received sigquit from a child process. It usually means the child failed."),
        ("error", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"),
        ("info", "[2026-11-28 02:00:00] 0 errors so far"),
    ],
)
def test_levels_are_read_in_every_engines_own_form(level: str, text: str) -> None:
    assert levels(text) == [level]


def test_all_of_a_traceback_is_an_error_and_what_follows_is_not() -> None:
    assert levels(
        "[2026-11-28 02:00:00 TP0] Scheduler hit an exception: Traceback (most recent call last):",
        '  File "scheduler.py", line 2, in run',
        "    raise ValueError(1)",
        "ValueError: 1",
        "The above exception was the direct cause of the following exception:",
        "",
        "Traceback (most recent call last):",
        '  File "x.py", line 1',
        "RuntimeError: broken",
        "plain words after it",
        "[2026-11-28 02:00:01] ready",
    ) == ["error"] * 4 + ["info", "info"] + ["error"] * 3 + ["info", "info"]


def test_a_traceback_goes_on_in_the_next_answer() -> None:
    first, carried = understood([Line("Traceback (most recent call last):"), Line('  File "x.py"')], Carried())
    assert [line.level for line in first] == ["error", "error"]
    again = Carried.from_dict(carried.as_dict())
    assert levels("    raise X", "ValueError: 1", "words", before=again) == ["error", "error", "info"]


def test_an_indented_line_belongs_to_the_one_before() -> None:
    assert levels("x.py:1: UserWarning: old", "  warnings.warn(", "then") == ["warning", "warning", "info"]


def test_what_systemd_says_keeps_its_level() -> None:
    found, _ = understood([Line("x.service: Failed with result", 1.0, "warning")], Carried())
    assert found[0].level == "warning"


def test_a_lines_own_time_counts_where_the_journal_has_none() -> None:
    found, _ = understood([Line("[2026-11-28 02:00:00 TP0] a"), Line("b"), Line("c", 5.0)], Carried())
    assert [line.time for line in found] == [AT_TWO, AT_TWO, 5.0]
    assert found[0].as_dict()["time"] == "2026-11-28T02:00:00.000Z"
    assert Line("x").as_dict()["time"] == ""


def test_the_newest_wanted_lines_are_kept() -> None:
    lines = [Line(f"line {at}", float(at), "error" if at % 2 else "info") for at in range(1, 11)]
    assert [line.text for line in kept(lines, Wanted(lines=2)).lines] == ["line 9", "line 10"]
    assert [line.text for line in kept(lines, Wanted("error", lines=2)).lines] == ["line 7", "line 9"]
    assert [line.text for line in kept(lines, Wanted(holding="LINE 1")).lines] == ["line 1", "line 10"]
    assert [line.text for line in kept(lines, Wanted(since=9.0)).lines] == ["line 9", "line 10"]
    assert kept(lines, Wanted(lines=2)).left_out == 0


def test_a_line_without_level_or_time_is_not_lost() -> None:
    assert kept([Line("x")], Wanted(since=9.0)).lines == (Line("x"),)
    assert kept([Line("x")], Wanted("warning")).lines == ()


def test_what_does_not_fit_is_counted() -> None:
    found = kept([Line("x" * 100) for _ in range(10)], Wanted(), most=350)
    assert (len(found.lines), found.left_out) == (3, 7)


def test_a_bar_that_is_drawn_over_itself_shows_its_last_state() -> None:
    assert plain("  0%|  |\r 50%|# |\r100%|##|\n") == "100%|##|"
    assert plain("\x1b[32mINFO\x1b[0m: x") == "INFO: x"
    assert len(plain("x" * 100_000)) == LONGEST


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", AT_TWO - 90),
        ("10m", AT_TWO - 600),
        ("2h", AT_TWO - 7200),
        ("1d", AT_TWO - 86400),
        ("2026-11-28T02:00:00Z", AT_TWO),
        ("2026-11-28 02:00", AT_TWO),
        ("2026-11-28T10:00+08:00", AT_TWO),
        ("2026-11-27T21:00:00-0500", AT_TWO),
        ("2026-11-28", AT_TWO - 7200),
        ("2026-11-28T02:00:00.000Z", AT_TWO),
    ],
)
def test_times_are_ages_or_iso(text: str, seconds: float) -> None:
    assert since_epoch(text, AT_TWO) == seconds


@pytest.mark.parametrize("text", ["", "yesterday", "10", "10 minutes", "2026-13-01", "02:00"])
def test_other_times_are_refused(text: str) -> None:
    with pytest.raises(ValueError):
        since_epoch(text, AT_TWO)


def test_a_moment_is_iso_in_utc() -> None:
    assert moment(AT_TWO + 0.25) == "2026-11-28T02:00:00.250Z"
    assert since_epoch(moment(AT_TWO), 0) == AT_TWO
