from __future__ import annotations

import importlib.util
import os
import py_compile
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.environments.bytecode import (
    pack_bytecode,
    share_bytecode,
    unpack_bytecode,
)

TEXT = "VALUE = 1\n"


def package(folder: Path, when: int) -> Path:
    """A package of one module with a time of its own; returns the module."""
    module = folder / "alpha" / "one.py"
    module.parent.mkdir(parents=True)
    module.write_text(TEXT)
    os.utime(module, (when, when))
    return module


def code_of(module: Path) -> Path:
    return Path(importlib.util.cache_from_source(str(module)))


def test_packed_byte_code_serves_sources_of_another_time(tmp_path: Path) -> None:
    built = package(tmp_path / "built", 1_000_000_000)
    (tmp_path / "built" / "six.py").write_text(TEXT)
    py_compile.compile(str(built), doraise=True)
    assert pack_bytecode(tmp_path / "built", tmp_path / "code.zip") == 1
    module = package(tmp_path / "host", 1_700_000_123)
    assert unpack_bytecode(tmp_path / "code.zip", tmp_path / "host") == 1
    # Python takes it as it is: it would write a new one otherwise.
    before = code_of(module).read_bytes()
    command = [sys.executable, "-v", "-c", "import alpha.one; print(alpha.one.VALUE)"]
    done = subprocess.run(command, cwd=tmp_path / "host", capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
    assert f"matches {module}" in done.stderr or f"code object from '{code_of(module)}'" in done.stderr
    assert code_of(module).read_bytes() == before
    assert unpack_bytecode(tmp_path / "code.zip", tmp_path / "host") == 0


def test_the_same_byte_code_is_the_same_archive(tmp_path: Path) -> None:
    for name, when in (("one", 1_000_000_000), ("two", 1_100_000_000)):
        py_compile.compile(str(package(tmp_path / name, when)), dfile="one.py", doraise=True)
        pack_bytecode(tmp_path / name, tmp_path / f"{name}.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()


def test_byte_code_of_another_source_is_left_out(tmp_path: Path) -> None:
    py_compile.compile(str(package(tmp_path / "built", 1_000_000_000)), doraise=True)
    pack_bytecode(tmp_path / "built", tmp_path / "code.zip")
    module = package(tmp_path / "host", 1_000_000_000)
    for text in ("VALUE = 12345\n", "VALUE = 2\n"):  # of another size, and of the same
        module.write_text(text)
        assert unpack_bytecode(tmp_path / "code.zip", tmp_path / "host") == 0
    assert unpack_bytecode(tmp_path / "none.zip", tmp_path / "host") == 0


@pytest.mark.parametrize(
    "name",
    [
        "../__pycache__/one.cpython-311.pyc",
        "/alpha/__pycache__/one.cpython-311.pyc",
        "alpha/one.pyc",
        "one.pyc",
        "alpha/__pycache__/one.py",
        "__pycache__/../alpha/__pycache__/..pyc",
    ],
)
def test_an_archive_leads_nowhere_else(tmp_path: Path, name: str) -> None:
    module = package(tmp_path / "host", 1_000_000_000)
    (tmp_path / "one.py").write_text(TEXT)
    data = bytes(12) + len(TEXT).to_bytes(4, "little") + b"code"
    with zipfile.ZipFile(tmp_path / "code.zip", "w") as archive:
        archive.writestr(name, data)
    assert unpack_bytecode(tmp_path / "code.zip", tmp_path / "host") == 0
    assert not code_of(module).exists()


def test_byte_code_is_shared_where_sources_are(tmp_path: Path) -> None:
    cached = package(tmp_path / "cache" / "archive" / "x", 1_000_000_000)
    module = tmp_path / "env" / "alpha" / "one.py"
    module.parent.mkdir(parents=True)
    os.link(cached, module)
    own = module.with_name("own.py")
    own.write_text(TEXT)
    for path in (module, own):
        py_compile.compile(str(path), doraise=True)
    assert share_bytecode(tmp_path / "env", tmp_path / "cache") == 1
    assert code_of(cached).samefile(code_of(module))
    assert share_bytecode(tmp_path / "env", tmp_path / "cache") == 0
    assert share_bytecode(tmp_path / "env", tmp_path / "nowhere") == 0
