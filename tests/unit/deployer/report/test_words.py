"""Times, sizes and text as people read them."""

from __future__ import annotations

import pytest

from deployer.report.words import REPLACEMENT, amount, duration, plain, some, ticks


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.02, "< 0.1 s"),
        (0.44, "0.4 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (59.6, "1 min"),
        (723, "12 min 3 s"),
        (3600, "1 h"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("done", "total", "unit", "words"),
    [
        (13_800_000_000, 27_600_000_000, "bytes", "13.8 GB of 27.6 GB"),
        (27_600_000_000, 27_600_000_000, "bytes", "27.6 GB"),
        (5_000_000, 0, "bytes", "5.0 MB"),
        (3, 8, "shards", "3 of 8 shards"),
        (8, 8, "shards", "8 shards"),
        (0, 0, "files", ""),
    ],
)
def test_amounts(done: float, total: float, unit: str, words: str) -> None:
    assert amount(done, total, unit) == words


def test_control_characters_and_what_turns_the_direction_of_writing_are_replaced() -> None:
    shown = plain("a\x1b]52;c;aGk=\x07\u202eb\u2066\x9b\u200f").replace(REPLACEMENT, "!")
    assert shown == "a!]52;c;aGk=!!b!!!"
    assert plain("\ud800\x00") == REPLACEMENT * 2


def test_lines_of_a_log_stay_lines_and_lose_their_colours() -> None:
    assert plain("\x1b[1;31mred\x1b[0m\r\nbar 10%\rbar 20%\n\tend\u00a0 加载") == "red\nbar 10%\nbar 20%\n\tend  加载"


def test_of_many_names_the_first_are_named() -> None:
    assert some(["a", "b"]) == "a, b"
    assert some([f"gpu{number}" for number in range(100)]) == "gpu0, gpu1, gpu2 and 97 more"


@pytest.mark.parametrize("length", [1.0, 7.5, 61.0, 890.0, 4000.0, 90_000.0, 3_000_000.0])
def test_a_time_axis_has_a_few_marks_and_begins_at_its_start(length: float) -> None:
    marks = ticks(length)
    assert marks[0] == 0
    assert 2 <= len(marks) <= 7
    assert marks[-1] <= length
