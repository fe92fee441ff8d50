"""A load, made by a double of SGLang's benchmark in an environment of its own."""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.compare import load_child
from deployer.compare.load import put_under_load
from deployer.compare.load_process import Maker
from deployer.compare.measurement import Load, LoadSettings, Server
from deployer.compare.prompts import built_in

DOUBLE = Path(__file__).parents[3] / "doubles" / "benchmark"
# What -I leaves out is put in by hand: the double of SGLang.
PYTHON = f"""#!{sys.executable}
import sys
assert sys.argv[1:3] == ["-I", "-c"]
sys.path.insert(0, {str(DOUBLE)!r})
exec(sys.argv[3])
"""
# Remembers which host it was to reach, and does there what it was told.
SSH = """#!/bin/sh
for word; do
  words="$words $command"
  command=$word
done
echo $words > "$(dirname "$0")/reached"
exec sh -c "$command"
"""


class Chat(BaseHTTPRequestHandler):
    """Answers a single request."""

    keys: ClassVar[list[str]] = []

    def do_POST(self) -> None:
        self.keys.append(self.headers.get("Authorization", ""))
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, *values: Any) -> None: ...


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Chat)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    """An environment."""
    python = tmp_path / "environment" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(PYTHON)
    python.chmod(0o755)
    return python.parents[1]


def put(url: str, prefix: Path, model: str = "code2sql", **settings: Any) -> Load:
    chosen = LoadSettings(**{"rates": (1.0, math.inf), "requests": 3, "timeout": 7.0, **settings})
    return put_under_load(Server(url, model), built_in(), chosen, Maker(str(prefix)), str(prefix))


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
    given = put(url, prefix, "tells").steps[0].requests[0].error.split()
    assert {"OPENAI_API_KEY", "HF_HUB_OFFLINE", "NO_PROXY"} <= set(given)
    assert not {"AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "http_proxy"} & set(given)


def test_the_benchmark_is_given_a_key_that_can_stand_in_a_header(
    url: str, prefix: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret\r")
    assert not put(url, prefix).steps[0].problem
    assert Chat.keys[-1] == "Bearer sk-secret"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret\rmore")
    with pytest.raises(DeployError, match="OPENAI_API_KEY holds characters") as raised:
        put(url, prefix)
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
    assert "--python" in raised.value.fix


def test_what_cannot_work_is_refused_before_anything_is_started(prefix: Path, tmp_path: Path) -> None:
    for settings, problem in (
        ({"rates": ()}, "1 to 10,000 requests"),
        ({"requests": 6000}, "1 to 10,000 requests"),
        ({"rates": (0.0,)}, "not above 0"),
        ({"timeout": math.inf}, "above 0"),
        ({"max_tokens": 0}, "--max-tokens"),
    ):
        with pytest.raises(DeployError, match=problem):
            put("http://127.0.0.1:9", prefix, **settings)
    # The folder that a server names is not taken: a tokenizer's own code would run.
    server = Server("http://127.0.0.1:9", "m", flags={"model_path": str(prefix)})
    with pytest.raises(DeployError, match="there is no Python"):
        put_under_load(server, built_in(), LoadSettings(), Maker(str(tmp_path / "none")), str(prefix))
    for tokenizer, problem in (("", "no folder is named"), ("/not/here", "no folder /not/here")):
        with pytest.raises(DeployError, match=problem):
            put_under_load(server, built_in(), LoadSettings(), Maker(str(prefix)), tokenizer)


@pytest.fixture
def ssh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A double of ssh, first on the path; its folder."""
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "ssh").write_text(SSH)
    (folder / "ssh").chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return folder


def test_a_load_is_made_on_a_host_that_ssh_reaches_and_a_key_stands_in_no_command_line(
    url: str, prefix: Path, ssh: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "k1-secret")
    maker = Maker(f"me@gpu1:{prefix}", ssh_config="/etc/its_config")
    # The tokenizer is a folder there, and not here.
    load = put_under_load(Server(url, "tells"), built_in(), LoadSettings((1.0,), 3), maker, "/only/there")
    assert "OPENAI_API_KEY" in load.steps[0].requests[0].error.split()
    assert (ssh / "reached").read_text() == "-T -o BatchMode=yes -o ConnectTimeout=10 -F /etc/its_config me@gpu1\n"
    assert "k1-secret" not in " ".join(maker.argv)
    assert load.tokenizer == "/only/there"


@pytest.mark.parametrize(
    ("script", "named"),
    [
        ("printf 'NVIDIA H200\\nNVIDIA H200\\nNVIDIA T4\\n'", ["2 x NVIDIA H200", "1 x NVIDIA T4"]),
        ("echo 'NVIDIA-SMI has failed'; exit 9", []),
    ],
)
def test_the_gpus_of_the_machine_that_makes_a_load_are_named(ssh: Path, script: str, named: list[str]) -> None:
    (ssh / "nvidia-smi").write_text(f"#!/bin/sh\n{script}\n")
    (ssh / "nvidia-smi").chmod(0o755)
    assert load_child.gpus() == named
    assert load_child.machine().startswith(f"{platform.node()}, {os.cpu_count()} CPUs, ")


def test_a_host_that_lets_nobody_in_is_named_with_the_fix(url: str, ssh: Path) -> None:
    (ssh / "ssh").write_text("#!/bin/sh\necho 'me@gpu1: Permission denied (publickey).' >&2\nexit 255\n")
    with pytest.raises(DeployError, match=r"ssh gpu1: me@gpu1: Permission denied \(publickey\)") as raised:
        put_under_load(Server(url, "m"), built_in(), LoadSettings(), Maker("gpu1:/opt/conda"), "/m")
    assert raised.value.fix == "log in once by: ssh gpu1"


@pytest.mark.parametrize("greeting", ["Welcome\\n", "[1]\\n{}\\n\\n", "\\033]0;gpu1\\007", "\\377\\n"])
def test_what_a_login_prints_is_no_answer_of_the_benchmark(url: str, prefix: Path, ssh: Path, greeting: str) -> None:
    script = (ssh / "ssh").read_text()
    (ssh / "ssh").write_text(script.replace("exec sh", f"printf '{greeting}'\nexec sh"))
    load = put_under_load(Server(url, "m"), built_in(), LoadSettings((1.0,), 3), Maker(f"gpu1:{prefix}"), "/m")
    assert load.generator == "sglang.benchmark.serving of SGLang 0.5.23"
    assert [step.problem for step in load.steps] == [""]


def test_a_host_that_only_greets_has_measured_nothing(url: str, ssh: Path) -> None:
    (ssh / "ssh").write_text("#!/bin/sh\necho Welcome\n")
    with pytest.raises(DeployError, match="cannot be run by gpu1:/opt/conda: it ended with 0"):
        put_under_load(Server(url, "m"), built_in(), LoadSettings(), Maker("gpu1:/opt/conda"), "/m")


def test_a_host_that_does_not_read_its_order_is_given_up(url: str, ssh: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("deployer.compare.load.STARTING", 0.5)
    (ssh / "ssh").write_text("#!/bin/sh\nexec sleep 600\n")
    settings = LoadSettings((1.0, 2.0, 4.0), requests=300)
    with pytest.raises(DeployError, match="the load has said nothing"):
        put_under_load(Server(url, "m"), built_in(), settings, Maker("gpu1:/opt/conda"), "/m")


@pytest.mark.parametrize("place", ["-oProxyCommand=x:/opt", "gpu1:relative", "gpu1 x:/opt"])
def test_what_is_no_host_with_a_folder_is_a_place_here(place: str) -> None:
    assert Maker(place).host == ""
    with pytest.raises(DeployError, match="there is no Python"):
        Maker(place).argv  # noqa: B018


def test_the_python_itself_may_be_named_as_well() -> None:
    for place in ("gpu1:/opt/conda", "gpu1:/opt/conda/", "gpu1:/opt/conda/bin/python"):
        assert Maker(place).argv[-1].startswith("exec /opt/conda/bin/python -I -c ")


def test_what_makes_a_load_ends_with_whoever_wanted_it() -> None:
    waits = "__import__('time').sleep(600)"
    program = Path(load_child.__file__).read_text().replace("        benchmark = imported()", f"        {waits}", 1)
    with subprocess.Popen([sys.executable, "-I", "-c", program], stdin=subprocess.PIPE) as process:
        assert process.stdin is not None
        process.stdin.write(b'{"variables": {}}\n')
        process.stdin.close()
        assert process.wait(timeout=60) == 1
