"""The one string that says where weights come from."""

from __future__ import annotations

import contextlib
from dataclasses import asdict
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.weights.sources import (
    CONTROLLER,
    EVERY_HOST,
    HOST,
    HTTP,
    HUGGINGFACE,
    KINDS,
    MODELSCOPE,
    parse_source,
)

COMMIT = "40c069824f4251a91eefaf281ebe4c544efd3e18"


@pytest.mark.parametrize(
    ("text", "kind", "fields"),
    [
        ("/data/m", CONTROLLER, {"path": "/data/m"}),
        ("models/m", CONTROLLER, {"path": "models/m"}),
        ("~/m", CONTROLLER, {"path": "~/m"}),
        ("../m", CONTROLLER, {"path": "../m"}),
        ("Qwen/Qwen3-14B", CONTROLLER, {"path": "Qwen/Qwen3-14B"}),
        ("./data:v2/m", CONTROLLER, {"path": "./data:v2/m"}),
        ("/data/a b:c", CONTROLLER, {"path": "/data/a b:c"}),
        ("gpu-3:/data/m", HOST, {"host": "gpu-3", "path": "/data/m"}),
        ("gpu3.example.com:/data//m/", HOST, {"host": "gpu3.example.com", "path": "/data/m"}),
        ("10.0.0.3:/data/m", HOST, {"host": "10.0.0.3", "path": "/data/m"}),
        ("hosts:/nfs/m", EVERY_HOST, {"path": "/nfs/m"}),
        ("hf://Qwen/Qwen3-14B", HUGGINGFACE, {"repository": "Qwen/Qwen3-14B", "revision": "main"}),
        ("hf://Qwen/Qwen3-14B@v1.0", HUGGINGFACE, {"repository": "Qwen/Qwen3-14B", "revision": "v1.0"}),
        ("hf://o/n@refs/pr/4", HUGGINGFACE, {"repository": "o/n", "revision": "refs/pr/4"}),
        (f"HF://o/n@{COMMIT.upper()}", HUGGINGFACE, {"repository": "o/n", "revision": COMMIT}),
        ("modelscope://Qwen/Qwen3-14B", MODELSCOPE, {"repository": "Qwen/Qwen3-14B", "revision": "master"}),
        ("https://files.example/m/", HTTP, {"url": "https://files.example/m/"}),
        ("HTTP://Files.example:8080/a b", HTTP, {"url": "http://files.example:8080/a%20b/"}),
        ("http://[::1]:8000/m/", HTTP, {"url": "http://[::1]:8000/m/"}),
        ("https://files.example/模型/", HTTP, {"url": "https://files.example/%E6%A8%A1%E5%9E%8B/"}),
        ("https://files.example", HTTP, {"url": "https://files.example/"}),
    ],
)
def test_a_source_is_read(text: str, kind: str, fields: dict[str, str]) -> None:
    source = parse_source(text)
    assert (source.kind, source.text) == (kind, text)
    named = {name: value for name, value in asdict(source).items() if value and name not in ("kind", "text")}
    assert named == fields
    assert source.is_fetched == (kind in (HUGGINGFACE, MODELSCOPE, HTTP))
    assert source.pinned == (fields.get("revision") == COMMIT)
    assert source.needs_library == {HUGGINGFACE: "huggingface_hub", MODELSCOPE: "modelscope"}.get(kind, "")


@pytest.mark.parametrize(
    ("text", "problem", "fix"),
    [
        ("", "is empty", "give one of"),
        ("   ", "is empty", "give one of"),
        (None, "is empty", "give one of"),
        (7, "is empty", "give one of"),
        ("/data/m\n", "control character", "type it anew"),
        ("/data/\x1b[31mm", "control character", "type it anew"),
        ("/data/\u202em", "control character", "type it anew"),
        (" /data/m", "begins or ends with a space", "remove the space"),
        ("/" + "a" * 5000, "5001 characters long", "give"),
        ("s3://bucket/m", "s3:// is not known", "hf://ORG/NAME"),
        ("file:///data/m", "file:// is not known", "give one of PATH"),
        ("C:\\models\\m", "has a backslash", "write the path with /"),
        ("\\\\server\\share", "has a backslash", "write the path with /"),
        ("C:/models/m", "is a Windows path", "as Linux has it"),
        ("gpu-3:models/m", "is not absolute", "write gpu-3:/PATH; or ./gpu-3:models/m"),
        ("gpu-3:", "is not absolute", "write gpu-3:/PATH"),
        ("gpu-3:~/m", "is not absolute", "write gpu-3:/PATH"),
        ("me@gpu-3:/data/m", "names a user", "the user is Ansible's"),
        (":/data/m", "'' is no host's name", "write ./:/data/m"),
        ("gpu 3:/data/m", "'gpu 3' is no host's name", "write ./gpu 3:/data/m"),
        ("-oProxyCommand=x:/data/m", "is no host's name", "write ./-o"),
        ("gpu-3:/data/../m", "has .. in its path", "without"),
        ("gpu-3:/", "root folder", "give the folder"),
        ("hosts:/", "root folder", "give the folder"),
        ("hosts:nfs/m", "is not absolute", "write hosts:/PATH"),
        ("hf:Qwen/Qwen3-14B", "lacks the //", "write hf://Qwen/Qwen3-14B"),
        ("hf:/Qwen/Qwen3-14B", "lacks the //", "write hf://Qwen/Qwen3-14B"),
        ("https:/server/m", "lacks the //", "write https://server/m"),
        ("hf://Qwen3-14B", "lacks the organisation", "write hf://ORG/NAME"),
        ("hf://", "lacks the organisation", "write hf://ORG/NAME"),
        ("hf:///Qwen3", "'' cannot be a name", "write hf://ORG/NAME"),
        ("hf://../Qwen3", "'..' cannot be a name", "write hf://ORG/NAME"),
        ("hf://Qwen/a..b", "'a..b' cannot be a name", "write hf://ORG/NAME"),
        ("hf://Qwen/a--b", "'a--b' cannot be a name", "write hf://ORG/NAME"),
        ("hf://Qwen/Qwen3-14B/resolve", "more than ORG/NAME", "write hf://ORG/NAME"),
        ("hf://Qwen/Qwen3?token=x", "cannot be a name", "write hf://ORG/NAME"),
        ("hf://Qwen/Qwen3@", "'' cannot be a revision", "give a branch, a tag or a commit"),
        ("hf://Qwen/Qwen3@a..b", "'a..b' cannot be a revision", "give a branch"),
        ("hf://Qwen/Qwen3@-x", "'-x' cannot be a revision", "give a branch"),
        ("hf://Qwen/Qwen3@a/", "'a/' cannot be a revision", "give a branch"),
        ("modelscope://Qwen3", "lacks the organisation", "write modelscope://ORG/NAME"),
        ("https://server/m/?token=x", "has a query", "DEPLOYER_HTTP_AUTHORIZATION"),
        ("https://server/m/#x", "has a fragment", "give the folder alone"),
        ("https://me:pw@server/m/", "holds credentials", "DEPLOYER_HTTP_AUTHORIZATION"),
        ("https://token@server/m/", "holds credentials", "DEPLOYER_HTTP_AUTHORIZATION"),
        ("https:///m/", "names no server", "https://SERVER/FOLDER/"),
        ("https://sérver/m/", "names no server", "in ASCII"),
        ("https://[::1/m/", "is no URL", "https://SERVER/FOLDER/"),
        ("https://server:99999/m/", "is no URL", "https://SERVER/FOLDER/"),
        ("https://server/a/../m/", "has ..", "without"),
        ("https://server/a/%2e%2e/m/", "has ..", "without"),
        ("https://server/m%00/", "control character", "without"),
        ("https://server/m/model.safetensors", "is a file", "give the folder"),
        ("https://huggingface.co/Qwen/Qwen3-14B", "is a page of a hub", "write hf://Qwen/Qwen3-14B"),
        ("https://www.modelscope.cn/models/Qwen/Qwen3-14B", "is a page of a hub", "modelscope://Qwen/Qwen3-14B"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_a_fix(text: Any, problem: str, fix: str) -> None:
    with pytest.raises(DeployError) as caught:
        parse_source(text)
    assert problem in caught.value.problem
    assert fix in caught.value.fix


def test_credentials_are_not_repeated() -> None:
    for text in ("https://me:s3cret@server/m/", "https://server/m/?token=s3cret", "ftp://me:s3cret@server/m"):
        with pytest.raises(DeployError) as caught:
            parse_source(text)
        assert "s3cret" not in str(caught.value)


PIECES = (
    "hf modelscope http https hosts : / // :// @ .. . ~ ? # [ ] %2e % org name C \\ \x00 \ud800 é main -- 8000 .bin"
)
pieces = st.sampled_from([*PIECES.split(" "), " ", COMMIT])


@given(st.one_of(st.text(), st.lists(pieces, max_size=12).map("".join), st.integers(), st.none(), st.binary()))
@example("http://[")
@example("http://x:y/")
@example("http://\u2100/")
def test_whatever_is_written_is_read_or_refused(text: Any) -> None:
    with contextlib.suppress(DeployError):
        source = parse_source(text)
        assert source.kind in KINDS
        assert source.text == text
        assert bool(source.path) == (source.kind in (CONTROLLER, HOST, EVERY_HOST))
        assert bool(source.url) == (source.kind == HTTP)
        assert bool(source.repository) == bool(source.revision) == (source.kind in (HUGGINGFACE, MODELSCOPE))
        if source.kind in (HOST, EVERY_HOST):
            assert source.path.startswith("/")
            assert ".." not in source.path.split("/")
