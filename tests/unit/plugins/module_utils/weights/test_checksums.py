"""SGLang's checksums: what we write is what SGLang's own verifier reads, and what it writes we read."""

from __future__ import annotations

import copy
import json
import os
import sys
import types
import zipfile
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import build_manifest
from ansible_collections.deployer.sglang.plugins.module_utils.weights.checksums import from_checksums, to_sglang

WHEELS = Path.home() / ".cache/sglang-deployer/demo/environments/sglang-cpu/bundle/wheels"
VERIFIER = "sglang/srt/utils/model_file_verifier.py"


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "sub" / "vocab.txt").write_text("ä")
    return folder


@pytest.fixture
def verifier(monkeypatch: pytest.MonkeyPatch) -> Any:
    """SGLang's own module, out of the demo's wheel."""
    wheel = next(WHEELS.glob("sglang-*.whl"), None)
    if wheel is None:
        pytest.skip("needs the inputs of the demo: python -m demo inputs")
    with zipfile.ZipFile(wheel) as archive:
        source = archive.read(VERIFIER)
    module = types.ModuleType("model_file_verifier")
    progress = types.ModuleType("tqdm")
    progress.tqdm = lambda iterable, **_: iterable  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "model_file_verifier", module)
    monkeypatch.setitem(sys.modules, "tqdm", progress)
    exec(compile(source, VERIFIER, "exec"), module.__dict__)
    return module


def test_sglang_verifies_by_what_we_write(model: Path, tmp_path: Path, verifier: Any) -> None:
    checksums = tmp_path / "checksums.json"
    checksums.write_text(json.dumps(to_sglang(build_manifest(str(model)))))
    verifier.verify(model_path=str(model), checksums_source=str(checksums))
    (model / "sub" / "vocab.txt").write_text("ö")
    with pytest.raises(verifier.IntegrityError, match=r"sub/vocab\.txt: mismatch"):
        verifier.verify(model_path=str(model), checksums_source=str(checksums))
    (model / "sub" / "vocab.txt").unlink()
    with pytest.raises(verifier.IntegrityError, match=r"sub/vocab\.txt: missing \(expected size=2\)"):
        verifier.verify(model_path=str(model), checksums_source=str(checksums))


def test_we_read_what_sglang_writes(model: Path, tmp_path: Path, verifier: Any) -> None:
    (model / "sub" / "vocab.txt").unlink()  # it names the files at the top alone
    os.rmdir(model / "sub")
    checksums = tmp_path / "checksums.json"
    verifier.generate_checksums(source=str(model), output_path=str(checksums))
    manifest = build_manifest(str(model))
    assert from_checksums(json.loads(checksums.read_text())) == manifest
    assert json.loads(checksums.read_text()) == to_sglang(manifest)


def test_there_and_back(model: Path) -> None:
    manifest = build_manifest(str(model))
    value = json.loads(json.dumps(to_sglang(manifest)))
    assert from_checksums(value) == manifest
    upper = copy.deepcopy(value)
    for about in upper["files"].values():
        about["sha256"] = about["sha256"].upper()
    upper["files"] = dict(reversed(upper["files"].items()))
    assert from_checksums(upper) == manifest


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        {},
        {"files": []},
        {"checksums": {"a": "0" * 64}},
        {"files": {"a": "0" * 64}},
        {"files": {"a": {"sha256": "0" * 64}}},
        {"files": {"a": {"sha256": "0" * 64, "size": -1}}},
        {"files": {"a": {"sha256": "0" * 64, "size": "1"}}},
        {"files": {"a": {"sha256": "0" * 64, "size": True}}},
        {"files": {"a": {"sha256": "0" * 40, "size": 1}}},
        {"files": {"a": {"sha256": None, "size": 1}}},
        {"files": {"../a": {"sha256": "0" * 64, "size": 1}}},
        {"files": {"a": {"sha256": "0" * 64, "size": 1}, "a/b": {"sha256": "0" * 64, "size": 1}}},
    ],
)
def test_what_is_no_such_file_is_refused(value: Any) -> None:
    with pytest.raises(DeployError) as error:
        from_checksums(value)
    assert error.value.fix
