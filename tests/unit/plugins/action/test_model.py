"""The controller's part of the module `model`: what the module is told of each model."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.action.model import described
from ansible_collections.deployer.sglang.plugins.action.model_source import secrets_apart
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.plugin_utils.manifests import recall_manifest, remember_manifest
from ansible_collections.deployer.sglang.plugins.plugin_utils.weights_here import weights_here
from demo.make_tiny_model import make_tiny_model

pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    make_tiny_model(tmp_path / "tiny")
    return tmp_path / "tiny"


def model(source: str, **changes: Any) -> dict[str, Any]:
    return {"name": "m", "source": source, "exclude": [], "include": [], "fetch_on": "", **changes}


def test_a_folder_beside_the_inventory_is_hashed_by_its_rules(folder: Path) -> None:
    (folder / "notes.txt").write_text("not for hosts")
    here = weights_here(model("tiny", exclude=["notes.*"]), str(folder.parent), {})
    assert here.folder == str(folder)
    assert "notes.txt" not in here.files and "config.json" in here.files
    told = described(model("tiny"), here, None, "rsync")
    assert told["manifest"] == here.manifest.as_dict()


def test_a_model_that_no_engine_could_load_is_named(folder: Path) -> None:
    shard = next(folder.glob("*.safetensors"))
    os.truncate(shard, shard.stat().st_size - 1)
    with pytest.raises(DeployError, match=shard.name):
        weights_here(model(str(folder)), None, {})


def test_a_path_on_every_host_is_left_to_the_host() -> None:
    assert described(model("hosts:/nfs/m"), None, None, "rsync")["folder"] == "/nfs/m"


def test_a_model_on_another_host_is_told_by_its_digest_and_needs_the_relay(folder: Path) -> None:
    here = weights_here(model(str(folder)), None, {})
    remember_manifest(here.manifest)
    there = {"digest": here.manifest.digest}
    told = described(model("gpu1:/saves/m"), None, there, "relay")
    assert told["manifest"] == here.manifest.as_dict()
    with pytest.raises(DeployError, match="model_transport: rsync cannot read gpu1:/saves/m"):
        described(model("gpu1:/saves/m"), None, there, "rsync")


def test_a_model_on_another_host_that_was_not_looked_at_is_refused() -> None:
    with pytest.raises(DeployError, match="was not looked at"):
        described(model("gpu1:/saves/m"), None, None, "relay")


def test_a_manifest_that_was_not_kept_or_was_damaged_is_no_manifest(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(DeployError, match="not a manifest"):
        recall_manifest("0" * 64)
    manifest = weights_here(model(str(folder)), None, {}).manifest
    remember_manifest(manifest)
    (kept,) = (tmp_path / "cache" / "sglang-deployer" / "manifests").glob("*.json")
    kept.write_text(kept.read_text().replace(manifest.files[0].sha256, "f" * 64))
    with pytest.raises(DeployError, match="is damaged"):
        recall_manifest(manifest.digest)


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        ("HF_TOKEN", "x", True),
        ("DEPLOYER_HTTP_AUTHORIZATION", "Bearer x", True),
        ("HTTPS_PROXY", "http://me:secret@proxy:3128", True),
        ("HTTPS_PROXY", "http://proxy:3128", False),
        ("HF_HUB_DISABLE_XET", "1", False),
    ],
)
def test_only_secrets_are_hidden_from_results(name: str, value: str, secret: bool) -> None:
    told = secrets_apart({"variables": {name: value}, "source": "hf://a/b"})
    assert told["secrets"] == ({name: value} if secret else {})
    assert told["variables"] == ({} if secret else {name: value})
    assert told["source"] == "hf://a/b"
