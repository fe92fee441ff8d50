"""The program that fetches, run as it is run on hosts, with the real libraries against doubles of the hubs."""

from __future__ import annotations

import contextlib
import hashlib
import json
import struct
import subprocess
import sys
import venv
from collections.abc import Callable
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import list_files
from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import read_model
from ansible_collections.deployer.sglang.plugins.module_utils.weights import fetching
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.protocol import Listing, Progress
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.skeleton import FIRST_READ
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_program import program
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetching import Runner
from ansible_collections.deployer.sglang.plugins.module_utils.weights.sources import Source, parse_source
from demo.make_tiny_model import make_tiny_model
from tests.doubles.hub_models import MIB, RUNNER, failure, files_below, safetensors, serve
from tests.doubles.hub_server import HubServer

TOKEN = "hf_ThisIsNoRealToken"
HUBS = ("hf", "modelscope")
ALL = (*HUBS, "http")


@pytest.mark.parametrize("kind", ALL)
def test_a_model_is_resolved_and_fetched(hub: HubServer, model: dict[str, bytes], tmp_path: Path, kind: str) -> None:
    source = serve(hub, kind, model)
    resolved = fetching.resolve(RUNNER, source)
    assert [(file.path, file.size) for file in resolved.files] == sorted((p, len(c)) for p, c in model.items())
    assert len(resolved.commit) == 40
    if kind == "hf":
        assert resolved.commit == hub.repositories["Org/Tiny"].revisions["main"]
    weights = hashlib.sha256(model["model.safetensors"]).hexdigest()
    assert {f.sha256 for f in resolved.files if f.path == "model.safetensors"} == {"" if kind == "http" else weights}
    seen: list[Progress] = []
    wanted = sorted(set(model) - {".gitattributes"})
    fetched = fetching.fetch(RUNNER, source, str(tmp_path / "m"), resolved.commit, wanted, seen.append)
    assert files_below(tmp_path / "m") == {path: model[path] for path in wanted}
    assert {f.path: f.sha256 for f in fetched.files} == {p: hashlib.sha256(model[p]).hexdigest() for p in wanted}
    assert seen[0].files == 0
    assert seen[-1] == Progress(fetched.size, fetched.size, len(wanted), len(wanted))


@pytest.mark.parametrize("kind", ALL)
def test_a_skeleton_says_the_same_as_the_model(hub: HubServer, tmp_path: Path, kind: str) -> None:
    make_tiny_model(tmp_path / "whole")
    (tmp_path / "whole/model.safetensors").rename(tmp_path / "whole/model-00001-of-00002.safetensors")
    (tmp_path / "whole/model-00002-of-00002.safetensors").write_bytes(safetensors(6 * MIB))
    weight_map = {"w": "model-00002-of-00002.safetensors", "x": "model-00001-of-00002.safetensors"}
    index = json.dumps({"weight_map": weight_map, "metadata": {"padding": "x" * 2 * MIB}})
    (tmp_path / "whole/model.safetensors.index.json").write_text(index)
    (tmp_path / "whole/tokenizer.model").write_bytes(b"t" * 3 * MIB)
    source = serve(hub, kind, files_below(tmp_path / "whole"))
    skeleton = tmp_path / "skeleton"
    skeleton.mkdir()
    resolved = fetching.write_skeleton(RUNNER, source, str(skeleton))
    facts = read_model("m", list_files(str(skeleton)))
    assert facts == read_model("m", list_files(str(tmp_path / "whole")))
    assert facts.problems == ()
    assert resolved.size == facts.size
    assert hub.bytes_sent("model-00002") == FIRST_READ
    assert hub.bytes_sent("tokenizer.model") == 0
    assert sum(path.stat().st_blocks * 512 for path in skeleton.iterdir()) < 4 * MIB


def test_a_long_header_takes_another_read(hub: HubServer, tmp_path: Path) -> None:
    tensors = {f"layers.{n}.w": {"dtype": "U8", "shape": [1], "data_offsets": [n, n + 1]} for n in range(9000)}
    header = json.dumps(tensors).encode()
    assert len(header) > FIRST_READ
    whole = struct.pack("<Q", len(header)) + header + bytes(9000) + bytes(2 * MIB)
    source = serve(hub, "hf", {"model.safetensors": whole, "damaged.safetensors": b"\xff" * 2 * MIB})
    fetching.write_skeleton(RUNNER, source, str(tmp_path))
    assert (tmp_path / "model.safetensors").read_bytes()[: len(header) + 8] == whole[: len(header) + 8]
    assert (tmp_path / "damaged.safetensors").stat().st_size == 2 * MIB


@pytest.mark.parametrize("kind", HUBS)
def test_files_are_those_of_the_commit_that_was_resolved(hub: HubServer, tmp_path: Path, kind: str) -> None:
    source = serve(hub, kind, {"config.json": b"old"})
    old = fetching.resolve(RUNNER, source)
    serve(hub, kind, {"config.json": b"new", "more.json": b"1"})
    assert fetching.resolve(RUNNER, source).commit != old.commit
    if kind == "hf":
        fetching.fetch(RUNNER, source, str(tmp_path), old.commit)
        assert files_below(tmp_path) == {"config.json": b"old"}
    else:  # whose older commits cannot be asked for by every version of its library
        error = failure(lambda: fetching.fetch(RUNNER, source, str(tmp_path), old.commit))
        assert "changed since it was looked at" in error.problem


def test_a_web_folder_that_changes_is_another_commit(hub: HubServer, tmp_path: Path) -> None:
    source = serve(hub, "http", {"config.json": b"old"})
    old = fetching.resolve(RUNNER, source)
    assert fetching.resolve(RUNNER, source) == old
    serve(hub, "http", {"config.json": b"new"})
    assert fetching.resolve(RUNNER, source).commit != old.commit
    assert "changed" in failure(lambda: fetching.fetch(RUNNER, source, str(tmp_path), old.commit)).problem


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("xet", ["", "1"])
def test_a_broken_connection_is_gone_on_with(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, xet: str
) -> None:
    # huggingface_hub writes blocks of 10 MiB: what it had of the third is asked for again.
    monkeypatch.setenv("HF_HUB_DISABLE_XET", xet)
    weights = safetensors(24 * MIB)
    source = serve(hub, kind, {"model.safetensors": weights, "config.json": b"{}"})
    hub.breaks = {"model.safetensors": [22 * MIB]}
    fetching.fetch(RUNNER, source, str(tmp_path))
    assert (tmp_path / "model.safetensors").read_bytes() == weights
    assert hub.bytes_sent("model.safetensors") <= 27 * MIB
    assert max(request.start for request in hub.requests) >= 20 * MIB


class Enough(Exception):
    """The caller goes away."""


def kill_at(size: int, source: Source, folder: Path) -> None:
    """Fetch, and leave as soon as so many bytes are there."""

    def leave(progress: Progress) -> None:
        if progress.bytes >= size:
            raise Enough

    with pytest.raises(Enough):
        fetching.fetch(RUNNER, source, str(folder), on_progress=leave)


@pytest.mark.parametrize("kind", ALL)
def test_a_fetch_that_was_killed_is_gone_on_with(
    hub: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    weights = safetensors(24 * MIB)
    source = serve(hub, kind, {"model.safetensors": weights, "config.json": b"{}"})
    hub.stalls = {"model.safetensors": 22 * MIB}
    kill_at(21 * MIB, source, tmp_path / "m")
    hub.stalls = {}
    fetching.fetch(RUNNER, source, str(tmp_path / "m"))
    assert files_below(tmp_path / "m") == {"model.safetensors": weights, "config.json": b"{}"}
    assert hub.bytes_sent("model.safetensors") <= 26 * MIB


def test_the_librarys_fetch_that_was_killed_keeps_whole_files_and_no_other(hub: HubServer, tmp_path: Path) -> None:
    first, second = safetensors(2 * MIB), safetensors(24 * MIB)
    source = serve(hub, "hf", {"1.safetensors": first, "2.safetensors": second})
    hub.stalls = {"2.safetensors": 22 * MIB}
    kill_at(22 * MIB, source, tmp_path / "m")
    assert len(list((tmp_path / "m").rglob("*.incomplete"))) == 1
    sizes: list[int] = []
    hub.stalls = {}
    fetching.fetch(RUNNER, source, str(tmp_path / "m"), on_progress=lambda progress: sizes.append(progress.bytes))
    assert files_below(tmp_path / "m") == {"1.safetensors": first, "2.safetensors": second}
    assert hub.bytes_sent("1.safetensors") == len(first)
    assert max(sizes) <= len(first) + len(second)


@pytest.mark.parametrize("kind", ALL)
def test_what_is_there_is_not_fetched_again(hub: HubServer, model: dict[str, bytes], tmp_path: Path, kind: str) -> None:
    source = serve(hub, kind, model)
    fetching.fetch(RUNNER, source, str(tmp_path))
    sent = hub.bytes_sent("model.safetensors")
    fetching.fetch(RUNNER, source, str(tmp_path))
    assert hub.bytes_sent("model.safetensors") == sent


@pytest.mark.parametrize("xet", ["", "1"])
@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_another_content_of_the_same_size_is_found(
    hub: HubServer, model: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, xet: str, name: str
) -> None:
    monkeypatch.setenv("HF_HUB_DISABLE_XET", xet)
    source = serve(hub, "hf", model)
    fetching.fetch(RUNNER, source, str(tmp_path))
    (tmp_path / name).write_bytes(bytes(len(model[name])))
    # The library sees for itself that it is another one, unless it keeps a record of the folder.
    with contextlib.suppress(DeployError):
        fetching.fetch(RUNNER, source, str(tmp_path))
    fetching.fetch(RUNNER, source, str(tmp_path))
    assert files_below(tmp_path) == model


@pytest.mark.parametrize("kind", HUBS)
def test_a_wrong_revision_is_named(hub: HubServer, model: dict[str, bytes], kind: str) -> None:
    serve(hub, kind, model)
    error = failure(lambda: fetching.resolve(RUNNER, parse_source(f"{kind}://Org/Tiny@v9")))
    assert error.problem == "Org/Tiny has no revision v9"
    assert ("it has master" if kind == "modelscope" else "page lists them") in error.fix


@pytest.mark.parametrize("kind", HUBS)
@pytest.mark.parametrize("token", ["", TOKEN])
def test_a_model_that_is_not_there(hub: HubServer, monkeypatch: pytest.MonkeyPatch, kind: str, token: str) -> None:
    variable = {"hf": "HF_TOKEN", "modelscope": "MODELSCOPE_API_TOKEN"}[kind]
    monkeypatch.setenv(variable, token)
    error = failure(lambda: fetching.resolve(RUNNER, parse_source(f"{kind}://Org/Missing")))
    assert "there is no model Org/Missing" in error.problem
    assert variable in error.fix
    assert TOKEN not in str(error)


@pytest.mark.parametrize("call", [fetching.write_skeleton, fetching.fetch])
@pytest.mark.parametrize("token", ["", TOKEN])
def test_a_gated_model_says_which_variable(
    hub: HubServer,
    model: dict[str, bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: Callable[..., Listing],
    token: str,
) -> None:
    source = serve(hub, "hf", model, gated=True, token="another")
    monkeypatch.setenv("HF_TOKEN", token)
    error = failure(lambda: call(RUNNER, source, str(tmp_path)))
    assert ("is not accepted" if token else "none is given") in error.problem
    assert "HF_TOKEN" in error.fix
    assert "terms have to be accepted" in error.fix
    assert TOKEN not in str(error)


@pytest.mark.parametrize(
    ("kind", "variable"), [("modelscope", "MODELSCOPE_API_TOKEN"), ("http", "DEPLOYER_HTTP_AUTHORIZATION")]
)
def test_refused_access_says_which_variable(
    hub: HubServer, model: dict[str, bytes], monkeypatch: pytest.MonkeyPatch, kind: str, variable: str
) -> None:
    hub.folder_login = "Bearer another"
    source = serve(hub, kind, model, token="another")
    assert "none is given" in failure(lambda: fetching.resolve(RUNNER, source)).problem
    monkeypatch.setenv(variable, f"Bearer {TOKEN}")
    error = failure(lambda: fetching.resolve(RUNNER, source))
    assert "is not accepted" in error.problem
    assert variable in error.fix
    assert TOKEN not in str(error)


@pytest.mark.parametrize("kind", ALL)
def test_credentials_go_to_the_hub_and_not_to_its_storage(
    hub: HubServer, model: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    hub.folder_login = f"Bearer {TOKEN}"
    for variable in ("HF_TOKEN", "MODELSCOPE_API_TOKEN"):
        monkeypatch.setenv(variable, f" {TOKEN}\n")  # as it comes out of a file
    monkeypatch.setenv("DEPLOYER_HTTP_AUTHORIZATION", f"Bearer {TOKEN}")
    source = serve(hub, kind, model, token=TOKEN)
    (tmp_path / "skeleton").mkdir()
    fetching.write_skeleton(RUNNER, source, str(tmp_path / "skeleton"))
    fetching.fetch(RUNNER, source, str(tmp_path / "model"))
    assert files_below(tmp_path / "model") == model
    for request in hub.requests:
        assert TOKEN not in request.path
        if request.server == "storage":
            assert request.authorization + request.cookie == ""
    assert (kind == "http") == all(request.server == "hub" for request in hub.requests)


def test_a_credential_with_a_line_break_in_it_is_not_sent(hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOYER_HTTP_AUTHORIZATION", f"Bearer {TOKEN}\nX-Other: 1")
    error = failure(lambda: fetching.resolve(RUNNER, serve(hub, "http", {"config.json": b"{}"})))
    assert error.problem == "DEPLOYER_HTTP_AUTHORIZATION holds a character that no credential has"


@pytest.fixture(scope="module")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with nothing but the standard library."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=False, symlinks=True)
    return str(folder / "bin/python")


def test_a_python_without_the_library_says_what_to_install(
    hub: HubServer, model: dict[str, bytes], tmp_path: Path, bare_python: str
) -> None:
    runner = Runner(bare_python)
    error = failure(lambda: fetching.resolve(runner, serve(hub, "hf", model)))
    assert f"{bare_python} lacks huggingface_hub" in error.problem
    assert f"{bare_python} -m pip install huggingface_hub" in error.fix
    source = serve(hub, "modelscope", model)
    assert fetching.resolve(runner, source).size
    error = failure(lambda: fetching.fetch(runner, source, str(tmp_path)))
    assert f"{bare_python} lacks modelscope" in error.problem
    assert error.fix.startswith("pip install modelscope")
    # The same Python, told where the libraries are.
    runner = Runner(bare_python, [folder for folder in sys.path if folder.endswith("site-packages")])
    assert fetching.fetch(runner, source, str(tmp_path)).size


def test_a_web_folder_needs_no_library(
    hub: HubServer, model: dict[str, bytes], tmp_path: Path, bare_python: str
) -> None:
    fetching.fetch(Runner(bare_python), serve(hub, "http", model), str(tmp_path))
    assert files_below(tmp_path) == model


@pytest.mark.parametrize("kind", ALL)
def test_a_server_that_is_not_there(hub: HubServer, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    source = serve(hub, kind, {"config.json": b"{}"})
    hub.close()
    error = failure(lambda: fetching.resolve(RUNNER, source))
    assert "cannot be reached" in error.problem
    assert "HTTPS_PROXY" in error.fix


def test_a_busy_server_is_asked_again(hub: HubServer, model: dict[str, bytes], tmp_path: Path) -> None:
    source = serve(hub, "http", model)
    hub.faults = {"/tiny/": [503, 429], "config.json": [500], "model.safetensors": [502]}
    fetching.fetch(RUNNER, source, str(tmp_path))
    assert files_below(tmp_path) == model


def test_offline_mode_is_named(hub: HubServer, model: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "HF_HUB_OFFLINE" in failure(lambda: fetching.resolve(RUNNER, serve(hub, "hf", model))).fix


@pytest.mark.parametrize("kind", ALL)
def test_nothing_but_answers_on_stdout_and_no_token_anywhere(
    hub: HubServer, model: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    hub.folder_login = f"Bearer {TOKEN}"
    for variable in ("HF_TOKEN", "MODELSCOPE_API_TOKEN", "DEPLOYER_HTTP_AUTHORIZATION"):
        monkeypatch.setenv(variable, TOKEN if "HTTP" not in variable else f"Bearer {TOKEN}")
    source = serve(hub, kind, model, token=TOKEN)
    (tmp_path / "fetch_child.zip").write_bytes(program())
    where = {name: getattr(source, name) for name in ("kind", "repository", "revision", "url")}
    for wrong in (False, True):
        order = {**where, "mode": "fetch", "folder": str(tmp_path / "m"), "commit": "0" * 40 if wrong else ""}
        child = [sys.executable, "-I", str(tmp_path / "fetch_child.zip")]
        done = subprocess.run(child, input=json.dumps(order), capture_output=True, text=True, check=False)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert {key for line in lines[:-1] for key in line} <= {"progress"}
        assert list(lines[-1]) == ["error" if wrong else "result"]
        assert done.returncode == int(wrong)
        assert TOKEN not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
