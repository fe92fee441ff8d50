"""A file in a folder that may not answer."""

from __future__ import annotations

import io
import os
import runpy
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.cutover import collector_file
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.collector_file import replace


def test_a_file_is_written_for_everybody_to_read_and_left_where_it_is_right(tmp_path: Path) -> None:
    path = tmp_path / "a.prom"
    replace(str(path), b"one\n")
    before = path.stat()
    assert path.read_bytes() == b"one\n" and before.st_mode & 0o777 == 0o644
    replace(str(path), b"one\n")
    assert path.stat().st_ino == before.st_ino
    (tmp_path / ".a.prom.part").write_text("left behind")
    replace(str(path), b"on")
    assert path.read_bytes() == b"on" and os.listdir(tmp_path) == ["a.prom"]


def test_of_a_file_no_more_is_read_than_tells_whether_it_is_right(tmp_path: Path) -> None:
    path = tmp_path / "a.prom"
    path.write_bytes(b"x" * 1000)
    assert collector_file._read(str(path), 11) == b"x" * 11


def test_what_cannot_be_written_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "a.prom").mkdir()
    with pytest.raises(IsADirectoryError):
        replace(str(tmp_path / "a.prom"), b"one\n")
    assert os.listdir(tmp_path) == ["a.prom"]


def test_the_program_says_what_went_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["-c", str(tmp_path / "missing" / "a.prom")])
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(b"one\n")))
    runpy.run_path(str(collector_file.__file__), run_name="__main__")
    assert "No such file or directory" in capsys.readouterr().out
