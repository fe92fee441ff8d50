from __future__ import annotations

import json
import os
import pwd
import sys
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.environments.facts import (
    RECORD,
    EnvironmentFacts,
    inspect_prefix,
    load_environment,
    record_environment,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from tests.doubles.bundle_files import PYTHON


def prefix_with(folder: Path, packages: dict[str, str]) -> Path:
    site = folder / "lib" / f"python{'.'.join(PYTHON.split('.')[:2])}" / "site-packages"
    for name, version in packages.items():
        info = site / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\nText: none\n")
    (folder / "bin").mkdir(parents=True, exist_ok=True)
    (folder / "bin" / "python").symlink_to(Path(sys.executable).resolve())
    return folder


def test_inspects_an_environment(tmp_path: Path) -> None:
    facts = inspect_prefix(prefix_with(tmp_path / "env", {"Flash_Attn": "2.8.0", "torch": "2.13.0+cpu"}))
    assert facts.prefix == str(tmp_path / "env")
    assert facts.python == PYTHON
    assert facts.packages == {"flash-attn": "2.8.0", "torch": "2.13.0+cpu"}
    assert len(facts.digest) == 64
    assert facts.as_dict()["packages"]["torch"] == "2.13.0+cpu"


def test_digest_is_of_the_packages(tmp_path: Path) -> None:
    one = inspect_prefix(prefix_with(tmp_path / "one", {"a": "1", "b": "2"}))
    same = inspect_prefix(prefix_with(tmp_path / "same", {"b": "2", "a": "1"}))
    other = inspect_prefix(prefix_with(tmp_path / "other", {"a": "1", "b": "3"}))
    assert one.digest == same.digest != other.digest


def test_inspecting_changes_nothing_and_imports_nothing(tmp_path: Path) -> None:
    prefix = prefix_with(tmp_path / "env", {"a": "1"})
    site = next(prefix.glob("lib/*/site-packages"))
    (site / "loud.pth").write_text(f"import pathlib; pathlib.Path({str(tmp_path / 'loud')!r}).touch()\n")
    before = sorted(prefix.rglob("*"))
    inspect_prefix(prefix)
    assert sorted(prefix.rglob("*")) == before
    assert not (tmp_path / "loud").exists()


def test_names_the_prefix_without_python(tmp_path: Path) -> None:
    with pytest.raises(DeployError) as error:
        inspect_prefix(tmp_path)
    assert str(tmp_path) in error.value.problem
    assert "bin/python" in error.value.problem
    assert "conda env list" in error.value.fix


@pytest.mark.parametrize(
    ("script", "problem"),
    [("#!/bin/sh\necho libssl.so.3 is missing >&2; exit 127\n", "exit 127"), ("no program", "does not run")],
)
def test_says_what_a_broken_python_said(tmp_path: Path, script: str, problem: str) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text(script)
    python.chmod(0o755)
    with pytest.raises(DeployError, match=problem) as error:
        inspect_prefix(tmp_path)
    assert problem != "exit 127" or error.value.detail == "libssl.so.3 is missing"


def test_a_record_makes_an_environment_visible(tmp_path: Path) -> None:
    assert load_environment(tmp_path) is None
    assert load_environment(tmp_path / "nowhere") is None
    facts = EnvironmentFacts(str(tmp_path), "3.11.9", {"torch": "2.13.0"}, "d" * 64, "sglang")
    record_environment(facts, "2026-01-01T00:00:00+00:00")
    assert load_environment(tmp_path) == facts
    assert [path.name for path in tmp_path.iterdir()] == [RECORD]
    assert (tmp_path / RECORD).stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("content", ["", "[]", '{"schema": 1}', json.dumps({"schema": 99})])
def test_an_unreadable_record_is_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / RECORD).write_text(content)
    with pytest.raises(DeployError) as error:
        load_environment(tmp_path)
    assert str(tmp_path / RECORD) in error.value.problem


def test_what_others_could_have_put_there_does_not_run_as_root(open_path: Path) -> None:
    python = open_path / "env" / "bin" / "python"
    python.parent.mkdir(parents=True)
    said = open_path / "who"
    said.touch(0o666)
    said.chmod(0o666)
    python.write_text(f"#!/bin/sh\n(id -un; env) > {said}; echo version=3.12.1\n")
    python.chmod(0o755)
    python.parent.chmod(0o777)
    (open_path / "link").symlink_to("env")
    if os.geteuid() == 0:
        os.environ["A_TOKEN"] = "secret"
        try:
            assert inspect_prefix(open_path / "link").python == "3.12.1"
        finally:
            del os.environ["A_TOKEN"]
        assert said.read_text().startswith("nobody") and "secret" not in said.read_text()
        os.chown(python.parent, 1, 1)
        inspect_prefix(open_path / "link")
        assert said.read_text().splitlines()[0] == pwd.getpwuid(1).pw_name


def test_an_interpreter_that_says_too_much_is_ended(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\nexec yes\n")
    python.chmod(0o755)
    with pytest.raises(DeployError, match="is broken"):
        inspect_prefix(tmp_path)


def test_pipes_in_place_of_records_are_passed_over(tmp_path: Path) -> None:
    prefix = prefix_with(tmp_path / "env", {"torch": "2.13.0"})
    (prefix / "conda-meta").mkdir()
    os.mkfifo(prefix / "conda-meta" / "x-1-0.json")
    info = next(prefix.glob("lib/*/site-packages")) / "evil-1.dist-info"
    info.mkdir()
    os.mkfifo(info / "METADATA")
    os.mkfifo(info / "RECORD")
    os.mkfifo(prefix / RECORD)
    assert inspect_prefix(prefix).packages == {"torch": "2.13.0"}
    assert load_environment(prefix) is None
