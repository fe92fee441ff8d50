"""What a web folder lists, and servers that know less than others."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.weights import fetching
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child import attempts
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.problems import Problem
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.protocol import RESOLVE, Order
from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.web_folder import WebFolder
from ansible_collections.deployer.sglang.plugins.module_utils.weights.sources import parse_source
from tests.doubles.hub_models import MIB, RUNNER, failure, files_below, safetensors, serve
from tests.doubles.hub_server import HubServer


def listed(files: dict[str, bytes], form: str) -> dict[str, bytes]:
    """The files and a list of them."""
    sums = {path: hashlib.sha256(content).hexdigest() for path, content in files.items()}
    sizes = {path: len(content) for path, content in files.items()}
    if form == "ours":
        entries: Any = [{"path": path, "size": sizes[path], "sha256": sums[path]} for path in files]
        value: Any = {"schema": 1, "digest": "…", "files": entries}
    elif form == "sglang":
        value = {"files": {path: {"sha256": sums[path], "size": sizes[path]} for path in files}}
    elif form == "older sglang":
        value = {"checksums": sums}
    else:
        return {**files, "SHA256SUMS": "".join(f"{sums[path]}  ./{path}\n" for path in files).encode()}
    return {**files, "manifest.json": json.dumps(value).encode()}


@pytest.mark.parametrize("form", ["ours", "sglang", "older sglang", "SHA256SUMS"])
def test_a_list_is_taken_before_the_index_and_its_hashes_are_compared(
    hub: HubServer, model: dict[str, bytes], tmp_path: Path, form: str
) -> None:
    hub.index = False
    wanted = {path: model[path] for path in ("config.json", "model.safetensors", "docs/a b [c]#%20é.txt")}
    source = serve(hub, "http", listed(wanted, form))
    resolved = fetching.resolve(RUNNER, source)
    assert all(file.sha256 == hashlib.sha256(wanted[file.path]).hexdigest() for file in resolved.files)
    hub.folder["/tiny/config.json"] = wanted["config.json"].replace(b"6", b"7", 1)
    error = failure(lambda: fetching.fetch(RUNNER, source, str(tmp_path), resolved.commit))
    assert "config.json" in error.problem
    assert "is not the published file" in error.problem
    assert not (tmp_path / "config.json").exists()
    hub.folder["/tiny/config.json"] = wanted["config.json"]
    fetching.fetch(RUNNER, source, str(tmp_path), resolved.commit)
    assert files_below(tmp_path) == wanted


def test_a_manifest_of_something_else_is_a_file_of_the_model(hub: HubServer, tmp_path: Path) -> None:
    for text in (b"{}", b"[]", b"{", b'{"files": [1]}', b'{"files": {"a": {"sha256": "x"}}}', b'{"name": "an app"}'):
        source = serve(hub, "http", {"config.json": b"{}", "manifest.json": text})
        assert [file.path for file in fetching.resolve(RUNNER, source).files] == ["config.json", "manifest.json"]


def test_a_server_without_range_is_begun_with_again(hub: HubServer, tmp_path: Path) -> None:
    hub.ranges = False
    weights = safetensors(3 * MIB)
    source = serve(hub, "http", {"model.safetensors": weights, "config.json": b"{}"})
    hub.breaks = {"model.safetensors": [2 * MIB, MIB]}
    fetching.fetch(RUNNER, source, str(tmp_path / "m"))
    assert (tmp_path / "m/model.safetensors").read_bytes() == weights
    (tmp_path / "skeleton").mkdir()
    fetching.write_skeleton(RUNNER, source, str(tmp_path / "skeleton"))
    assert (tmp_path / "skeleton/model.safetensors").read_bytes()[:60] == weights[:60]


def test_a_server_that_never_gets_further_is_given_up(hub: HubServer, tmp_path: Path) -> None:
    hub.ranges = False
    source = serve(hub, "http", {"model.safetensors": safetensors(MIB)})
    hub.breaks = {"model.safetensors": [1000] * 100}
    error = failure(lambda: fetching.fetch(RUNNER, source, str(tmp_path)))
    assert "ended after 1000 of" in error.problem or "cannot be reached" in error.problem
    assert len(hub.breaks["model.safetensors"]) == 100 - attempts.ATTEMPTS


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({"SHA256SUMS": b"0" * 64 + b"  ../secret\n"}, "'../secret', which is not allowed"),
        ({"SHA256SUMS": b"0" * 64 + b"  /etc/passwd\n"}, "'/etc/passwd', which is not allowed"),
        ({"SHA256SUMS": b"0" * 64 + b"  a\n" + b"0" * 64 + b"  a\n", "a": b"1"}, "lists a file twice"),
        ({"SHA256SUMS": b"<html>"}, "a line that sha256sum did not write"),
        ({"SHA256SUMS": b"0" * 64 + b"  lost\n"}, "lost is listed at"),
        ({"..%2f..%2fsecret": b"1"}, ""),
    ],
)
def test_lists_that_cannot_be_right_are_refused(hub: HubServer, files: dict[str, bytes], problem: str) -> None:
    source = serve(hub, "http", files)
    if problem:
        assert problem in failure(lambda: fetching.resolve(RUNNER, source)).problem
    else:  # a strange name, and a harmless one
        assert [file.path for file in fetching.resolve(RUNNER, source).files] == list(files)


@functools.cache
def web_folder() -> WebFolder:
    """A folder that is asked for nothing; reading the system's certificates takes its time."""
    return WebFolder(Order("http", RESOLVE, url="http://server.example/models/m/"))


def page_of(hrefs: list[str], folder: str = "") -> list[str]:
    """What a page with these links lists."""
    return list(web_folder()._names("".join(f'<a href="{href}">x</a>' for href in hrefs), folder))


def test_the_links_of_a_page_are_the_files_below_the_folder() -> None:
    assert page_of(
        ["a", "./b", "c%20d", "/models/m/e", "http://server.example/models/m/f", "sub/", "sub/g", "h#top"]
    ) == [
        *("a", "b", "c d", "e", "f", "sub/", "sub/g", "h"),
    ]
    elsewhere = [
        "../",
        "../..",
        "/",
        "/models/",
        "?C=N;O=D",
        "x?y",
        "#top",
        "",
        "../other/a",
        "mailto:me@server.example",
    ]
    assert (
        page_of([*elsewhere, "https://server.example/models/m/a", "http://other.example/models/m/a", "http://["]) == []
    )
    assert page_of(["../", "../b", "s", "deep/", "/models/m/sub/"], "sub/") == ["b", "sub/s", "sub/deep/"]


@pytest.mark.parametrize("href", ["%2e%2e/secret", "a/%2e%2e/%2e%2e/b", "..%2fsecret", "a%5cb", "a%00", "%2e"])
def test_a_name_that_leaves_the_folder_is_refused(href: str) -> None:
    with pytest.raises(Problem, match="not allowed"):
        page_of([href])


@given(
    st.lists(st.sampled_from([*"ab/?#.:%", "../", "%2e", "//", "http:", "[", "\x00", "/models/m/", "é"]), max_size=9)
)
def test_whatever_a_page_links_to_is_below_the_folder_or_refused(parts: list[str]) -> None:
    with contextlib.suppress(Problem):
        for name in page_of(["".join(parts)]):
            assert not {"", ".", ".."} & set(name.removesuffix("/").split("/"))


def test_a_folder_of_pythons_own_server(model: dict[str, bytes], tmp_path: Path) -> None:
    """Which has no Range, and writes its pages in its own way."""
    for path, text in model.items():
        (tmp_path / "served" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "served" / path).write_bytes(text)

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *args: object) -> None: ...

    handler = functools.partial(Handler, directory=str(tmp_path / "served"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        source = parse_source(f"http://127.0.0.1:{server.server_address[1]}/")
        fetching.fetch(RUNNER, source, str(tmp_path / "fetched"))
        server.shutdown()
    assert files_below(tmp_path / "fetched") == model
