"""What a plan knows of an environment: from texts, and from a real prefix."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.environments.report import (
    EnvironmentReport,
    read_engines,
    report_prefix,
)

SERVER_ARGS = """
class ServerArgs:
    @staticmethod
    def add_cli_args(parser):
        parser.add_argument("--tensor-parallel-size", "--tp-size", type=int)
"""


@pytest.mark.parametrize(
    "sources", [{}, {"sglang/srt/server_args.py": "def ("}, {"sglang/srt/server_args.py": "x = 1"}]
)
def test_an_engine_whose_source_cannot_be_read_has_no_table(sources: dict[str, str]) -> None:
    assert read_engines({"sglang": sources}, {"sglang": "0.5.23"}) == {"options": {}, "templates": {}}


def test_an_engine_that_is_not_installed_has_no_table() -> None:
    sources = {"sglang": {"sglang/srt/server_args.py": SERVER_ARGS}}
    assert read_engines(sources, {})["options"] == {}
    assert list(read_engines(sources, {"sglang": "0.5.23"})["options"]) == ["sglang"]


@pytest.fixture(scope="module")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A venv with packages that say what real ones would."""
    folder = tmp_path_factory.mktemp("environments") / "sglang"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    (site,) = folder.glob("lib/python3*/site-packages")
    for name, version, tags in (
        ("sglang", "0.5.23", ["py3-none-any"]),
        ("Torch", "2.9.1+cu128", ["cp311-cp311-manylinux_2_28_x86_64"]),
        ("sgl_kernel", "0.3.0", ["cp310-abi3-manylinux2014_x86_64", "cp310-abi3-manylinux_2_17_x86_64"]),
        ("broken", "1", None),
    ):
        info = site / f"{name}-{version}.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        if tags is not None:
            (info / "WHEEL").write_text("Wheel-Version: 1.0\n" + "".join(f"Tag: {tag}\n" for tag in tags))
    source = site / "sglang" / "srt" / "server_args.py"
    source.parent.mkdir(parents=True)
    source.write_text(SERVER_ARGS)
    (site / "sglang" / "__init__.py").write_text("raise SystemExit('nothing of an environment is imported')\n")
    return folder


def test_a_real_prefix_is_reported_without_importing_anything_of_it(prefix: Path) -> None:
    report = report_prefix("sglang", str(prefix), ["sglang", "llamafactory"])
    assert (report.name, report.path, report.problem) == ("sglang", str(prefix), ("", ""))
    assert report.versions == {"broken": "1", "sgl-kernel": "0.3.0", "sglang": "0.5.23", "torch": "2.9.1+cu128"}
    assert (report.glibc, report.cuda) == ("2.28", "12.8")
    assert len(report.digest) == 64
    assert list(report.options) == ["sglang"]
    assert report.options["sglang"].problem("tp_size", "two") == "wants a whole number, got 'two'"


def test_a_report_survives_json(prefix: Path) -> None:
    report = report_prefix("sglang", str(prefix), ["sglang"])
    assert EnvironmentReport.from_dict(json.loads(json.dumps(report.as_dict()))) == report
    missing = EnvironmentReport("x", problem=("is gone", "bring it back"))
    assert EnvironmentReport.from_dict(json.loads(json.dumps(missing.as_dict()))) == missing


@pytest.mark.parametrize("content", [None, "", "#!/bin/sh\nexit 3\n"])
def test_a_prefix_that_is_none_has_a_problem_and_a_fix(tmp_path: Path, content: str | None) -> None:
    if content is not None:
        (tmp_path / "bin").mkdir()
        (tmp_path / "bin" / "python").write_text(content)
        (tmp_path / "bin" / "python").chmod(0o755)
    report = report_prefix("sglang", str(tmp_path), ["sglang"])
    assert all(report.problem)
    assert str(tmp_path) in report.problem[0]
    assert (report.versions, report.options) == ({}, {})
