"""The kit's programs against servers of both kinds: what passes, what is said of what does not, and the exit code."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.client_kit import API_TEST, CURL_TEST, PYTHON_ACCESS
from ansible_collections.deployer.sglang.plugins.plugin_utils.client_kit import KitFacts, render_kit
from tests.doubles.chat_server import Behaviour, chat_server
from tests.doubles.released_host import free_port

FACTS = KitFacts(
    service="code2sql",
    release="0123456789ab",
    engine="sglang",
    version="0.5.23",
    model="code2sql",
    url="http://127.0.0.1:9",
    host="127.0.0.1",
    local=True,
    port=9,
    gpus=(),
    product="",
    tensor_parallel=1,
    context=1000,
    max_running_requests=None,
    max_total_tokens=None,
    metrics=False,
    log_requests=False,
    log_level=None,
    prefix_cache=True,
    truncates=False,
    backend="",
    template="",
    concurrent=1,
    sampling="",
    may_need_key=False,
    tells_release=True,
    unit="",
    folder="/x",
    log="/x/logs/service.log",
)
LINE = re.compile(r"^(ok|FAIL|note|skip) +([a-z-]+) +\d+\.\d\d s  (.*)$", re.MULTILINE)
BOTH = ("api", "curl")


@pytest.fixture(scope="module")
def kit(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("kit")
    for name, text in render_kit(FACTS).items():
        (folder / name).write_text(text)
    yield folder


def run(kit: Path, program: str, *words: str, **environment: str) -> tuple[int, dict[str, tuple[str, str]], str]:
    """Exit code, check -> (verdict, what was said), and all that was printed."""
    command = {"api": [sys.executable, str(kit / API_TEST)], "curl": ["bash", str(kit / CURL_TEST)]}[program]
    # A proxy that leads nowhere: it must not be asked.
    proxies = {"http_proxy": "http://127.0.0.1:9", "HTTP_PROXY": "http://127.0.0.1:9", "OPENAI_API_KEY": ""}
    done = subprocess.run(
        [*command, *words], env={**os.environ, **proxies, **environment}, capture_output=True, text=True, timeout=60
    )
    found = {name: (verdict, said) for verdict, name, said in LINE.findall(done.stdout)}
    return done.returncode, found, done.stdout + done.stderr


@pytest.mark.parametrize("program", BOTH)
def test_all_passes_against_sglang_and_any_name_is_noted(kit: Path, program: str) -> None:
    with chat_server(Behaviour()) as (url, bodies):
        code, found, printed = run(kit, program, "--url", f"{url}/v1/")
    assert code == 0, printed
    verdicts = {name: verdict for name, (verdict, _) in found.items()}
    assert verdicts.pop("wrong-model") == "note"
    assert verdicts.pop("sdk-stream", "skip") in ("ok", "skip")
    assert set(verdicts.values()) == {"ok"}, printed
    assert set(verdicts) >= {"health", "models", "chat", "stream", "long-prompt", "too-long"}
    assert "400" in found["too-long"][1] and "too long" in found["too-long"][1]
    assert {"code2sql", "no-such-model"} == {body["model"] for body in bodies}


@pytest.mark.parametrize("program", BOTH)
def test_of_llamafactory_it_is_said_that_it_has_no_health_and_nothing_is_computed_beyond_its_context(
    kit: Path, program: str
) -> None:
    with chat_server(Behaviour(sglang=False)) as (url, bodies):
        code, found, printed = run(kit, program, "--url", url)
    assert code == 1
    assert found["health"][0] == "FAIL" and "no /health" in found["health"][1], printed
    assert [name for name, (verdict, _) in found.items() if verdict == "FAIL"] == ["health"]
    assert found["too-long"][0] == "skip"
    assert max(len(body["messages"][0]["content"].split()) for body in bodies) < 1000


@pytest.mark.parametrize("program", BOTH)
def test_a_stream_that_is_cut_fails(kit: Path, program: str) -> None:
    with chat_server(Behaviour(cuts_streams=True)) as (url, _):
        code, found, _ = run(kit, program, "--url", url)
    assert code == 1
    assert found["stream"][0] == "FAIL" and "cut after 3 events, no [DONE]" in found["stream"][1]


@pytest.mark.parametrize("program", BOTH)
def test_a_server_that_serves_another_model_fails(kit: Path, program: str) -> None:
    with chat_server(Behaviour(model="someone-else")) as (url, _):
        code, found, _ = run(kit, program, "--url", url)
        assert (code, found["models"][0]) == (1, "FAIL")
        assert "someone-else" in found["models"][1]
        assert run(kit, program, "--url", url, "--model", "someone-else")[0] == 0


@pytest.mark.parametrize("program", BOTH)
def test_a_server_that_looks_at_names_passes(kit: Path, program: str) -> None:
    with chat_server(Behaviour(checks_names=True)) as (url, _):
        code, found, _ = run(kit, program, "--url", url)
    assert (code, found["wrong-model"][0]) == (0, "ok")


@pytest.mark.parametrize("program", BOTH)
def test_too_long_a_prompt_that_is_answered_fails(kit: Path, program: str) -> None:
    with chat_server(Behaviour(truncates=True)) as (url, _):
        code, found, _ = run(kit, program, "--url", url)
    assert (code, found["too-long"][0]) == (1, "FAIL")


@pytest.mark.parametrize("program", BOTH)
def test_a_server_that_is_not_ready_fails(kit: Path, program: str) -> None:
    with chat_server(Behaviour(health=503)) as (url, _):
        code, found, _ = run(kit, program, "--url", url)
    assert (code, found["health"][0]) == (1, "FAIL")


@pytest.mark.parametrize("program", BOTH)
def test_nobody_who_listens_fails_every_check_that_is_made(kit: Path, program: str) -> None:
    code, found, printed = run(kit, program, "--url", f"http://127.0.0.1:{free_port()}")
    assert code == 1
    assert {verdict for verdict, _ in found.values()} <= {"FAIL", "skip"}
    assert found["health"][0] == "FAIL"
    assert "Traceback" not in printed


@pytest.mark.parametrize("program", BOTH)
def test_a_key_is_taken_from_the_environment_or_a_file_and_its_want_is_said(
    kit: Path, tmp_path: Path, program: str
) -> None:
    key = "sk-0123456789"
    (tmp_path / "key").write_text(f"{key}\n")
    with chat_server(Behaviour(key=key)) as (url, _):
        without, found, _ = run(kit, program, "--url", url)
        assert without == 1 and "OPENAI_API_KEY" in found["chat"][1]
        code, _, printed = run(kit, program, "--url", url, OPENAI_API_KEY=key)
        assert code == 0, printed
        code, _, more = run(kit, program, "--url", url, "--api-key-file", str(tmp_path / "key"))
        assert code == 0, more
    assert key not in printed + more


@pytest.mark.parametrize("program", BOTH)
def test_a_key_does_not_follow_a_redirect(kit: Path, program: str) -> None:
    with chat_server(Behaviour()) as (other, bodies), chat_server(Behaviour(moved_to=other)) as (url, _):
        code, _, _ = run(kit, program, "--url", url, OPENAI_API_KEY="sk-0123456789")
    assert (code, bodies) == (1, [])


@pytest.mark.parametrize("program", BOTH)
@pytest.mark.parametrize(
    "answers",
    [
        "<html>\x1b[2J a gateway</html>",
        "[]",
        "null",
        '{"data": 5, "choices": 7}',
        '{"data": [1], "choices": [null]}',
        'data: {"error": "\x1b[2J"}\n\n',
        "[" * 100_000,
    ],
    ids=range(7),
)
def test_what_is_no_answer_of_the_api_fails_and_reaches_a_terminal_without_control_characters(
    kit: Path, program: str, answers: str
) -> None:
    with chat_server(Behaviour(answers=answers)) as (url, _):
        code, found, printed = run(kit, program, "--url", url)
    assert code == 1
    assert {found[name][0] for name in ("models", "stream")} == {"FAIL"}
    assert "\x1b" not in printed
    assert "Traceback" not in printed


def test_another_release_than_the_kit_s_is_noted(kit: Path) -> None:
    with chat_server(Behaviour(release="ffffffffffff")) as (url, _):
        code, found, _ = run(kit, "api", "--url", url)
    assert code == 0
    assert found["release"][0] == "note" and "ffffffffffff" in found["release"][1]


def test_some_checks_alone_can_be_made(kit: Path) -> None:
    with chat_server(Behaviour()) as (url, _):
        code, found, _ = run(kit, "api", "--url", url, "--only", "stream", "--only", "health")
    assert (code, list(found)) == (0, ["stream", "health"])


def test_a_wrong_option_is_no_verdict(kit: Path) -> None:
    assert run(kit, "curl", "--nonsense")[0] == 2
    assert run(kit, "api", "--only", "nonsense")[0] == 2
    assert run(kit, "api", "--api-key-file", "/no/such/file")[0] == 2


def test_curl_does_without_jq(kit: Path, tmp_path: Path) -> None:
    for name in ("bash", "curl", "mktemp", "rm", "tr", "cut", "grep", "sed", "awk", "head", "cat"):
        found = subprocess.run(["which", name], capture_output=True, text=True, check=True).stdout.strip()
        (tmp_path / name).symlink_to(found)
    with chat_server(Behaviour()) as (url, _):
        code, found, printed = run(kit, "curl", "--url", url, PATH=str(tmp_path))
    assert code == 0, printed
    assert found["too-long"][0] == "ok"


def test_python_access_says_what_is_missing_here(kit: Path, tmp_path: Path) -> None:
    words = [sys.executable, "-I", "-S", str(kit / PYTHON_ACCESS)]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "openai: not installed here (pip install openai)" in done.stdout
    assert "sglang: not installed here" in done.stdout
