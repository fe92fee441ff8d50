"""Files that people may have edited."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.monitoring.files import write_files

NAME = "rules/a.yml"


def states(folder: Path, text: str, check: bool = False) -> list[tuple[str, str]]:
    return [(one.state, os.path.basename(one.beside)) for one in write_files(folder, {NAME: text}, check)]


def test_what_is_right_is_not_written_again(tmp_path: Path) -> None:
    assert states(tmp_path, "one") == [("written", "")]
    before = {path: path.stat().st_ino for path in tmp_path.rglob("*")}
    assert states(tmp_path, "one") == [("unchanged", "")]
    assert {path: path.stat().st_ino for path in tmp_path.rglob("*")} == before
    assert states(tmp_path, "two") == [("written", "")]
    assert (tmp_path / NAME).read_text() == "two"


def test_everybody_may_read_what_is_written(tmp_path: Path) -> None:
    states(tmp_path, "one")
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o644


def test_check_mode_writes_nothing(tmp_path: Path) -> None:
    assert states(tmp_path / "new", "one", check=True) == [("written", "")]
    assert not (tmp_path / "new").exists()


def test_what_somebody_edited_stays_and_new_content_is_offered_beside_it_once(tmp_path: Path) -> None:
    states(tmp_path, "one")
    (tmp_path / NAME).write_text("mine")
    assert states(tmp_path, "one") == [("edited", "")]
    assert not (tmp_path / f"{NAME}.new").exists()
    assert states(tmp_path, "two", check=True) == [("edited", "a.yml.new")]
    assert not (tmp_path / f"{NAME}.new").exists()
    assert states(tmp_path, "two") == [("edited", "a.yml.new")]
    assert (tmp_path / NAME).read_text() == "mine"
    assert (tmp_path / f"{NAME}.new").read_text() == "two"
    (tmp_path / f"{NAME}.new").unlink()
    assert states(tmp_path, "two") == [("edited", "")]


def test_who_takes_the_new_content_has_an_unedited_file_again(tmp_path: Path) -> None:
    states(tmp_path, "one")
    (tmp_path / NAME).write_text("mine")
    states(tmp_path, "two")
    (tmp_path / NAME).write_text("two")
    assert states(tmp_path, "two") == [("unchanged", "")]
    assert not (tmp_path / f"{NAME}.new").exists()
    assert states(tmp_path, "three") == [("written", "")]


def test_a_file_of_somebody_elses_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "rules").mkdir()
    (tmp_path / NAME).write_text("theirs")
    assert states(tmp_path, "one") == [("edited", "a.yml.new")]
    assert (tmp_path / NAME).read_text() == "theirs"


def test_a_record_that_is_damaged_overwrites_nothing(tmp_path: Path) -> None:
    states(tmp_path, "one")
    (tmp_path / ".written").write_text("[")
    assert states(tmp_path, "two") == [("edited", "a.yml.new")]


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DeployError, match=r"file/.written.*give --into"):
        states(tmp_path / "file", "one")
