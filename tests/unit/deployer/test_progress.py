"""Progress as lines and as a bar."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from deployer import progress
from deployer.progress import PlainLines, as_progress, by_bytes, shown


def test_lines_come_every_tenth_and_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LEAST_SECONDS", 0.0)
    lines: list[str] = []
    told = PlainLines(lines.append)
    told.total(2, 1000)
    for _ in range(100):
        told.advance(10)
    assert lines == []  # no file is there yet
    told.done("one")
    told.done("two")
    assert [line.partition(", 1.0 kB of 1.0 kB, ")[0] for line in lines] == [
        "fetched 1 of 2 files",
        "fetched 2 of 2 files",
    ]


def test_lines_follow_the_bytes_of_many_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LEAST_SECONDS", 0.0)
    lines: list[str] = []
    told = PlainLines(lines.append)
    told.total(100, 1000)
    for _ in range(100):
        told.advance(10)
        told.done("one")
    assert 9 <= len(lines) <= 11


def test_a_fast_download_says_the_end_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LEAST_SECONDS", 3600.0)
    monkeypatch.setattr(progress, "SECONDS_PER_LINE", 3600.0)
    lines: list[str] = []
    told = PlainLines(lines.append)
    told.total(100, 1000)
    for _ in range(100):
        told.advance(10)
        told.done("one")
    assert [line.partition(",")[0] for line in lines] == ["fetched 100 of 100 files"]


def test_a_slow_download_says_something_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "SECONDS_PER_LINE", 0.0)
    lines: list[str] = []
    told = PlainLines(lines.append)
    told.total(1, 0)
    told.advance(10)
    assert lines[0].startswith("fetched 0 of 1 files, 10 bytes, ")


def test_a_bar_on_a_terminal_lines_elsewhere() -> None:
    for terminal in (True, False):
        out = io.StringIO()
        with shown(Console(file=out, force_terminal=terminal, width=100)) as told:
            told.line("fetching [1] file")
            told.total(1, 10)
            told.total(1, 2000)
            told.advance(2500)
            told.advance(-500)
            told.done("one")
        text = out.getvalue()
        assert "fetching [1] file\n" in text
        assert ("━" in text) is terminal
        assert "1 of 1 files" in text
        assert ("2.0/2.0 kB" if terminal else "2.0 kB of 2.0 kB") in text


def test_a_function_is_told_lines() -> None:
    lines: list[str] = []
    as_progress(lines.append).line("a step")
    silent = progress.Silent()
    assert lines == ["a step"]
    assert as_progress(silent) is silent


def test_work_that_is_known_by_its_bytes_is_shown_by_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "LEAST_SECONDS", 0.0)
    for terminal in (True, False):
        out = io.StringIO()
        with shown(Console(file=out, force_terminal=terminal, width=100), "hashed") as told:
            on_progress = by_bytes(told)
            for done in (1000, 1500, 2000):
                on_progress(done, 2000)
        text = out.getvalue()
        assert "files" not in text
        if terminal:
            assert "2.0/2.0 kB" in text
        else:
            assert [line.rpartition(",")[0] for line in text.splitlines()] == [
                "hashed 1.0 kB of 2.0 kB",
                "hashed 1.5 kB of 2.0 kB",
                "hashed 2.0 kB of 2.0 kB",
            ]
