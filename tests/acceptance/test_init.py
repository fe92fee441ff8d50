"""`init` from the installed wheel, in an empty folder: what it writes can be planned from there."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.acceptance.test_wheel import installed

__all__ = ["installed"]


@pytest.fixture
def empty(tmp_path: Path) -> Path:
    """A folder with nothing in it."""
    folder = tmp_path / "empty"
    folder.mkdir()
    return folder


def test_this_machine_becomes_an_inventory_with_all_that_it_needs_beside_it(installed: Path, empty: Path) -> None:
    done = subprocess.run(
        [str(installed / "deployer"), "init", "localhost", "--no-plan", "--json"],
        cwd=empty,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    print(done.stdout, done.stderr)
    value = json.loads(done.stdout)
    assert done.returncode == value["exit_code"]
    assert value["hosts"]["localhost"]["seen"]
    there = sorted(str(path.relative_to(empty / "fleet")) for path in (empty / "fleet").rglob("*") if path.is_file())
    assert there == value["files"]
    variables = yaml.safe_load((empty / "fleet" / "group_vars" / "gpu-nodes.yml").read_text())
    assert variables["inference_services"]
    for one in variables["inference_environments"].values():
        if "lock" in one:  # it depends on the machine
            assert (empty / "fleet" / one["lock"] / "conda-linux-64.lock").is_file()
    lists = [str(installed / "ansible-inventory"), "-i", "fleet/hosts.yml", "--list"]
    listed = json.loads(subprocess.run(lists, cwd=empty, capture_output=True, text=True, check=True).stdout)
    assert listed["_meta"]["hostvars"]["localhost"]["inference_services"] == variables["inference_services"]


def test_the_locks_and_the_example_come_with_the_wheel(installed: Path) -> None:
    (shipped,) = installed.parent.glob("lib/python*/site-packages/deployer/shipped")
    for name in ("environments/sglang", "environments/llamafactory"):
        assert {"conda-linux-64.lock", "requirements.lock", "environment.yml"} == {
            path.name for path in (shipped / name).iterdir()
        }
    assert (shipped / "inventory" / "group_vars" / "gpu-nodes.yml").is_file()
