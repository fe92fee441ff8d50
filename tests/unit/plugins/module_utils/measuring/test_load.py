"""A load, made by a double of SGLang's benchmark in an environment of its own."""

from __future__ import annotations

import json
import math
import os
import platform
import pwd
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.measuring import load_child, load_process
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.environment import Environment
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.load import put_under_load, try_out
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import Load, LoadSettings, Server
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.prompts import built_in
from tests.unit.plugins.module_utils.measuring.benchmark import DOUBLE, Chat, prefix, url

__all__ = ["prefix", "url"]


@pytest.fixture(autouse=True)
def _as_who_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root's folders are nobody's to pass."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


def put(url: str, prefix: Path, model: str = "code2sql", key: str = "", **settings: Any) -> Load:
    chosen = LoadSettings(**{"rates": (1.0, math.inf), "requests": 3, "timeout": 7.0, **settings})
    return put_under_load(Server(url, model), built_in(), chosen, Environment(str(prefix), ""), str(prefix), key)


def test_every_rate_is_measured_with_prompts_of_its_own(url: str, prefix: Path) -> None:
    load = put(url, prefix)
    assert load.generator == "sglang.benchmark.serving of SGLang 0.5.23"
    assert [(step.rate, step.seconds, step.problem) for step in load.steps] == [(1.0, 2.0, ""), (math.inf, 2.0, "")]
    second = load.steps[0].requests[1]
    assert (second.first, second.latency, second.pieces, second.tokens) == (0.1, pytest.approx(0.6), 3, 2)
    assert [one.error for one in load.steps[0].requests] == ["", "", "TimeoutError"]


def test_the_benchmark_is_told_all_that_the_figures_depend_on_and_no_secret() -> None:
    order = {"url": "http://gpu1", "model": "code2sql", "tokenizer": "/m", "max_tokens": 32, "seed": 5}
    words = load_child.words(order, {"rate": "inf", "prompts": [1, 2]}, "d", "r")
    told = dict(zip(words[::2], words[1::2]))
    assert json.loads(told["--extra-request-body"]) == {"max_tokens": 32}, "LLaMA-Factory knows no other name"
    assert (told["--request-rate"], told["--seed"], told["--num-prompts"]) == ("inf", "5", "2")
    assert not {"--api-key", "--header"} & set(words)


def test_the_benchmark_is_given_the_key_of_the_server_and_no_other_secret(
    url: str, prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "http_proxy", "OPENAI_API_KEY"):
        monkeypatch.setenv(name, "x")
    given = put(url, prefix, "tells", "sk-secret\r").steps[0].requests[0].error.split()
    assert {"OPENAI_API_KEY", "HF_HUB_OFFLINE", "NO_PROXY"} <= set(given)
    assert not {"AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "http_proxy"} & set(given)
    assert Chat.keys[-1] == "Bearer sk-secret"
    with pytest.raises(DeployError, match="OPENAI_API_KEY holds characters") as raised:
        put(url, prefix, "tells", "sk-secret\rmore")
    assert "sk-secret" not in str(raised.value)


def test_an_empty_answer_has_no_piece_and_no_token() -> None:
    found = {"ttfts": [0], "itls": [[]], "generated_texts": [""], "errors": [""]}
    assert load_child.requests_of(found, None) == [{"first": 0, "latency": 0, "pieces": 0, "tokens": 0, "error": ""}]


def test_comments_of_a_stream_are_skipped_and_requests_have_a_timeout(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOUBLE))
    benchmark = SimpleNamespace(remove_prefix=str.removeprefix, _create_bench_client_session=None)
    load_child.adapt(benchmark, 7.0)
    assert benchmark.remove_prefix(": ping - 2026-11-29", "data: ") == "[DONE]", "which the benchmark ignores"
    assert benchmark.remove_prefix('data: {"a": 1}', "data: ") == '{"a": 1}'
    assert benchmark._create_bench_client_session().options["timeout"].total == 7.0  # type: ignore[misc]


def test_a_rate_that_cannot_be_measured_says_why_and_ends_the_load(url: str, prefix: Path) -> None:
    load = put(url, prefix, "warm-up-fails", rates=(1.0, 2.0, 4.0))
    assert [step.problem for step in load.steps] == [
        "",
        "ValueError: Warmup failed",
        "not measured, as the rate before was not",
    ]


def test_a_server_that_answers_no_request_is_not_put_under_load(prefix: Path) -> None:
    load = put("http://127.0.0.1:9", prefix)
    assert "did not answer a single request" in load.steps[0].problem


def test_a_benchmark_that_dies_is_told_with_what_it_said(url: str, prefix: Path) -> None:
    with pytest.raises(DeployError, match="it ended with 9") as raised:
        put(url, prefix, "dies")
    assert "out of memory" in raised.value.detail


def test_an_environment_without_the_benchmark_is_named_with_the_fix(url: str, prefix: Path) -> None:
    python = prefix / "bin" / "python"
    python.write_text(python.read_text().replace(str(DOUBLE), "/nowhere"))
    with pytest.raises(DeployError, match="No module named 'sglang'") as raised:
        put(url, prefix)
    assert "sglang.benchmark.serving" in raised.value.fix


def test_what_cannot_work_is_refused_before_anything_is_started(prefix: Path, tmp_path: Path) -> None:
    for settings, problem in (
        ({"rates": ()}, "1 to 10,000 requests"),
        ({"requests": 6000}, "1 to 10,000 requests"),
        ({"rates": (0.0,)}, "not above 0"),
        ({"timeout": math.inf}, "timeout not between 0 and a day"),
        ({"rates": (math.inf, 1e-9)}, "over a day"),
        ({"max_tokens": 0}, "max_tokens"),
    ):
        with pytest.raises(DeployError, match=problem):
            put("http://127.0.0.1:9", prefix, **settings)


def test_an_environment_that_is_not_there_is_named(url: str, tmp_path: Path) -> None:
    with pytest.raises(DeployError, match=f"cannot be run by {tmp_path}/none: No such file or directory"):
        put(url, tmp_path / "none")


def test_a_load_is_never_made_by_root_and_its_folder_goes_with_it(
    url: str, prefix: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    started: list[dict[str, Any]] = []

    def start(argv: list[str], **options: Any) -> Any:
        started.append(options)
        assert Path(options["cwd"]).is_dir()
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "chown", lambda *given: None)
    monkeypatch.setattr(load_process.subprocess, "Popen", start)
    for user in ("", "root"):
        with pytest.raises(DeployError, match="Permission denied"):
            put_under_load(Server(url, "m"), built_in(), LoadSettings(), Environment(str(prefix), user), str(prefix))
    nobody = pwd.getpwnam("nobody")
    assert [one["user"] for one in started] == [nobody.pw_uid] * 2
    assert started[0]["extra_groups"] == []
    assert not any(Path(one["cwd"]).exists() for one in started)


@pytest.mark.parametrize(
    ("script", "named"),
    [
        ("printf 'NVIDIA H200\\nNVIDIA H200\\nNVIDIA T4\\n'", ["2 x NVIDIA H200", "1 x NVIDIA T4"]),
        ("echo 'NVIDIA-SMI has failed'; exit 9", []),
    ],
)
def test_the_gpus_of_the_machine_that_makes_a_load_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, named: list[str]
) -> None:
    (tmp_path / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    assert load_child.gpus() == named
    assert load_child.machine().startswith(f"{platform.node()}, {os.cpu_count()} CPUs, ")


def test_what_makes_a_load_ends_with_whoever_wanted_it() -> None:
    waits = "__import__('time').sleep(600)"
    program = Path(load_child.__file__).read_text().replace("        benchmark = imported()", f"        {waits}", 1)
    with subprocess.Popen([sys.executable, "-I", "-c", program], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b'{"variables": {}}\n')
        process.stdin.close()
        assert process.wait(timeout=60) == 1


class ByHand(Environment):
    """A maker whose program is what its prefix says."""

    def argv(self, program: Sequence[str]) -> list[str]:
        return [sys.executable, "-c", self.prefix]


@pytest.mark.parametrize(
    ("program", "said"),
    [
        ("import time\nwhile True: print('hello', flush=True); time.sleep(0.01)", "has said nothing for 1 s"),
        ("import os, time\nos.close(1); time.sleep(600)", "has said nothing for 1 s"),
        ("while True: print('x' * 65536)", "it says more than 1 MiB"),
        ("print('x' * 2**21); import time; time.sleep(600)", "it says more than 1 MiB"),
    ],
)
def test_what_chatters_floods_or_does_not_end_is_ended(
    program: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(load_process, "MOST_SAID", 2**20)
    with (
        pytest.raises(DeployError, match=said),
        load_process.making(ByHand(program, ""), {}) as answers,
    ):
        list(answers(1, 1))


def test_what_makes_a_load_writes_no_endless_file(tmp_path: Path) -> None:
    program = Path(load_child.__file__).read_text().replace("2**30", "2**20", 1)
    program = program.replace("    main()", "    bound_files()")
    program += f"    open({str(tmp_path / 'large')!r}, 'wb', 0).write(bytes(2**21))"
    assert subprocess.run([sys.executable, "-I", "-c", program], check=False).returncode == 0
    assert (tmp_path / "large").stat().st_size == 2**20


REQUEST = {"first": 0.1, "latency": 0.6, "pieces": 3, "tokens": 2, "error": ""}


@pytest.mark.parametrize(
    "step",
    [
        5,
        {"requests": 5},
        {"requests": []},
        {"requests": [{**REQUEST, "latency": math.nan}]},
        {"requests": [{**REQUEST, "first": -1}]},
        {"requests": [{**REQUEST, "tokens": math.inf}]},
        {"requests": [{**REQUEST, "pieces": None}]},
    ],
)
def test_figures_that_are_none_are_not_taken(step: Any) -> None:
    said = json.dumps({"generator": "g", "client": "c"}) + "\n" + json.dumps({"step": step})
    with pytest.raises(DeployError, match="what it says of a load makes no sense"):
        put_under_load(
            Server("http://h", "m"), built_in(), LoadSettings((1.0,), 1), ByHand(f"print({said!r})", ""), "/m"
        )


def test_a_key_that_a_server_quotes_is_not_in_what_fails() -> None:
    step = {"requests": [{**REQUEST, "error": "no such key: k1-private"}], "problem": "k1-private"}
    said = json.dumps({"generator": "g", "client": "c"}) + "\n" + json.dumps({"step": step})
    maker = ByHand(f"print({said!r})", "")
    load = put_under_load(Server("http://h", "m"), built_in(), LoadSettings((1.0,), 1), maker, "/m", "k1-private")
    assert "k1-private" not in repr(load) and load.steps[0].requests[0].error == "no such key: ***"


def test_a_load_ends_with_its_last_figures_though_something_keeps_its_output() -> None:
    said = json.dumps({"generator": "g", "client": "c"}) + "\n" + json.dumps({"step": {"requests": [REQUEST]}})
    maker = ByHand(f"import os, time\nprint({said!r}, flush=True)\nos.fork() or time.sleep(600)", "")
    server = Server("http://h", "m")
    assert not put_under_load(server, built_in(), LoadSettings((1.0,), 1), maker, "/m").steps[0].problem
    try_out("http://h", maker, "/m")
