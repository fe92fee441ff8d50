"""Who uses an environment: releases, and real processes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.discovery.usage import (
    Program,
    Use,
    programs,
    releases,
    shown_process,
    users_of,
)
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store

WAIT = "import sys; print('ready', flush=True); sys.stdin.read()"
# Holds a library of the venv, as torch does, while command and environment say nothing of it.
MAPPED = "import mmap, sys; f = open(sys.argv[1], 'rb'); m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ); "


@pytest.fixture(scope="module")
def venv(tmp_path_factory: pytest.TempPathFactory) -> Path:
    prefix = tmp_path_factory.mktemp("venv") / ".venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", prefix], check=True)
    return prefix


@contextmanager
def running(*argv: str, executable: str, cwd: Path | None = None, **variables: str) -> Iterator[int]:
    with subprocess.Popen(
        argv, executable=executable, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=cwd, env=variables
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.communicate()


def found(pid: int) -> Program:
    return next(one for one in programs() if one.pid == pid)


def test_a_process_of_a_venv_is_known_by_its_command(venv: Path) -> None:
    python = str(venv / "bin/python")
    with running(python, "-c", WAIT, executable=python) as pid:
        assert found(pid).venv == str(venv)
        assert users_of({str(venv.resolve())}, programs()) == {str(venv.resolve()): [pid]}
        shown = shown_process(pid)
        assert shown["pid"] == pid
        assert shown["command"] == python
        assert shown["user"]
    with running(".venv/bin/python", "-c", WAIT, executable=python, cwd=venv.parent) as pid:
        assert found(pid).venv == str(venv)


def test_a_process_of_a_venv_is_known_by_its_environment(venv: Path) -> None:
    with running("renamed", "-c", WAIT, executable=str(venv / "bin/python"), VIRTUAL_ENV=str(venv)) as pid:
        assert found(pid).venv == str(venv)
    other = {"VIRTUAL_ENV": "/nowhere"}
    with running("renamed", "-c", WAIT, executable=str(venv / "bin/python"), **other) as pid:
        assert found(pid).venv == ""


def test_a_process_of_a_venv_is_known_by_the_libraries_that_it_loaded(venv: Path) -> None:
    version = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    library = venv / "lib" / version / "site-packages" / "torch.so"
    library.write_bytes(b"x" * 4096)
    with running("sglang::scheduler", "-c", MAPPED + WAIT, str(library), executable=str(venv / "bin/python")) as pid:
        assert found(pid).venv == str(venv)


def test_a_program_in_a_prefix_belongs_to_the_nearest_one(tmp_path: Path) -> None:
    listed = [
        Program(1, "/opt/conda/bin/python3.11"),
        Program(2, "/opt/conda/envs/a/lib/node"),
        Program(3, "/usr/bin/x"),
    ]
    assert users_of({"/opt/conda", "/opt/conda/envs/a"}, listed) == {"/opt/conda": [1], "/opt/conda/envs/a": [2]}
    assert users_of((), listed) == {}


def test_a_program_that_was_removed_is_known_still(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "cat"
    program.parent.mkdir()
    program.write_bytes(Path("/bin/cat").read_bytes())
    program.chmod(0o755)
    with subprocess.Popen([program], stdin=subprocess.PIPE) as process:
        assert found(process.pid).prefix == str(tmp_path)
        program.unlink()
        assert found(process.pid).path == str(program)
        process.communicate()


def test_an_ended_process_is_no_error() -> None:
    assert shown_process(2**22 + 1) == {"pid": 2**22 + 1, "user": "", "command": ""}
    assert os.getpid() not in [one.pid for one in programs()]


def test_releases_tell_what_services_use_and_go_back_to(tmp_path: Path) -> None:
    folder = Store(str(tmp_path)).service("code2sql")
    for name, path in (("aaa", "/envs/new"), ("bbb", "/envs/old")):
        release = Path(folder.release(name))
        release.mkdir(parents=True)
        (release / "release.json").write_text(json.dumps({"id": name, "environment": {"path": path}}))
    os.symlink("releases/aaa", folder.link("current"))
    os.symlink("releases/bbb", folder.link("previous"))
    os.symlink("releases/gone", folder.link("predecessor"))
    assert releases(str(tmp_path)) == [
        Use("code2sql", "aaa", "current", "/envs/new"),
        Use("code2sql", "bbb", "previous", "/envs/old"),
    ]
    for damage in ("{", "[]", '{"environment": 3}', "\udcff"):
        Path(folder.release("aaa"), "release.json").write_bytes(damage.encode(errors="surrogateescape"))
        assert [use.release for use in releases(str(tmp_path))] == ["bbb"]
    os.unlink(folder.link("previous"))
    Path(folder.link("previous")).touch()
    assert releases(str(tmp_path)) == []
    assert releases(str(tmp_path / "nowhere")) == []
