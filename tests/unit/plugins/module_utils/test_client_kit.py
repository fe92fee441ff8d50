"""Kits on a host: read whole or not at all, without following a link, and with the reason where there is none."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.client_kit import (
    API_TEST,
    GUIDE,
    KIT_FILES,
    LARGEST,
    is_kit_path,
    mode_of,
    read_kit,
)

ID = "0123456789ab"


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """The folder of the release that `code2sql` serves, with a kit."""
    service = tmp_path / "services" / "code2sql"
    folder = service / "releases" / ID
    (folder / "client").mkdir(parents=True)
    (folder / "release.json").write_text(json.dumps({"id": ID, "engine": "sglang"}))
    for name in KIT_FILES:
        (folder / "client" / name).write_text(f"text of {name} 例\n")
    (service / "current").symlink_to(f"releases/{ID}")
    return folder


def test_the_kit_of_what_serves_is_read(release: Path, tmp_path: Path) -> None:
    kit = read_kit(str(tmp_path), "code2sql")
    assert (kit.service, kit.release, kit.engine, kit.problem) == ("code2sql", ID, "sglang", "")
    assert kit.files == {name: f"text of {name} 例\n" for name in KIT_FILES}
    (release / "client" / "more").write_text("not a kit's")
    assert read_kit(str(tmp_path), "code2sql").files == kit.files


def test_a_service_that_never_served_has_none(tmp_path: Path) -> None:
    kit = read_kit(str(tmp_path), "code2sql")
    assert (kit.release, dict(kit.files)) == ("", {})
    assert "no release that serves" in kit.problem and kit.fix


def test_an_adopted_release_has_none_and_says_what_to_do(release: Path, tmp_path: Path) -> None:
    value = {"id": ID, "engine": "llamafactory", "adopted": {"by": "hand"}}
    (release / "release.json").write_text(json.dumps(value))
    kit = read_kit(str(tmp_path), "code2sql")
    assert (kit.engine, dict(kit.files)) == ("llamafactory", {})
    assert "was adopted" in kit.problem
    assert "--url" in kit.fix


def test_a_release_from_before_there_were_kits_says_so(release: Path, tmp_path: Path) -> None:
    (release / "client" / GUIDE).unlink()
    kit = read_kit(str(tmp_path), "code2sql")
    assert "without a kit" in kit.problem and "restarts nothing" in kit.fix


@pytest.mark.parametrize("what", ["file", "folder", "releases"])
def test_no_link_is_followed(release: Path, tmp_path: Path, what: str) -> None:
    path = {"file": release / "client" / API_TEST, "folder": release / "client", "releases": release.parent}[what]
    moved = tmp_path / "elsewhere"
    path.rename(moved)
    path.symlink_to(moved)
    kit = read_kit(str(tmp_path), "code2sql")
    assert dict(kit.files) == {}
    assert "cannot be read" in kit.problem


@pytest.mark.parametrize("what", ["large", "pipe", "bytes"])
def test_what_is_no_text_of_ours_is_not_read(release: Path, tmp_path: Path, what: str) -> None:
    path = release / "client" / API_TEST
    path.unlink()
    if what == "large":
        path.write_bytes(b"x" * (LARGEST + 1))
    elif what == "pipe":
        os.mkfifo(path)
    else:
        path.write_bytes(b"\xff\xfe")
    kit = read_kit(str(tmp_path), "code2sql")
    assert dict(kit.files) == {}
    assert API_TEST in kit.problem


@pytest.mark.parametrize("text", ["", "[]", "{", '{"id": ' + "[" * 100_000])
def test_a_release_that_cannot_be_read_is_said(release: Path, tmp_path: Path, text: str) -> None:
    (release / "release.json").write_text(text)
    assert "cannot be read" in read_kit(str(tmp_path), "code2sql").problem


@pytest.mark.parametrize("target", ["releases/..", "..", "/"])
def test_a_link_to_no_release_leads_nowhere(release: Path, tmp_path: Path, target: str) -> None:
    current = tmp_path / "services" / "code2sql" / "current"
    current.unlink()
    current.symlink_to(target)
    assert read_kit(str(tmp_path), "code2sql").problem


def test_everybody_may_read_a_kit_and_run_its_programs() -> None:
    assert (mode_of(API_TEST), mode_of(GUIDE)) == (0o755, 0o644)
    assert is_kit_path(f"/x/client/{GUIDE}") and not is_kit_path(f"/x/{GUIDE}") and not is_kit_path("/x/client/a")
