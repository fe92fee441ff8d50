"""Weights from elsewhere on the controller: fetched once, and again only for another state."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import manifest as manifest_module
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import build_manifest, list_files
from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import read_model
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.protocol import Progress
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetching import OnProgress
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import EVERYTHING, Rules, model_rules
from ansible_collections.deployer.sglang.plugins.module_utils.weights.sources import Source, parse_source
from ansible_collections.deployer.sglang.plugins.plugin_utils import fetching
from ansible_collections.deployer.sglang.plugins.plugin_utils.fetching import fetched_folder, source_facts_folder
from ansible_collections.deployer.sglang.plugins.plugin_utils.hashes import cached_manifest
from tests.doubles.hub_models import tiny_model
from tests.doubles.hub_server import HubServer

RULES = model_rules(["*.md"])


@pytest.fixture
def model(tmp_path: Path) -> dict[str, bytes]:
    return {**tiny_model(tmp_path / "model"), "README.md": b"a model", ".gitattributes": b"*"}


def fetched(source: Source, rules: Rules = RULES, on_progress: OnProgress = lambda progress: None) -> str:
    """The folder, with nothing from a vault."""
    return fetched_folder(source, rules, on_progress, {})


def test_a_model_is_fetched_once_for_each_commit(hub: HubServer, model: dict[str, bytes], tmp_path: Path) -> None:
    old = hub.add("Org/Tiny", model)
    source = parse_source("hf://Org/Tiny")
    seen: list[Progress] = []
    folder = fetched(source, RULES, seen.append)
    assert folder == str(tmp_path / f"cache/sglang-deployer/weights/Org-Tiny-{old[:12]}")
    assert sorted(os.listdir(folder)) == sorted(set(model) - {"README.md", ".gitattributes"})
    assert seen[-1].files == seen[-1].of == len(model) - 2
    sent = len(hub.requests)
    assert fetched(source) == folder
    assert [request.path for request in hub.requests[sent:]] == ["/api/models/Org/Tiny/revision/main?blobs=true"]
    new = hub.add("Org/Tiny", {**model, "more.json": b"1"})
    assert fetched(source).endswith(new[:12])
    assert list_files(folder)


def test_a_pinned_commit_that_is_there_is_not_asked_for(hub: HubServer, model: dict[str, bytes]) -> None:
    commit = hub.add("Org/Tiny", model)
    source = parse_source(f"hf://Org/Tiny@{commit}")
    folder = fetched(source)
    hub.close()
    assert fetched(source) == folder


def test_what_is_no_longer_whole_is_fetched_again(hub: HubServer, model: dict[str, bytes]) -> None:
    hub.add("Org/Tiny", model, "master")
    source = parse_source("modelscope://Org/Tiny")
    folder = Path(fetched(source))
    (folder / "model.safetensors").write_bytes(b"short")
    (folder / "config.json").unlink()
    sent = hub.bytes_sent("tokenizer.json")
    assert fetched(source) == str(folder)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {
        name: content for name, content in model.items() if name not in ("README.md", ".gitattributes")
    }
    assert hub.bytes_sent("tokenizer.json") == sent


def test_other_files_that_are_left_out_are_fetched_when_they_are_wanted(
    hub: HubServer, model: dict[str, bytes]
) -> None:
    hub.folder = {f"/m/{name}": content for name, content in model.items()}
    source = parse_source(f"{hub.url}/folder/m/")
    folder = fetched(source)
    assert not os.path.exists(os.path.join(folder, "README.md"))
    sent = hub.bytes_sent("model.safetensors")
    assert fetched(source, model_rules(["*.md"], ["README.md"])) == folder
    assert os.path.exists(os.path.join(folder, "README.md"))
    assert hub.bytes_sent("model.safetensors") == sent
    with pytest.raises(DeployError, match="has no files of a model"):
        fetched(source, model_rules(["*"]))


def test_what_was_hashed_on_arrival_is_not_read_again(
    hub: HubServer, model: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("Org/Tiny", model)
    folder = fetched(parse_source("hf://Org/Tiny"))
    expected = build_manifest(folder, RULES)
    read: list[str] = []
    monkeypatch.setattr(manifest_module, "hash_files", lambda files, *rest: read.extend(files))
    assert cached_manifest(folder, RULES) == expected
    assert read == []


def test_variables_of_the_vault_win(hub: HubServer, model: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    hub.add("Org/Tiny", model, token="the vault's")
    monkeypatch.setenv("HF_TOKEN", "old")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    source, variables = parse_source("hf://Org/Tiny"), {"HF_TOKEN": "the vault's", "HF_ENDPOINT": hub.url}
    resolved = fetching.resolve_source(source, variables)
    with source_facts_folder(source, resolved, RULES, variables) as folder:
        assert list_files(folder)
    assert fetched_folder(source, RULES, lambda progress: None, variables)
    assert {request.authorization for request in hub.requests if request.server == "hub"} == {"Bearer the vault's"}


def test_the_folder_can_be_elsewhere(
    hub: HubServer, model: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.add("Org/Tiny", model)
    source = parse_source("hf://Org/Tiny")
    monkeypatch.setenv("SGLANG_DEPLOYER_WEIGHTS", str(tmp_path / "large disk"))
    assert os.path.dirname(fetched(source)) == str(tmp_path / "large disk")
    monkeypatch.setenv("SGLANG_DEPLOYER_WEIGHTS", "/dev/null/nowhere")
    with pytest.raises(DeployError) as caught:
        fetched(source)
    assert "/dev/null" in caught.value.problem
    assert "SGLANG_DEPLOYER_WEIGHTS" in caught.value.fix


def test_two_at_once_fetch_once(hub: HubServer, model: dict[str, bytes]) -> None:
    hub.add("Org/Tiny", model)
    source = parse_source("hf://Org/Tiny")
    folders: list[str] = []
    threads = [threading.Thread(target=lambda: folders.append(fetched(source))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(folders) == 3
    assert len(set(folders)) == 1
    assert hub.bytes_sent("model.safetensors") == len(model["model.safetensors"])


@pytest.mark.parametrize("kind", ["hf", "modelscope", "http"])
def test_facts_take_no_weights(hub: HubServer, model: dict[str, bytes], tmp_path: Path, kind: str) -> None:
    hub.add("Org/Tiny", model)
    hub.add("Org/Tiny", model, "master")
    hub.folder = {f"/m/{name}": content for name, content in model.items()}
    source = parse_source(f"{hub.url}/folder/m/" if kind == "http" else f"{kind}://Org/Tiny")
    resolved = fetching.resolve_source(source, {})
    with source_facts_folder(source, resolved, RULES, {}) as folder:
        facts = read_model("m", list_files(folder))
    assert facts == read_model("m", list_files(str(tmp_path / "model")))
    assert not os.path.exists(folder)
    assert hub.bytes_sent("README.md") == 0
    with source_facts_folder(source, resolved, EVERYTHING, {}) as folder:
        assert sorted(os.listdir(folder)) == sorted(model)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hf://Qwen/Qwen3-14B", "Qwen-Qwen3-14B"),
        ("https://files.example:8443/models/qwen%203/", "files.example-8443-models-qwen-3"),
        ("https://files.example/模型/", "files.example"),
        ("https://files.example/" + "a" * 300 + "/", "a" * 80),
    ],
)
def test_a_folder_is_called_after_the_model(text: str, name: str) -> None:
    assert fetching.readable_name(parse_source(text)) == name
