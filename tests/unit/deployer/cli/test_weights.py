"""The command `manifest`: what it prints and writes, and how it refuses."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from ansible_collections.deployer.sglang.plugins.module_utils.manifest import Manifest, build_manifest
from ansible_collections.deployer.sglang.plugins.module_utils.weights.checksums import from_checksums
from deployer.cli import main as cli

RUNNER = CliRunner()


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "model"
    (folder / "checkpoint-5").mkdir(parents=True)
    for name in ("config.json", "model.safetensors", "x.tmp", "y.tmp", "checkpoint-5/a"):
        (folder / name).write_text(name)
        os.utime(folder / name, ns=(1, 1))
    return folder


def asked(*words: object) -> Result:
    return RUNNER.invoke(cli.app, ["manifest", *map(str, words)])


def test_digest_files_and_what_is_left_out_are_said(model: Path) -> None:
    result = asked(model)
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        f"digest    {build_manifest(str(model)).digest}",
        "files     2, 28 bytes",
        "left out  3 names (*.tmp 2, checkpoint-*)",
    ]
    assert "hashed 28 bytes of 28 bytes" in result.stderr
    assert asked(model).stderr == ""  # known by now


def test_what_is_left_out_is_listed_with_its_rule(model: Path) -> None:
    lines = asked(model, "--left-out", "--exclude", "model.*", "--include", "y.tmp").stdout.splitlines()
    assert lines[1] == "files     2, 16 bytes"
    assert lines[3:] == [
        "checkpoint-5/  checkpoint-*: a checkpoint of the training",
        "model.safetensors  model.*: a rule of yours",
        "x.tmp  *.tmp: not complete, or a lock",
    ]


def test_json_is_the_manifest_and_sglangs_form_is_sglangs(model: Path) -> None:
    wanted = build_manifest(str(model))
    result = asked(model, "--format", "json", "--left-out")
    value = json.loads(result.stdout)
    assert Manifest.from_dict(value) == wanted and value["digest"] == wanted.digest
    assert "checkpoint-5/" in result.stderr
    assert from_checksums(json.loads(asked(model, "--format", "sglang").stdout)) == wanted


def test_it_can_be_written_to_a_file(model: Path, tmp_path: Path) -> None:
    wanted = build_manifest(str(model))
    result = asked(model, "--format", "sglang", "--output", tmp_path / "sums.json")
    assert result.stdout.split()[0] == wanted.digest
    assert from_checksums(json.loads((tmp_path / "sums.json").read_text())) == wanted


def test_a_file_that_would_be_a_part_of_the_model_is_not_written(model: Path, tmp_path: Path) -> None:
    for path in (model / "sums.json", model / ".." / "model" / "sums.json"):
        result = asked(model, "--output", path)
        assert result.exit_code == 2 and "would become a part of the model" in result.stderr
    assert not (model / "sums.json").exists()
    assert asked(model, "--output", model / "manifest.json").exit_code == 0
    assert asked(model, "--output", tmp_path / "nowhere" / "x").exit_code == 2


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["nowhere"], "nowhere is not a folder. Fix: "),
        (["model", "--exclude", "a//b"], "is no pattern for files of a model. Fix: "),
        (["model", "--exclude", "*"], "holds no files but those that are left out (as *). Fix: "),
        (["odd"], "is not allowed in an artifact. Fix: "),
        ([os.fsdecode(b"\xff")], "is not a folder. Fix: "),
    ],
)
def test_what_cannot_be_is_refused_in_a_line_with_the_fix(
    model: Path, words: list[str], expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(model.parent)
    Path("odd").mkdir()
    Path("odd", os.fsdecode(b"\xff")).touch()
    result = asked(*words)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("manifest: ") and expected in line
    assert result.stdout == ""
