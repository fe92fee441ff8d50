"""The controller's journal: private, rotated, and read again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.runs.events import Event, parse
from deployer.runs.journal import EVENTS, Journal, find_run, kept_runs, rotate


def run_of(base: Path, name: str, **record: object) -> Path:
    folder = base / name
    folder.mkdir(parents=True)
    started = Event("run.started", {"verb": "rollout", "initiator": "me@here"}, 5.0, name)
    (folder / EVENTS).write_text(started.as_json() + "\n{half a li")
    if record:
        (folder / "run.json").write_text(json.dumps(record))
    return folder


def test_a_run_has_a_folder_that_others_cannot_read(tmp_path: Path) -> None:
    base = tmp_path / ".deployer" / "runs"
    first, second = Journal("rollout", base), Journal("rollout", base)
    assert first.run != second.run and first.run.endswith("Z-rollout")
    first(Event("plan", {"hosts": {"a": {"exit_code": 0}}}, run=first.run))
    event = parse((first.folder / EVENTS).read_text())
    assert event is not None and event.kind == "plan"  # written at once, not at the end
    first.close({"exit_code": 0})
    assert {one.name for one in first.folder.iterdir()} == {EVENTS, "plan.json", "run.json"}
    assert json.loads((first.folder / "plan.json").read_text()) == {"a": {"exit_code": 0}}
    for path in (first.folder, *first.folder.iterdir()):
        assert path.stat().st_mode & 0o077 == 0, path


def test_where_none_can_be_written_it_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeployError, match=r"journal of this run cannot be written in .*file.*Fix: "):
        Journal("rollout", tmp_path / "file")


def test_the_newest_are_kept_and_what_is_no_run_stays(tmp_path: Path) -> None:
    names = [f"2026112{day}T000000Z-rollout" for day in range(5)] + ["20261124T000000Z-rollback-2"]
    names += ["20261124T000000Z-rollback-10"]
    for name in names:
        run_of(tmp_path, name)
    (tmp_path / "notes").mkdir()
    (tmp_path / "20991231T000000Z-rollout.txt").write_text("mine")
    rotate(tmp_path, 3)
    left = {one.name for one in tmp_path.iterdir()}
    assert left == {*names[4:], "notes", "20991231T000000Z-rollout.txt"}
    assert [one.run for one in kept_runs(tmp_path)] == [*reversed(names[4:])]


def test_closing_a_run_rotates(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(100):
        run_of(tmp_path, f"20200101T0000{number:02}Z-rollout")
    journal = Journal("rollback", tmp_path)
    journal.close({})
    left = sorted(one.name for one in tmp_path.iterdir())
    assert len(left) == 100 and left[-1] == journal.run and left[0] == "20200101T000001Z-rollout"


def test_the_run_that_has_just_ended_is_kept_whatever_the_clock_says(tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"2030010{number + 1}T000000Z-rollout").mkdir()
    own = tmp_path / "20200101T000000Z-rollout"
    own.mkdir()
    rotate(tmp_path, 2, kept=own)
    assert own.exists() and not (tmp_path / "20300101T000000Z-rollout").exists()


def test_a_run_that_was_killed_is_known_by_how_it_began(tmp_path: Path) -> None:
    run_of(tmp_path, "20261129T023417Z-rollout")
    run_of(tmp_path, "20261129T023418Z-rollout", exit_code=1, verb="rollout")
    (tmp_path / "20261129T023419Z-rollout").mkdir()
    ended, killed = kept_runs(tmp_path)
    assert ended.record["exit_code"] == 1 and "exit_code" not in killed.record
    assert killed.record["initiator"] == "me@here"
    assert [event.kind for event in killed.events()] == ["run.started"]


def test_a_run_is_found_by_the_beginning_of_its_id(tmp_path: Path) -> None:
    run_of(tmp_path, "20261129T023417Z-rollout")
    run_of(tmp_path, "20261129T023417Z-rollout-2")
    assert find_run("20261129T023417Z-rollout", tmp_path).run == "20261129T023417Z-rollout"
    assert find_run("last", tmp_path).run.endswith("-2")
    for wanted in ("20261129", "2027", "last-but-one"):
        with pytest.raises(DeployError, match="Fix: take an id of"):
            find_run(wanted, tmp_path)
    with pytest.raises(DeployError):
        find_run("last", tmp_path / "nowhere")
