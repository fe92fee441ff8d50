"""`deployer report`: which run, and where the page is."""

from __future__ import annotations

from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from deployer.cli import report
from tests.unit.deployer.report import runs


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    report.add_to(app)
    return app


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path / ".deployer" / "runs"


def test_the_latest_run_is_reported_unless_another_is_named(app: typer.Typer, here: Path) -> None:
    for name, events in (("20261129T023417Z-rollout", runs.refused()), ("20261130T010000Z-rollback", runs.killed())):
        runs.write(here / name, events)
    for words, name in (([], "20261130T010000Z-rollback"), (["20261129"], "20261129T023417Z-rollout")):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
        assert Path(result.stdout.strip()).resolve() == here / name / "report.html"
        assert (here / name / "report.html").is_file()


def test_a_run_that_is_not_there_is_named_with_the_fix(app: typer.Typer) -> None:
    result = CliRunner().invoke(app, ["20200101"])
    assert result.exit_code == 2
    assert "20200101" in result.stderr
    assert "Fix:" in result.stderr


def test_a_report_that_cannot_be_written_says_so(app: typer.Typer, here: Path) -> None:
    folder = runs.write(here / "20261129T023417Z-rollout", runs.refused())
    (folder / "report.html").mkdir()
    result = CliRunner().invoke(app, [])
    assert result.exit_code == 2
    assert "the report of 20261129T023417Z-rollout cannot be written" in result.stderr
    assert "Fix:" in result.stderr
