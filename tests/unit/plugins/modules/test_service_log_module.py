"""The module `service_log`, run as Ansible runs it: a process with its arguments on standard input."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.released_host import SERVICE, ReleasedHost

REPOSITORY = Path(__file__).parents[4]


@pytest.fixture
def host(tmp_path: Path) -> ReleasedHost:
    """A host whose committed release has logged three lines."""
    one = ReleasedHost(tmp_path)
    one.stage("aaa")
    os.symlink("releases/aaa", one.folder.link("current"))
    os.makedirs(one.folder.logs)
    Path(one.folder.logs, "service.log").write_text("INFO: one\nERROR: two\nINFO: three\n")
    return one


def run(host: ReleasedHost, **more: Any) -> dict[str, Any]:
    """The module's result."""
    arguments = {"root": host.root, "services": [SERVICE], "supervisor": "process", **more}
    done = subprocess.run(
        [sys.executable, "-m", "ansible_collections.deployer.sglang.plugins.modules.service_log"],
        input=json.dumps({"ANSIBLE_MODULE_ARGS": arguments}),
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
    )
    return dict(json.loads(done.stdout))


def test_check_mode_reads_as_well(host: ReleasedHost) -> None:
    result = run(host, lines=2, _ansible_check_mode=True)
    assert result["changed"] is False
    (log,) = result["logs"]
    assert [line["text"] for line in log["lines"]] == ["ERROR: two", "INFO: three"]
    assert os.path.exists(result["interpreter"])


def test_lines_are_chosen_by_level_and_read_on_by_cursor(host: ReleasedHost) -> None:
    (log,) = run(host, level="error")["logs"]
    assert [line["text"] for line in log["lines"]] == ["ERROR: two"]
    with open(f"{host.folder.logs}/service.log", "a") as stream:
        stream.write("ERROR: four\n")
    (log,) = run(host, level="error", cursors={SERVICE: log["cursor"]})["logs"]
    assert [line["text"] for line in log["lines"]] == ["ERROR: four"]


def test_a_time_that_is_none_is_refused(host: ReleasedHost) -> None:
    result = run(host, since="soon")
    assert result["failed"]
    assert "'soon' is neither an age such as 10m nor a time" in result["msg"]
