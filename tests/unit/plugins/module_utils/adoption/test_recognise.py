"""Which engine a command line is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.adoption.recognise import (
    is_title,
    key_of,
    recognise,
)
from ansible_collections.deployer.sglang.plugins.module_utils.engines import RECOGNISED, readiness_of


@pytest.mark.parametrize(
    ("command", "environ", "engine", "model", "name", "host"),
    [
        (
            "python -m llamafactory.cli api --model_name_or_path /m/qwen --template qwen",
            {"API_MODEL_NAME": "code2sql", "API_HOST": "0.0.0.0"},
            "llamafactory",
            "/m/qwen",
            "code2sql",
            "0.0.0.0",
        ),
        (
            "uv run python -m llamafactory.cli api --model_name_or_path /m/q",
            {},
            "llamafactory",
            "/m/q",
            "",
            "0.0.0.0",
        ),
        (
            "/v/bin/python /v/bin/llamafactory-cli api --model_name_or_path=/m/q",
            {},
            "llamafactory",
            "/m/q",
            "",
            "0.0.0.0",
        ),
        (
            "python -m sglang.launch_server --model-path /m/q --host 0.0.0.0 --port 8001 --tensor-parallel-size 2",
            {},
            "sglang",
            "/m/q",
            "/m/q",
            "0.0.0.0",
        ),
        (
            "python3 -u -m sglang.launch_server --model-path=/m/q --served-model-name=a",
            {},
            "sglang",
            "/m/q",
            "a",
            "127.0.0.1",
        ),
        ("sglang serve --model-path /m/q", {}, "sglang", "/m/q", "/m/q", "127.0.0.1"),
        ("/v/bin/python /v/bin/vllm serve /m/q --served-model-name a b", {}, "vllm", "/m/q", "a", "0.0.0.0"),
        ("python -m vllm.entrypoints.openai.api_server --model /m/q --host ::1", {}, "vllm", "/m/q", "/m/q", "::1"),
        ("sglang::scheduler_TP0", {}, "sglang", "", "", "127.0.0.1"),
        ("VLLM::EngineCore", {}, "vllm", "", "", "0.0.0.0"),
        ("vllm bench serve --model x", {}, "unknown", "", "", ""),
        ("python -m llamafactory.cli train x.yaml", {}, "unknown", "", "", ""),
        ("python server.py --model-path /m", {}, "unknown", "", "", ""),
        ("", {}, "unknown", "", "", ""),
    ],
)
def test_engines_are_known_by_their_commands(
    command: str, environ: dict[str, str], engine: str, model: str, name: str, host: str
) -> None:
    found = recognise(command.split(), environ)
    assert (found.engine, found.model_path, found.served_name, found.host) == (engine, model, name, host)


def test_the_command_in_a_shell_word_counts() -> None:
    assert (
        recognise(["sh", "-c", "cd /x && exec python -m sglang.launch_server --model-path /m"], {}).model_path == "/m"
    )


def test_a_title_is_no_command() -> None:
    assert is_title(["sglang::server"])
    assert is_title(["nginx: master process", ""])
    assert not is_title(["python", "-m", "sglang.launch_server"])


def test_the_key_that_clients_need_is_known() -> None:
    assert key_of(["python", "-m", "sglang.launch_server", "--api-key", "abc"], {}) == "abc"
    assert key_of(["llamafactory-cli", "api"], {"API_KEY": "k"}) == "k"
    assert key_of(["python"], {"API_KEY": "k"}) == ""


@given(st.lists(st.text(alphabet=st.characters(blacklist_characters="\0"), max_size=20), max_size=12))
def test_nothing_confuses_it(argv: list[str]) -> None:
    assert recognise(argv, {}).engine in RECOGNISED


def test_every_engine_that_is_recognised_has_a_readiness() -> None:
    assert {name: readiness_of(name) for name in RECOGNISED} == {
        "sglang": "/health",
        "llamafactory": "/v1/models",
        "vllm": "/health",
        "unknown": "",
    }
