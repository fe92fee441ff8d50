"""Kits in a folder of the controller: written, brought up to date, and never over what somebody changed."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.client_kits.folders import CHANGED_HERE, NEW, RECORD, UNCHANGED, UPDATED, compared, kit_folder, write

FILES = {"test_sglang_api.py": "one\n", "sglang_usage_guide.md": "two\n"}
LATER = {**FILES, "sglang_usage_guide.md": "three\n"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """With the kit in it."""
    place = tmp_path / "client" / "gpu1" / "code2sql"
    write(place, FILES, compared(place, FILES))
    return place


def test_a_kit_is_written_and_then_unchanged(folder: Path) -> None:
    assert {name: (folder / name).read_text() for name in FILES} == FILES
    assert set(compared(folder, FILES).values()) == {UNCHANGED}
    assert (folder / "test_sglang_api.py").stat().st_mode & stat.S_IXUSR
    before = {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}
    write(folder, FILES, compared(folder, FILES))
    assert {path.name: path.stat().st_mtime_ns for path in folder.iterdir()} == before


def test_what_was_written_here_follows_the_release(folder: Path) -> None:
    states = compared(folder, LATER)
    assert states == {"test_sglang_api.py": UNCHANGED, "sglang_usage_guide.md": UPDATED}
    write(folder, LATER, states)
    assert (folder / "sglang_usage_guide.md").read_text() == "three\n"
    assert set(compared(folder, LATER).values()) == {UNCHANGED}


def test_what_somebody_changed_is_told_from_what_the_release_changed(folder: Path) -> None:
    (folder / "sglang_usage_guide.md").write_text("mine\n")
    assert compared(folder, FILES)["sglang_usage_guide.md"] == CHANGED_HERE
    assert compared(folder, LATER)["sglang_usage_guide.md"] == CHANGED_HERE
    (folder / "sglang_usage_guide.md").write_text("three\n")
    assert compared(folder, LATER)["sglang_usage_guide.md"] == UNCHANGED


def test_what_was_removed_is_new_again_and_what_nobody_recorded_is_somebody_s(folder: Path) -> None:
    (folder / "test_sglang_api.py").unlink()
    assert compared(folder, FILES)["test_sglang_api.py"] == NEW
    (folder / RECORD).write_text("{broken")
    assert compared(folder, LATER)["sglang_usage_guide.md"] == CHANGED_HERE


def test_a_link_is_somebody_s_and_is_replaced_not_followed(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("theirs\n")
    (folder / "sglang_usage_guide.md").unlink()
    (folder / "sglang_usage_guide.md").symlink_to(tmp_path / "theirs")
    states = compared(folder, FILES)
    assert states["sglang_usage_guide.md"] == CHANGED_HERE
    write(folder, FILES, states)
    assert (tmp_path / "theirs").read_text() == "theirs\n"
    assert (folder / "sglang_usage_guide.md").read_text() == "two\n"


def test_a_folder_that_cannot_be_written_is_said_with_a_fix(tmp_path: Path) -> None:
    (tmp_path / "client").write_text("a file")
    with pytest.raises(DeployError, match=r"client.*Fix: .*--into"):
        place = kit_folder(tmp_path / "client", "gpu1", "code2sql")
        write(place, FILES, compared(place, FILES))


@pytest.mark.parametrize(
    ("host", "service"), [("..", "a"), ("a/b", "a"), ("", "a"), ("a", ".."), ("a", "../../x"), ("a", "")]
)
def test_names_lead_nowhere_else(tmp_path: Path, host: str, service: str) -> None:
    with pytest.raises(DeployError):
        kit_folder(tmp_path, host, service)
