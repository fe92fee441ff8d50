"""A wheel without some of its files is one that pip installs: RECORD names what is in it."""

from __future__ import annotations

import zipfile
from pathlib import Path

from tests.gpu_proof.strip_wheel import strip_wheel


def test_what_is_left_out_is_not_in_record_either(tmp_path: Path) -> None:
    wheel = tmp_path / "a-1-py3-none-any.whl"
    names = ["a/__init__.py", "a/big.so", "a/big,er.so", "a-1.dist-info/METADATA"]
    record = 'a/__init__.py,sha256=x,1\na/big.so,sha256=y,2\n"a/big,er.so",sha256=z,3\na-1.dist-info/RECORD,,\n'
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in names:
            archive.writestr(name, name)
        archive.writestr("a-1.dist-info/RECORD", record)

    left_out = strip_wheel(wheel, tmp_path / "out", ["a/big"])

    assert left_out == ["a/big,er.so", "a/big.so"]
    with zipfile.ZipFile(tmp_path / "out" / wheel.name) as archive:
        assert set(archive.namelist()) == {*names, "a-1.dist-info/RECORD"} - {*left_out}
        assert archive.read("a-1.dist-info/RECORD").decode() == "a/__init__.py,sha256=x,1\na-1.dist-info/RECORD,,\n"
        assert archive.read("a/__init__.py") == b"a/__init__.py"
