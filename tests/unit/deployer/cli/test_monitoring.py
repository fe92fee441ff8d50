"""`deployer monitoring`: what it says, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from deployer.api import Deployer
from deployer.cli import main as cli
from deployer.runs.results import HostResult, Summary
from tests.unit.deployer.monitoring.test_targets import SCRAPED, SILENT

RUNNER = CliRunner()
GPU1 = HostResult("gpu1", services=(SCRAPED | {"state": "serving"}, SILENT | {"state": "serving"}))
LOST = HostResult("gpu2", unreachable=True, failure="Failed to connect to the host via ssh: Connection timed out")


@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> list[HostResult]:
    """What hosts tell, to be filled by the test."""
    told: list[HostResult] = []

    def ask(self: Deployer, playbook: str, *_: Any) -> tuple[Summary, str]:
        assert playbook == "status"
        return Summary({host.host: host for host in told}), ""

    monkeypatch.setattr(Deployer, "_ask", ask)
    return told


def run(folder: Path, *words: str) -> tuple[int, str]:
    done = RUNNER.invoke(cli.app, ["monitoring", "--into", str(folder), *words])
    return done.exit_code, done.output


def test_it_says_what_was_written_what_is_scraped_and_what_is_not(hosts: list[HostResult], tmp_path: Path) -> None:
    hosts.append(GPU1)
    code, said = run(tmp_path)
    assert code == 0
    assert said.count("written ") == 3 and "1 target\n  gpu1 code2sql: 10.0.0.5:8001\n" in said
    assert "no metrics gpu1 old: it has no metrics" in said
    assert run(tmp_path)[1].count("unchanged ") == 3


def test_in_check_mode_it_says_what_it_would_write(hosts: list[HostResult], tmp_path: Path) -> None:
    hosts.append(GPU1)
    code, said = run(tmp_path / "new", "--check")
    assert code == 0 and said.count("would write") == 3
    assert not (tmp_path / "new").exists()


def test_a_host_that_does_not_answer_keeps_its_targets_and_is_named(hosts: list[HostResult], tmp_path: Path) -> None:
    hosts.append(HostResult("gpu2", services=GPU1.services))
    run(tmp_path)
    hosts[:] = [GPU1, LOST]
    code, said = run(tmp_path)
    assert code == 2
    assert "2 targets" in said and "nothing was told of it now" in said
    assert "gpu2: " in said


def test_an_edited_file_is_named_and_is_exit_code_1(hosts: list[HostResult], tmp_path: Path) -> None:
    hosts.append(GPU1)
    run(tmp_path)
    (tmp_path / "rules" / "sglang.yml").write_text("groups: []\n")
    code, said = run(tmp_path)
    assert code == 1 and "rules/sglang.yml: somebody changed it, and it stays so" in said


def test_only_one_service_leaves_the_targets_of_the_others(hosts: list[HostResult], tmp_path: Path) -> None:
    other = SCRAPED | {"state": "serving", "service": "other"}
    hosts.append(HostResult("gpu1", services=(*GPU1.services, other)))
    run(tmp_path)
    code, said = run(tmp_path, "--service", "code2sql", "--json")
    value = json.loads(said)
    assert code == value["exit_code"] == 0
    assert [one["labels"]["service"] for one in value["targets"]] == ["code2sql", "other"]
    assert [one["labels"]["service"] for one in value["kept"]] == ["other"]
    assert {one["state"] for one in value["files"]} == {"unchanged"}
