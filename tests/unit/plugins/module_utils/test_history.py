"""What a host keeps: releases and events, whatever a power cut or another version left there."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.history import event_of, service_history


def release(root: Path, name: str, staged: int, **fields: Any) -> None:
    folder = root / "services" / "s" / "releases" / name
    folder.mkdir(parents=True)
    value = {"id": name, "engine": "sglang", "environment": {"name": "e", "path": "/r/e-1"}, **fields}
    (folder / "release.json").write_text(json.dumps(value))
    os.utime(folder / "release.json", (staged, staged))


def test_releases_come_in_the_order_in_which_they_were_staged(tmp_path: Path) -> None:
    release(tmp_path, "bbb", 100, model={"name": "m", "path": "/r/m-1"})
    release(tmp_path, "aaa", 200, engine="llamafactory", model={"name": "by hand", "path": ""})
    folder = tmp_path / "services" / "s"
    (folder / "current").symlink_to("releases/aaa")
    (folder / "adopted").symlink_to("releases/bbb")
    (folder / "previous").symlink_to("releases/bbb")
    entry = {"time": "2026-01-02T03:04:05Z", "event": "ended", "outcome": "committed", "to": "aaa", "from": "bbb"}
    (folder / "journal.jsonl").write_text(json.dumps(entry) + "\n")
    first, second = service_history(str(tmp_path), "s", 10)["releases"]
    assert (first["id"], first["marks"], first["model"]) == ("bbb", ["previous", "adopted"], "m-1")
    assert (second["id"], second["marks"], second["engine"]) == ("aaa", ["current"], "llamafactory")
    assert (second["model"], second["environment"]) == ("by hand", "e-1")
    assert (first["committed"], second["committed"]) == ("", "2026-01-02T03:04:05Z")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"id": "other"}'])
def test_a_release_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    folder = tmp_path / "services" / "s" / "releases" / "aaa"
    folder.mkdir(parents=True)
    (folder / "release.json").write_text(text)
    (one,) = service_history(str(tmp_path), "s", 10)["releases"]
    assert (one["id"], one["readable"]) == ("aaa", False)


def test_what_is_being_staged_is_none(tmp_path: Path) -> None:
    (tmp_path / "services" / "s" / "releases" / ".aaa.part").mkdir(parents=True)
    assert service_history(str(tmp_path), "s", 10) == {"service": "s", "releases": [], "events": []}


def test_a_service_that_was_never_deployed_has_no_history(tmp_path: Path) -> None:
    assert service_history(str(tmp_path), "s", 10) == {"service": "s", "releases": [], "events": []}


def test_the_last_events_are_told_and_torn_or_unknown_lines_do_no_harm(tmp_path: Path) -> None:
    folder = tmp_path / "services" / "s"
    folder.mkdir(parents=True)
    entries = [json.dumps({"event": "ended", "to": str(number)}) for number in range(5)]
    lines = [*entries, "nonsense", "[]", json.dumps({"event": "of a later version", "x": {}}), '{"event": "en']
    (folder / "journal.jsonl").write_text("\n".join(lines))
    events = service_history(str(tmp_path), "s", 3)["events"]
    assert [(event["event"], event["to"]) for event in events] == [
        ("ended", "3"),
        ("ended", "4"),
        ("of a later version", ""),
    ]
    assert service_history(str(tmp_path), "s", 0)["events"] == []


def test_an_event_says_how_long_it_took_and_why() -> None:
    told = event_of(
        {"event": "ended", "seconds": {"stop": 1.5, "gate": 2, "x": "?"}, "failure": {"kind": "oom"}, "reason": "a\nb"}
    )
    assert told is not None and (told["seconds"], told["reason"]) == (3.5, "oom: a b")
    bare = event_of({"event": 7, "seconds": "long", "reason": None, "failure": None})
    assert bare is not None and (bare["event"], bare["seconds"], bare["reason"]) == ("7", None, "")


def test_the_beginning_of_a_cut_over_is_told_by_its_end() -> None:
    assert event_of({"event": "started"}) is None


def test_what_reaches_a_terminal_has_no_control_characters() -> None:
    told = event_of({"event": "ended", "initiator": "\x1b[31mmia", "reason": "x" * 1000})
    assert told is not None and told["initiator"] == "?[31mmia" and len(told["reason"]) == 300
