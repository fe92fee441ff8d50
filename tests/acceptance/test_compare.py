"""LLaMA-Factory and SGLang compared, the real ones on this machine's CPU: by every command of docs/compare.md."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import supervisor_for
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import stop
from demo.inputs import default_cache, make_inputs
from tests.documented.blocks import Command, read

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "compare.md"
FLEET = "-i fleet/hosts.yml"
SERVICE, NEW_PORT, OLD_PORT = "tiny", 18021, 18022
STARTS_WITHIN = 300  # seconds on a busy machine
QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
# A load that says nothing about the engines, and is over soon.
SHORT = ("--rates", "2,max", "--requests", "4", "--max-tokens", "8")


@dataclass(frozen=True)
class Engines:
    """Both engines, serving.

    Args:
        root: that they were deployed to.
        folder: that commands are typed in.
    """

    root: Path
    folder: Path

    old, new = f"http://127.0.0.1:{OLD_PORT}", f"http://127.0.0.1:{NEW_PORT}"

    @property
    def python(self) -> Path:
        """The environment with SGLang."""
        return next((self.root / "artifacts" / "environments").glob("sglang-*"))

    @property
    def model(self) -> Path:
        """The folder of the model, with its tokenizer."""
        return next((self.root / "artifacts" / "models").glob(f"{SERVICE}-*"))

    def compare(self, *words: str) -> subprocess.CompletedProcess[str]:
        """`python -m deployer compare`."""
        return typed(self.folder, "compare", *words)

    def told(self, *words: str) -> dict[str, Any]:
        """What `compare --json` prints."""
        done = self.compare(*words, "--json")
        assert done.returncode in (0, 1), done.stderr
        value: dict[str, Any] = json.loads(done.stdout)
        return value


def typed(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """A command of the package, in a folder."""
    command = [sys.executable, "-m", "deployer", *words]
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1", **variables}
    done = subprocess.run(
        command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=1200
    )
    print(f"$ {shlex.join(command)}\n{done.stdout}{done.stderr}\n[exit {done.returncode}]")
    return done


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engines]:
    """SGLang as the demo deploys it, and its predecessor on a port of its own beside it."""
    make_inputs(default_cache())
    # Gigabytes, which pytest would keep for three runs.
    with tempfile.TemporaryDirectory(prefix="sglang-deployer-compare-") as root:
        yield from both(Engines(Path(root), tmp_path_factory.mktemp("typed")))


def both(found: Engines) -> Iterator[Engines]:
    """Start both, and end them."""
    service = Store(str(found.root)).service(SERVICE)
    old = None
    try:
        inventory = str(REPOSITORY / "inventory" / "local" / "hosts.yml")
        words = ("rollout", "-i", inventory, "--yes", "-e", json.dumps({"inference_root": str(found.root)}))
        assert typed(found.folder, *words, DEMO_PORT=str(NEW_PORT)).returncode == 0
        launch = (found.root / "services" / SERVICE / "predecessor" / "launch.sh").read_text()
        script = found.folder / "llamafactory.sh"
        script.write_text(launch.replace(f"API_PORT={NEW_PORT}", f"API_PORT={OLD_PORT}"))
        with (found.folder / "llamafactory.log").open("wb") as log:
            old = subprocess.Popen(["sh", str(script)], stdout=log, stderr=log, start_new_session=True)
        wait_for(found.old, old)
        yield found
    finally:
        if old is not None:
            os.killpg(old.pid, signal.SIGTERM)
            old.wait(timeout=60)
        if (found.root / "services" / SERVICE).is_dir():
            stop(supervisor_for("process", SERVICE, service), NEW_PORT, 30)


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + STARTS_WITHIN
    while True:
        assert process.poll() is None and time.monotonic() < deadline, f"{url} did not come"
        try:
            if httpx.get(f"{url}/v1/models", trust_env=False).status_code == 200:
                return
        except httpx.HTTPError:
            time.sleep(1)


@pytest.mark.slow
def test_the_system_prompt_that_a_template_adds_is_found_and_named(engines: Engines) -> None:
    told = engines.told("--parity", engines.old, engines.new)
    assert (told["old"]["engine"], told["new"]["engine"], told["new"]["version"]) == (
        "llamafactory",
        "sglang",
        "0.5.23",
    )
    first = told["parity"]["explanations"][0]
    assert first["id"] == "system-prompt" and "the old server adds" in first["says"] and QWEN in first["says"]
    more = {pair["messages"][0]["role"]: pair["prompt_tokens_more"] for pair in told["parity"]["prompts"]}
    assert more["system"] == 0 > more["user"]


@pytest.mark.slow
def test_a_server_answers_as_it_does_itself(engines: Engines) -> None:
    assert engines.compare("--parity", "--rendering-only", engines.new, engines.new).returncode == 0


@pytest.mark.slow
def test_both_are_measured_under_load_by_the_benchmark_of_sglang(engines: Engines) -> None:
    maker = ("--python", str(engines.python), "--tokenizer", str(engines.model))
    told = engines.told("--load", *maker, *SHORT, engines.old, engines.new)
    for who in ("old", "new"):
        assert told["load"][who]["generator"] == "sglang.benchmark.serving of SGLang 0.5.23"
        assert [(one["rate"], one["sent"], one["failed"]) for one in told["load"][who]["rates"]] == [
            (2.0, 4, 0),
            ("max", 4, 0),
        ]
        assert all(one["latency"]["p99"] >= one["first_token"]["p50"] > 0 for one in told["load"][who]["rates"])
    assert told["parity"] is None


@pytest.mark.slow
def test_every_documented_command_runs(engines: Engines) -> None:
    """The old server stands at gpu1 until the first command that compares, and the new one from then on."""
    seen: list[Mapping[str, Any]] = []
    for command in (one for one in read(PAGE.read_text()) if isinstance(one, Command)):
        if FLEET in command.line:  # tests/lab/test_compare.py runs those
            continue
        line = command.line.replace("http://gpu2:8001", engines.new)
        line = line.replace("http://gpu1:8001", engines.new if "--against" in line else engines.old)
        line = line.replace("/opt/conda/envs/sglang", str(engines.python)).replace(
            "/data/saves/qwen3-14b-ft", str(engines.model)
        )
        words = shlex.split(line)[3:]
        if "--rates" in words:
            words[words.index("--rates") : words.index("--requests") + 2] = SHORT
        done = typed(engines.folder, *words)
        if "--into" in words:
            folder = engines.folder / words[words.index("--into") + 1]
            assert (folder / "report.html").read_text().startswith("<!doctype html>")
            seen.append(json.loads((folder / "comparison.json").read_text()))
        differs = "--record" not in words
        if "--no-worse" in words:  # which of two servers is faster in so few requests is chance
            differs = bool(seen[-1]["load"]["misses"])
        assert done.returncode == int(differs), line
    assert [one["load"] is not None for one in seen] == [False, True]
