"""The module `adopt`, run as Ansible runs it: a process with its arguments on standard input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.unit.plugins.module_utils.adoption.conftest import SERVICE, Bench, bench

__all__ = ["bench"]
REPOSITORY = Path(__file__).parents[4]


def run(bench: Bench, **more: Any) -> dict[str, Any]:
    """The module's result."""
    arguments = {
        "root": bench.root,
        "services": [{"name": SERVICE, "port": bench.port}],
        "supervisor": "process",
        "initiator": "mia",
        **more,
    }
    done = subprocess.run(
        [sys.executable, "-m", "ansible_collections.deployer.sglang.plugins.modules.adopt"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    return dict(json.loads(done.stdout))


def test_check_mode_says_what_would_be_adopted(bench: Bench) -> None:
    server = bench.start(bench.command(), {"CUDA_VISIBLE_DEVICES": "7"})
    result = run(bench, _ansible_check_mode=True)
    assert result["changed"]
    (entry,) = result["services"]
    assert (entry["engine"], entry["release"], entry["supervision"]) == ("sglang", "", "hand")
    assert str(server.top_pid) in entry["who"]
    assert entry["gpus"] == ["7"]
    assert not os.path.exists(bench.root)


def test_it_is_adopted_once(bench: Bench) -> None:
    bench.start(bench.command())
    first = run(bench)
    assert first["changed"]
    release = first["services"][0]["release"]
    assert release in first["diff"]["after"]
    assert bench.folder.release_of("current") == release
    assert '"adopt"' in Path(bench.root, "audit.jsonl").read_text()
    second = run(bench)
    assert not second["changed"]
    assert second["services"][0]["release"] == release


def test_nothing_to_adopt_changes_nothing(bench: Bench) -> None:
    result = run(bench)
    assert not result["changed"]
    assert result["services"][0]["engine"] == ""
    assert not os.path.exists(bench.root)


def test_what_cannot_be_adopted_fails_with_service_and_fix(bench: Bench) -> None:
    bench.start([bench.command()[0], "-m", "http.server", str(bench.port), "--bind", "127.0.0.1"])
    result = run(bench)
    assert result["failed"]
    assert SERVICE in result["msg"]
    assert "adopt_any_command" in result["msg"]
    assert "Fix:" in result["msg"]
    assert run(bench, any_command=True)["services"][0]["engine"] == "unknown"
