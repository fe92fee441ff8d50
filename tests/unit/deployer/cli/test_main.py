"""The command line: what is refused before Ansible starts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from deployer.cli import main as cli

RUNNER = CliRunner()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["rollout", "gpu1"], "unexpected"),
        (["rollout", "-i", "nowhere.yml"], "there is no inventory"),
        (["rollout", "--", "-K"], "would wait for an answer"),
        (["status", "--", "--ask-vault-pass"], "would wait for an answer"),
        (["rolout"], "No such command"),
    ],
)
def test_what_cannot_work_is_refused_with_exit_code_2(
    words: list[str], expected: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["deployer", *words])
    result = RUNNER.invoke(cli.app, words)
    assert result.exit_code == 2
    assert expected in " ".join(result.output.replace("│", " ").split())
    assert not (tmp_path / ".deployer").exists()


@pytest.mark.parametrize("verb", ["rollout", "rollback", "status", "bundle", "manifest", "verify"])
def test_every_verb_has_an_example(verb: str) -> None:
    assert f"Example: python -m deployer {verb}" in RUNNER.invoke(cli.app, [verb, "--help"]).output


def test_a_bundle_of_no_lock_says_so(tmp_path: Path) -> None:
    result = RUNNER.invoke(cli.app, ["bundle", str(tmp_path)])
    assert result.exit_code == 2
    assert "conda-linux-64.lock" in result.output
