"""Weights that a host fetches: they land in its store, once for each state and rules."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.manifest import build_manifest
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child import attempts
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetched import FetchedModel, fetched_model
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import MODEL, Rules, model_rules
from ansible_collections.deployer.sglang.plugins.module_utils.weights.sources import Source, parse_source
from tests.doubles.hub_models import failure, files_below, serve, tiny_model
from tests.doubles.hub_server import HubServer

LIBRARY = Path(importlib.util.find_spec("huggingface_hub").origin).parents[1]  # type: ignore[union-attr, arg-type]
SYSTEM_PYTHON = "/usr/bin/python3"
NOBODY = 65534


@pytest.fixture
def model(tmp_path: Path) -> dict[str, bytes]:
    return tiny_model(tmp_path / "model")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "root"))


def packages_of(prefix: Path) -> Path:
    """Where an environment has its packages."""
    return prefix / "lib" / f"python3.{sys.version_info[1]}" / "site-packages"


def make_prefix(folder: Path, python: str) -> str:
    """An environment that has what this one has."""
    packages = packages_of(folder)
    packages.mkdir(parents=True)
    (folder / "bin").mkdir()
    (folder / "bin/python").symlink_to(python)
    (folder / "pyvenv.cfg").write_text(f"home = {os.path.dirname(python)}\n")
    (packages / "library.pth").write_text(f"{LIBRARY}\n")
    (packages / "huggingface_hub").symlink_to(LIBRARY / "huggingface_hub")
    return str(folder)


@pytest.fixture
def prefix(tmp_path: Path) -> str:
    return make_prefix(tmp_path / "prefix", os.path.realpath(sys.executable))


def fetched(store: Store, source: Source, rules: Rules = MODEL, *prefixes: str) -> FetchedModel:
    """The model, under the name of tiny."""
    return fetched_model(store, "tiny", source, rules, prefixes, {})


def left_behind(store: Store) -> list[str]:
    """What waits in the store's incoming folder."""
    return os.listdir(os.path.join(store.root, "incoming"))


@pytest.mark.parametrize("kind", ["hf", "http"])
def test_a_fetch_lands_in_the_store_and_is_not_fetched_again(
    hub: HubServer, store: Store, model: dict[str, bytes], tmp_path: Path, prefix: str, kind: str
) -> None:
    source = serve(hub, kind, {**model, "README.md": b"a model", ".gitattributes": b"*"})
    first = fetched(store, source, model_rules(["*.md"]), "/nowhere", prefix)
    assert first.changed
    assert first.manifest == build_manifest(str(tmp_path / "model"))
    assert first.folder == store.model("tiny", first.manifest.digest)
    assert set(files_below(Path(first.folder))) == {*model, "manifest.json"}
    assert all(path.stat().st_mode & 0o444 == 0o444 for path in Path(first.folder).iterdir())
    assert left_behind(store) == []
    sent = hub.bytes_sent("model.safetensors")
    again = fetched(store, source, model_rules(["*.md"]), "/nowhere", prefix)
    assert again == FetchedModel(first.folder, first.manifest, changed=False)
    assert hub.bytes_sent("model.safetensors") == sent


def test_a_pinned_commit_that_is_there_is_not_asked_for(
    hub: HubServer, store: Store, model: dict[str, bytes], prefix: str
) -> None:
    source = parse_source(f"hf://Org/Tiny@{hub.add('Org/Tiny', model)}")
    folder = fetched(store, source, MODEL, prefix).folder
    hub.close()
    assert fetched(store, source, MODEL, prefix).folder == folder


def test_another_commit_is_another_folder(hub: HubServer, store: Store, model: dict[str, bytes], prefix: str) -> None:
    old = fetched(store, serve(hub, "hf", model), MODEL, prefix)
    new = fetched(store, serve(hub, "hf", {**model, "more.json": b"1"}), MODEL, prefix)
    assert new.changed
    assert new.folder != old.folder
    assert os.path.isdir(old.folder)


def test_what_was_lost_is_fetched_again(hub: HubServer, store: Store, model: dict[str, bytes]) -> None:
    source = serve(hub, "http", model)
    first = fetched(store, source)
    os.unlink(os.path.join(first.folder, "model.safetensors"))
    assert fetched(store, source).changed
    assert files_below(Path(first.folder))["model.safetensors"] == model["model.safetensors"]
    shutil.rmtree(first.folder)
    assert fetched(store, source).folder == first.folder
    assert os.path.isdir(first.folder)


def test_a_fetch_that_was_interrupted_is_gone_on_with(hub: HubServer, store: Store, model: dict[str, bytes]) -> None:
    weights = model["model.safetensors"]
    source = serve(hub, "http", model)
    half = len(weights) // 2
    hub.breaks = {"model.safetensors": [half]}
    hub.faults = {"model.safetensors": [0, 0, 0, *[503] * attempts.ATTEMPTS]}  # its size twice, and half of it
    assert "HTTP 503" in failure(lambda: fetched(store, source)).problem
    assert not os.path.exists(store.models)
    assert len(left_behind(store)) == 1
    hub.breaks, hub.faults = {}, {}
    assert fetched(store, source).changed
    assert [request.start for request in hub.requests if "model.safetensors" in request.path][-1] == half
    assert hub.bytes_sent("model.safetensors") == len(weights)
    assert left_behind(store) == []


def test_by_other_rules_it_is_another_model(hub: HubServer, store: Store, model: dict[str, bytes]) -> None:
    source = serve(hub, "http", {**model, "notes.txt": b"1"})
    first = fetched(store, source)
    second = fetched(store, source, model_rules(["*.txt"]))
    assert second.folder != first.folder
    assert not os.path.exists(os.path.join(second.folder, "notes.txt"))
    # Rules that come to the same files: there is nothing to land, and nothing is left behind.
    assert fetched(store, source, model_rules(["notes.*"])).folder == second.folder
    assert left_behind(store) == []


@pytest.mark.parametrize(("lacking", "problem"), [("config.json", "no config.json"), ("model.safetensors", "weights")])
def test_what_is_no_whole_model_is_refused_and_does_not_land(
    hub: HubServer, store: Store, model: dict[str, bytes], lacking: str, problem: str
) -> None:
    source = serve(hub, "http", {path: content for path, content in model.items() if path != lacking})
    assert problem in failure(lambda: fetched(store, source)).problem
    assert not os.path.exists(store.models)
    hub.folder[f"/tiny/{lacking}"] = model[lacking]
    assert fetched(store, source).changed


def test_damaged_weights_are_refused(hub: HubServer, store: Store, model: dict[str, bytes]) -> None:
    source = serve(hub, "http", {**model, "model.safetensors": model["model.safetensors"][:-10]})
    assert "model.safetensors" in failure(lambda: fetched(store, source)).problem
    assert not os.path.exists(store.models)


def test_environments_without_the_library_are_named(hub: HubServer, store: Store, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    packages_of(bare).mkdir(parents=True)
    source = parse_source("hf://Org/Tiny")
    error = failure(lambda: fetched(store, source, MODEL, str(bare), "/nowhere"))
    assert f"({bare}, /nowhere) has the package huggingface_hub" in error.problem
    assert "fetch_on" in error.fix
    assert hub.requests == []
    assert failure(lambda: fetched(store, source)).problem.startswith("no environment of this host has")


def test_variables_reach_the_hub(hub: HubServer, store: Store, model: dict[str, bytes], prefix: str) -> None:
    source = serve(hub, "hf", model, token="the vault's")
    assert "HF_TOKEN" in failure(lambda: fetched(store, source, MODEL, prefix)).fix
    assert fetched_model(store, "tiny", source, MODEL, [prefix], {"HF_TOKEN": "the vault's"}).changed


@pytest.fixture
def prefix_of_nobody() -> Iterator[Path]:
    """An environment of another user, where every user may enter."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        os.chmod(folder, 0o755)
        prefix = Path(make_prefix(Path(folder) / "prefix", SYSTEM_PYTHON))
        for path in (prefix, *prefix.rglob("*")):
            os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
        probe = [f"{prefix}/bin/python", "-I", "-c", "import huggingface_hub"]
        done = subprocess.run(
            probe,
            cwd="/",
            env={"HOME": "/"},
            capture_output=True,
            check=False,
            user=NOBODY,
            group=NOBODY,
            extra_groups=[],
        )
        if done.returncode != 0:
            pytest.skip(f"nobody cannot import huggingface_hub by {SYSTEM_PYTHON}")
        yield prefix


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
@pytest.mark.parametrize("by_ranges", ["", "1"])
def test_an_environment_of_another_user_is_run_as_that_user(
    hub: HubServer, model: dict[str, bytes], prefix_of_nobody: Path, monkeypatch: pytest.MonkeyPatch, by_ranges: str
) -> None:
    closed = prefix_of_nobody.parent / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", None)
    monkeypatch.setenv("TMPDIR", str(closed))
    monkeypatch.setenv("HF_HUB_DISABLE_XET", by_ranges)
    about = prefix_of_nobody / "about"
    about.touch()
    os.chown(about, NOBODY, NOBODY)
    # Python runs such a line as it starts, sometimes twice.
    facts = "os.getuid(), os.getgroups(), *map(os.environ.get, ('HOME', 'TMPDIR')), os.stat(os.environ['HOME']).st_uid"
    line = f"import json, os; print(json.dumps([{facts}]), file=open({str(about)!r}, 'a'))\n"
    (packages_of(prefix_of_nobody) / "about.pth").write_text(line)
    store = Store(str(prefix_of_nobody.parent / "root"))
    found = fetched(store, serve(hub, "hf", model), MODEL, str(prefix_of_nobody))
    assert found.changed
    assert {path.stat().st_uid for path in Path(found.folder).iterdir()} == {0}
    runs = [json.loads(line) for line in about.read_text().splitlines()]
    assert len({home for _, _, home, _, _ in runs}) == 2  # to resolve, and to fetch
    for user, groups, home, temporary, owner in runs:
        assert (user, groups, owner) == (NOBODY, [], NOBODY)
        assert home == temporary
        assert not os.path.exists(home)
