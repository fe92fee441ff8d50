"""The audit line: it is there, it is harmless, and it never stands in the way."""

from __future__ import annotations

import json
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.audit import record


def lines(root: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (root / "audit.jsonl").read_text().splitlines()]


def test_lines_are_added(tmp_path: Path) -> None:
    record(str(tmp_path), what="lock taken", initiator="mia", seconds=3, before=None)
    record(str(tmp_path), what="lock released")
    first, second = lines(tmp_path)
    assert (first["what"], first["seconds"], first["before"], second["what"]) == (
        "lock taken",
        3,
        None,
        "lock released",
    )
    assert (tmp_path / "audit.jsonl").stat().st_mode & 0o777 == 0o644


def test_control_characters_and_endless_values_are_cut(tmp_path: Path) -> None:
    record(str(tmp_path), what="x\x1b]0;evil\a\n", reason="y" * 10_000)
    (line,) = lines(tmp_path)
    assert line["what"] == "x?]0;evil??" and len(str(line["reason"])) == 500


def test_a_torn_last_line_takes_no_other_along(tmp_path: Path) -> None:
    (tmp_path / "audit.jsonl").write_text('{"what": "cut')
    record(str(tmp_path), what="next")
    assert json.loads((tmp_path / "audit.jsonl").read_text().splitlines()[1])["what"] == "next"


def test_what_cannot_be_written_is_left(tmp_path: Path) -> None:
    record(str(tmp_path / "missing"), what="x")
    (tmp_path / "audit.jsonl").symlink_to(tmp_path / "elsewhere")
    record(str(tmp_path), what="x")
    assert not (tmp_path / "elsewhere").exists()
