"""Model folders: what no engine could load is refused at its source, what was changed on a host is found."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import build_manifest, list_files
from ansible_collections.deployer.sglang.plugins.module_utils.weights.models import (
    MANIFEST_FILE,
    check_source,
    manifest_record,
    missing_from_model,
)


def safetensors(size: int = 4) -> bytes:
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    return struct.pack("<Q", len(header)) + header + b"\0" * size


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(safetensors())
    return folder


def check(folder: Path) -> None:
    check_source(list_files(str(folder)), str(folder))


def test_a_whole_model_is_accepted(model: Path) -> None:
    check(model)


def test_missing_parts_are_named(model: Path) -> None:
    index = {"weight_map": {"w": "model-00001-of-00002.safetensors"}}
    (model / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(DeployError, match=r"model-00001-of-00002\.safetensors is missing"):
        check(model)
    (model / "model.safetensors.index.json").unlink()
    (model / "model.safetensors").unlink()
    with pytest.raises(DeployError, match="holds no weights"):
        check(model)
    (model / "config.json").rename(model / "other.json")
    with pytest.raises(DeployError, match=r"has no config\.json"):
        check(model)


@given(st.integers(min_value=0, max_value=len(safetensors()) - 1))
def test_a_truncated_safetensors_is_refused(length: int) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text("{}")
        (Path(folder) / "model.safetensors").write_bytes(safetensors()[:length])
        with pytest.raises(DeployError, match="safetensors"):
            check(Path(folder))


def test_a_file_changed_on_the_host_is_found(model: Path) -> None:
    manifest = build_manifest(str(model))
    (model / MANIFEST_FILE).write_text(manifest_record(manifest, str(model)))
    assert missing_from_model(str(model), manifest).files == ()
    data = bytearray((model / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (model / "model.safetensors").write_bytes(bytes(data))
    with pytest.raises(DeployError, match=r"model\.safetensors was changed after it was verified"):
        missing_from_model(str(model), manifest)
    (model / "model.safetensors").unlink()
    assert [entry.path for entry in missing_from_model(str(model), manifest).files] == ["model.safetensors"]
