"""What a plan knows of the models, by where they are."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import list_files, listing_digest
from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import ModelFacts, read_model
from ansible_collections.deployer.sglang.plugins.module_utils.plan.model import ModelUnseen
from ansible_collections.deployer.sglang.plugins.module_utils.service import Model
from ansible_collections.deployer.sglang.plugins.plugin_utils.hashes import cached_manifest
from ansible_collections.deployer.sglang.plugins.plugin_utils.planned_models import PlannedModel, planned_models
from tests.doubles.hub_models import serve, tiny_model
from tests.doubles.hub_server import HubServer


@pytest.fixture
def model(tmp_path: Path, hub: HubServer) -> dict[str, bytes]:
    """A model, which is in the folder `model` as well."""
    return tiny_model(tmp_path / "model")


@pytest.fixture
def next_run(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Called between two plans, it makes the second another run of Ansible: a child of another process."""
    parents = itertools.count(10**6)

    def begin() -> None:
        parent = next(parents)
        monkeypatch.setattr(os, "getppid", lambda: parent)

    return begin


def planned(
    model: Model,
    described: Mapping[str, Any] | None = None,
    variables: Mapping[str, str] | None = None,
    folder: str | None = None,
) -> PlannedModel:
    """What is known of one model."""
    given = {} if described is None else {model.source: described}
    return planned_models([model], given, folder, variables or {})[model.source]


def listing_of(folder: Path) -> str:
    """What names the files of a folder."""
    return listing_digest((name, os.path.getsize(real)) for name, real in list_files(str(folder)).items())


def facts_of(folder: Path, source: str) -> ModelFacts:
    """What there is to know of a folder."""
    return read_model(source, list_files(str(folder)))


def test_a_folder_of_the_controller_is_read(model: dict[str, bytes], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "trainer_state.json").write_text("{}")  # not the model
    for path in folder.iterdir():
        os.utime(path, ns=(1, 1))  # the hash of a file that was written just now is not kept
    first = planned(Model("m", "model"), folder=str(tmp_path))
    (folder / "trainer_state.json").unlink()
    assert first == PlannedModel(facts_of(folder, str(folder)), listing_of(folder))
    digest = cached_manifest(str(folder)).digest
    assert planned(Model("m", str(folder))).digest == digest


def test_rules_of_a_model_count(model: dict[str, bytes], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    whole = planned(Model("m", str(folder)))
    (folder / "notes.txt").write_text("1")
    assert planned(Model("m", str(folder))).listing != whole.listing
    assert planned(Model("m", str(folder), exclude=("*.txt",))).listing == whole.listing


@pytest.mark.parametrize("source", ["gpu-1:/data/m", "hosts:/data/m"])
def test_a_host_that_has_it_describes_it(model: dict[str, bytes], tmp_path: Path, source: str) -> None:
    facts = facts_of(tmp_path / "model", "/data/m")
    in_place = "/data/m" if source.startswith("hosts:") else ""
    found = planned(Model("m", source), {"facts": facts.as_dict(), "listing": "l"})
    assert found == PlannedModel(facts, "l", in_place=in_place)
    unseen = planned(Model("m", source))
    assert isinstance(unseen.facts, ModelUnseen)
    assert unseen.facts.problem == f"{source} was not looked at"
    assert unseen.in_place == in_place
    odd = planned(Model("m", source), {"facts": {"path": 1}, "listing": "l"})
    assert isinstance(odd.facts, DeployError)
    assert not isinstance(odd.facts, ModelUnseen)
    assert "cannot be read" in odd.facts.problem
    assert odd.in_place == in_place


@pytest.mark.parametrize("kind", ["hf", "modelscope", "http"])
def test_a_source_is_asked_without_its_weights(
    hub: HubServer, model: dict[str, bytes], tmp_path: Path, kind: str
) -> None:
    source = serve(hub, kind, {**model, "README.md": b"a model", "big.bin": bytes(2**21), "optimizer.pt": b"state"})
    used = Model("m", source.text, exclude=("*.bin",))
    found = planned(used)
    (tmp_path / "model/README.md").write_bytes(b"a model")
    assert found == PlannedModel(facts_of(tmp_path / "model", source.text), listing_of(tmp_path / "model"))
    assert hub.bytes_sent("optimizer.pt") == hub.bytes_sent("big.bin") == 0
    asked = len(hub.requests)
    assert planned(used) == found
    assert len(hub.requests) == asked  # another process of the same run


def test_another_plan_of_the_same_commit_reads_no_headers_again(
    hub: HubServer, model: dict[str, bytes], next_run: Callable[[], None]
) -> None:
    source = serve(hub, "hf", model)
    next_run()
    first = planned(Model("m", source.text))
    asked = len(hub.requests)
    next_run()
    assert planned(Model("m", source.text)) == first
    assert [one.path for one in hub.requests[asked:]] == ["/api/models/Org/Tiny/revision/main?blobs=true"]
    next_run()
    assert planned(Model("m", source.text, exclude=("generation_config.json",))).listing != first.listing
    serve(hub, "hf", {**model, "more.json": b"1"})
    next_run()
    assert planned(Model("m", source.text)).listing not in ("", first.listing)


def test_variables_of_the_vault_are_used(
    hub: HubServer, model: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = serve(hub, "hf", model, token="the vault's")
    monkeypatch.setenv("HF_TOKEN", "old")
    refused = planned(Model("m", source.text)).facts
    assert isinstance(refused, DeployError)
    assert "HF_TOKEN" in refused.fix
    assert isinstance(planned(Model("m", source.text), variables={"HF_TOKEN": "the vault's"}).facts, ModelFacts)


@pytest.mark.parametrize("fetch_on", ["", "gpu-1"])
def test_a_hub_that_cannot_be_reached(hub: HubServer, fetch_on: str) -> None:
    hub.close()
    found = planned(Model("m", "hf://Org/Tiny", fetch_on=fetch_on))
    assert isinstance(found.facts, DeployError)
    assert isinstance(found.facts, ModelUnseen) == bool(fetch_on)
    assert "cannot be reached" in found.facts.problem
    assert ("hf://Org/Tiny cannot be asked from here" in found.facts.problem) == bool(fetch_on)
    assert "HTTPS_PROXY" in found.facts.fix
    assert found.listing == found.digest == found.in_place == ""


def test_errors_are_those_of_one_model(hub: HubServer, model: dict[str, bytes], tmp_path: Path) -> None:
    serve(hub, "hf", {"README.md": b"no model"})
    used = [Model("m", text) for text in ("hf://Org/Tiny", "hf://Org/Missing", "nowhere", "model")]
    found = planned_models(used, {}, str(tmp_path), {})
    problems = [one.facts.problem if isinstance(one.facts, DeployError) else "" for one in found.values()]
    assert list(found) == [one.source for one in used]
    assert "has no config.json" in problems[0]
    assert "there is no model Org/Missing" in problems[1]
    assert f"{tmp_path}/nowhere is not a folder" in problems[2]
    assert problems[3] == ""
