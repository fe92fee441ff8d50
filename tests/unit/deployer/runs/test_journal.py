"""The controller's journal: private, and free of what modules were given."""

from __future__ import annotations

import json
from pathlib import Path

from deployer.runs.journal import Journal, kept


def test_a_run_has_a_folder_that_others_cannot_read(tmp_path: Path) -> None:
    first, second = Journal("rollout", tmp_path / "runs"), Journal("rollout", tmp_path / "runs")
    assert first.folder != second.folder
    first.write("started", limit="gpu-nodes")
    assert json.loads(first.path.read_text())["limit"] == "gpu-nodes"
    assert first.path.stat().st_mode & 0o077 == 0
    assert first.folder.stat().st_mode & 0o077 == 0


def test_arguments_of_modules_are_not_kept() -> None:
    result = {"outcome": "restored", "invocation": {"module_args": {"password": "canary"}}, "log": "prompt"}
    assert kept(result) == {"outcome": "restored"}


def test_of_a_failure_its_kind_is_kept_and_no_line_of_a_log() -> None:
    assert kept({"failure": {"kind": "oom", "evidence": ["a prompt"]}, "adopted": "aaaa"}) == {
        "failure": "oom",
        "adopted": "aaaa",
    }
    assert kept({"failure": {"kind": "", "evidence": []}, "adopted": ""}) == {}
