from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.environments import proof
from ansible_collections.deployer.sglang.plugins.module_utils.environments.proof import prove
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError


def prefix_that(folder: Path, script: str) -> Path:
    """A prefix whose python is a script; open to every user, as a build leaves it."""
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    for parent in (folder, *list(folder.parents)[:3]):
        parent.chmod(0o755)
    return folder


def test_imports_what_each_engine_there_is_started_from(tmp_path: Path) -> None:
    prefix = prefix_that(tmp_path / "env", 'case "$3" in *sglang.srt*) exit 0;; *) exit 3;; esac')
    assert prove(prefix, {"sglang": "0.5.23"}) == {}
    assert prove(prefix, {"numpy": "2.0"}) == {}
    with pytest.raises(DeployError, match="llamafactory cannot be imported"):
        prove(prefix, {"llamafactory": "0.9.5"})


def test_a_failing_import_says_what_python_said(tmp_path: Path) -> None:
    said = "echo 'ImportError: libnuma.so.1: cannot open shared object file' >&2; exit 1"
    with pytest.raises(DeployError) as error:
        prove(prefix_that(tmp_path / "env", said), {"sglang": "0.5.23"})
    assert "libnuma.so.1" in error.value.problem
    assert "install a missing library on the host" in error.value.fix


def test_asks_the_engine_itself_where_there_are_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = tmp_path / "nvidiactl"
    device.touch()
    monkeypatch.setattr(proof, "NVIDIA_DEVICE", str(device))
    check = 'if [ "$3" = sglang.check_env ]; then echo "CUDA available: {}"; fi'
    good = prefix_that(tmp_path / "good", check.format(True))
    assert prove(good, {"sglang": "0.5.23"}) == {"sglang": "CUDA available: True"}
    with pytest.raises(DeployError, match="does not see the GPUs"):
        prove(prefix_that(tmp_path / "blind", check.format(False)), {"sglang": "0.5.23"})
    broken = prefix_that(tmp_path / "broken", 'if [ "$2" = -m ]; then echo "RuntimeError: no driver" >&2; exit 1; fi')
    with pytest.raises(DeployError, match="RuntimeError: no driver"):
        prove(broken, {"sglang": "0.5.23"})


def test_runs_without_rights(open_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    device = open_path / "nvidiactl"
    device.touch()
    monkeypatch.setattr(proof, "NVIDIA_DEVICE", str(device))
    prefix = prefix_that(open_path / "env", 'if [ "$2" = -m ]; then id -un; test -w "$HOME" && test -w .; fi')
    said = prove(prefix, {"sglang": "0.5.23"})["sglang"]
    assert said == "nobody" or proof.os.geteuid() != 0


def test_where_nobody_may_pass_it_runs_as_who_builds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prefix = prefix_that(tmp_path / "private" / "env", "exit 0")
    prefix.parent.chmod(0o700)
    assert prove(prefix, {"sglang": "0.5.23"}) == {}
