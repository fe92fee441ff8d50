"""What was logged since the last look."""

from __future__ import annotations

import json
import os
import threading
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import log_reader
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.record import PRIVATE_FILE
from ansible_collections.deployer.sglang.plugins.module_utils.log_lines import Wanted
from ansible_collections.deployer.sglang.plugins.module_utils.log_reader import (
    PRIVATE,
    Source,
    entries,
    follow,
    read,
    read_file,
)

ALL = Wanted()


class Log:
    """A log file, read on and on."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.place: dict[str, int] | None = None
        self.problems: list[str] = []

    def add(self, text: str) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(text)

    def new(self) -> list[str]:
        lines, self.place = read_file(str(self.path), 0, self.place, self.problems)
        return lines


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "service.log")


def test_a_file_is_read_on_where_the_last_look_ended(log: Log) -> None:
    log.add("1\n2\n")
    assert log.new() == ["1", "2"]
    assert log.new() == []
    log.add("3\nhalf")
    assert log.new() == ["3"]
    log.add(" more\n")
    assert log.new() == ["half more"]


def test_a_first_look_shows_a_line_without_end(log: Log) -> None:
    log.add("1\nhalf")
    assert log.new() == ["1", "half"]


def test_nothing_is_lost_by_a_rotation(log: Log) -> None:
    log.add("1\n")
    log.new()
    log.add("2\nlast words")
    os.replace(log.path, f"{log.path}.1")
    log.add("3\n")
    assert log.new() == ["2", "last words", "3"]
    assert log.new() == []


def test_a_file_that_was_truncated_is_read_from_its_start(log: Log) -> None:
    log.add("a long line\n")
    log.new()
    log.path.write_text("new\n")
    assert log.new() == ["new"]


def test_a_file_that_is_not_there_yet_is_no_problem(log: Log) -> None:
    assert log.new() == []
    log.add("1\n")
    assert log.new() == ["1"]
    assert log.problems == []


def test_of_a_long_file_the_end_is_read_in_whole_lines(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_reader, "READ_BYTES", 25)
    log.add("".join(f"line {at:03d}\n" for at in range(100)))
    assert log.new() == ["line 098", "line 099"]


def test_a_link_or_anothers_file_is_not_read(log: Log, tmp_path: Path) -> None:
    secret = tmp_path / "shadow"
    secret.write_text("root:x\n")
    log.path.symlink_to(secret)
    assert log.new() == []
    assert log.problems
    problems: list[str] = []
    assert read_file(str(secret), os.getuid() + 1, None, problems)[0] == []
    assert "no plain file of the user" in problems[0]


def test_entries_of_the_journal_are_lines_with_their_time() -> None:
    rows = [
        {"__CURSOR": "a", "__REALTIME_TIMESTAMP": "1795831200250000", "MESSAGE": "one\ntwo", "PRIORITY": "6"},
        {"__CURSOR": "b", "__REALTIME_TIMESTAMP": "1795831201000000", "MESSAGE": [255, 104, 105]},
        {"__CURSOR": "c", "MESSAGE": "failed", "PRIORITY": "3", "_COMM": "systemd"},
        {"__CURSOR": "d", "MESSAGE": "no failure of ours", "PRIORITY": "3", "_COMM": "python"},
    ]
    lines, cursor = entries([*map(json.dumps, rows), "no JSON", "[]"])
    assert [line.text for line in lines] == ["one", "two", "\ufffdhi", "failed", "no failure of ours"]
    assert lines[0].as_dict()["time"] == "2026-11-28T02:00:00.250Z"
    assert [line.level for line in lines[3:]] == ["error", ""]
    assert cursor == "d"


@pytest.fixture
def journalctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A journalctl that writes down how it was called and prints a file's rows; a journal of one unit."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "journalctl"
    program.write_text(f'#!/bin/sh\necho "$*" >> {folder}/calls\ncat {folder}/rows 2>/dev/null\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return folder


def rows(journalctl: Path, *entries: dict[str, Any]) -> None:
    (journalctl / "rows").write_text("".join(json.dumps(one) + "\n" for one in entries))


def test_the_newest_lines_of_the_journal_come_first_and_are_turned_round(tmp_path: Path, journalctl: Path) -> None:
    rows(journalctl, {"__CURSOR": "b", "MESSAGE": "2"}, {"__CURSOR": "a", "MESSAGE": "1"})
    found = read(Source("s", str(tmp_path), units=("s.service",)), {}, Wanted(lines=2), str)
    assert [line.text for line in found.lines] == ["1", "2"]
    assert found.cursor["journal"] == "b"
    assert "--unit=s.service" in (journalctl / "calls").read_text()
    assert "--lines=2" in (journalctl / "calls").read_text()


def test_the_journal_is_read_on_behind_its_cursor(tmp_path: Path, journalctl: Path) -> None:
    source = Source("s", str(tmp_path), units=("s.service",))
    rows(journalctl, {"__CURSOR": "b", "MESSAGE": "2"})
    found = read(source, {"journal": "a"}, ALL, str)
    assert found.cursor["journal"] == "b"
    assert "--after-cursor=a" in (journalctl / "calls").read_text()
    rows(journalctl)
    assert read(source, found.cursor, ALL, str).cursor["journal"] == "b"


def test_a_journal_that_cannot_be_read_is_a_problem(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    found = read(Source("s", str(tmp_path), units=("s.service",)), {}, ALL, str)
    assert found.problem == "journalctl is not on this host"


def test_several_sources_are_merged_by_time(tmp_path: Path, journalctl: Path) -> None:
    rows(journalctl, {"__CURSOR": "a", "__REALTIME_TIMESTAMP": "1000000", "MESSAGE": "old"})
    path = tmp_path / "x.log"
    path.write_text("[2026-11-28 02:00:00] new\n")
    found = read(Source("s", str(tmp_path), ("s.service",), {str(path): 0}), {}, ALL, str)
    assert [line.text for line in found.lines] == ["old", "[2026-11-28 02:00:00] new"]


def test_secrets_are_hidden_before_lines_are_chosen(log: Log, tmp_path: Path) -> None:
    log.add("key hunter22-long\nother\n")
    source = Source("s", str(tmp_path), files={str(log.path): 0})

    def hide(text: str) -> str:
        return text.replace("hunter22-long", "***")

    assert [line.text for line in read(source, {}, ALL, hide).lines] == ["key ***", "other"]
    assert not read(source, {}, Wanted(holding="hunter22"), hide).lines


def test_following_returns_as_soon_as_something_is_logged(log: Log, tmp_path: Path) -> None:
    log.add("1\n")
    source = Source("s", str(tmp_path), files={str(log.path): 0})
    cursor = read(source, {}, ALL, str).cursor
    order = {"source": asdict(source), "cursor": cursor, "wanted": {"level": "info"}}
    threading.Timer(0.3, log.add, ("2\n",)).start()
    begun = time.monotonic()
    (found,) = follow(json.loads(json.dumps([order])), 60)
    assert time.monotonic() - begun < 30
    assert [line["text"] for line in found["lines"]] == ["2"]


def test_following_in_vain_ends(log: Log, tmp_path: Path) -> None:
    log.add("1\nhalf a bar")
    source = Source("s", str(tmp_path), files={str(log.path): 0})
    order = {"source": asdict(source), "cursor": read(source, {}, ALL, str).cursor, "wanted": {"level": "info"}}
    (found,) = follow([order], 0.1)
    assert found["lines"] == []
    assert found["current"] == ""


def test_a_service_that_has_secrets_is_not_followed_by_who_cannot_hide_them(log: Log, tmp_path: Path) -> None:
    assert os.path.basename(PRIVATE) == PRIVATE_FILE
    log.add("hunter22\n")
    private = tmp_path / "releases" / "aaa" / PRIVATE_FILE
    private.parent.mkdir(parents=True)
    private.write_text("{}")
    order = {"source": asdict(Source("s", str(tmp_path), files={str(log.path): 0})), "cursor": {}, "wanted": {}}
    assert follow([order], 0) == [{"service": "s", "secrets": True, "current": ""}]
