"""The gate, at a server in this very process: what it takes to pass, and what each failing is called."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import procfs
from ansible_collections.deployer.sglang.plugins.module_utils.cutover import gate as gate_module
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.gate import (
    LOG_LINES,
    GateFailure,
    Subject,
    pass_gate,
)
from ansible_collections.deployer.sglang.plugins.module_utils.release import Artifact, Release, StagedRelease
from ansible_collections.deployer.sglang.plugins.module_utils.service import Gate, Generation
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import RunState

RELEASE = "0123456789ab"
GATE = Gate(ready_timeout=1, progress_timeout=1, min_healthy_time=0, request_timeout=5)


class Engine(ThreadingHTTPServer):
    """An SGLang in this process, as far as the gate asks it."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.port = self.server_address[1]
        self.ready = True
        self.weight_version: str | None = RELEASE
        self.text = "The answer is 4."
        self.seconds: list[float] = []  # how long the next answers take
        self.asked: list[dict[str, Any]] = []


class _Handler(BaseHTTPRequestHandler):
    server: Engine

    def do_GET(self) -> None:
        engine = self.server
        if self.path == "/health":
            self._answer({}, 200 if engine.ready else 503)
        elif self.path == "/v1/models":
            self._answer({"data": [{"id": "code2sql"}]})
        elif self.path == "/model_info" and engine.weight_version is not None:
            self._answer({"weight_version": engine.weight_version})
        else:
            self._answer({}, 404)

    def do_POST(self) -> None:
        engine = self.server
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["stream"]:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'data: {"choices": []}\n\ndata: [DONE]\n\n')
            return
        engine.asked.append(body)
        if body["messages"][0]["content"] != GATE.prompt and engine.seconds:
            time.sleep(engine.seconds.pop(0))
        self._answer({"choices": [{"message": {"content": engine.text}}]})

    def _answer(self, value: Any, status: int = 200) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class Supervisor:
    """Says that this process is the service's, or whichever other one; logs what the test says."""

    def __init__(self) -> None:
        self.pid: int | None = os.getpid()
        self.exit = ""
        self.log: list[str] = []

    def state(self) -> RunState:
        if self.pid is None:
            return RunState(None, frozenset(), exit=self.exit)
        return RunState(self.pid, frozenset({self.pid}), procfs.start_time_of(self.pid), RELEASE)

    def log_tail(self, lines: int) -> str:
        return "\n".join(self.log[-lines:])


@pytest.fixture
def engine() -> Iterator[Engine]:
    with Engine() as engine:
        threading.Thread(target=engine.serve_forever, args=(0.01,), daemon=True).start()
        yield engine
        engine.shutdown()


@pytest.fixture
def supervisor() -> Supervisor:
    return Supervisor()


@pytest.fixture
def subject(engine: Engine, supervisor: Supervisor, tmp_path: Path) -> Subject:
    release = Release(
        service="code2sql",
        engine="sglang",
        argv=("python",),
        variables={},
        environment=Artifact("x", "e" * 64, "/x"),
        model=Artifact("m", "d" * 64, str(tmp_path)),
        served_name="code2sql",
        gpus=(),
        host="127.0.0.1",
        port=engine.port,
        supervisor="process",
        user="",
        root=str(tmp_path),
        working_directory=str(tmp_path),
        stop_timeout=1,
        identity_option="--weight-version",
    )
    return Subject(StagedRelease(RELEASE, release, "", ""), supervisor)  # type: ignore[arg-type]


def failure(subject: Subject, gate: Gate = GATE) -> GateFailure:
    with pytest.raises(GateFailure) as raised:
        pass_gate(subject, gate)
    return raised.value


def asking(*generations: Generation) -> Gate:
    return dataclasses.replace(GATE, generations=generations)


def changed(subject: Subject, **changes: Any) -> Subject:
    release = dataclasses.replace(subject.staged.release, **changes)
    return dataclasses.replace(subject, staged=dataclasses.replace(subject.staged, release=release))


def test_a_release_that_serves_passes_and_its_process_is_named(subject: Subject, engine: Engine) -> None:
    assert pass_gate(subject, GATE).main_pid == os.getpid()
    assert [one["max_tokens"] for one in engine.asked] == [GATE.max_tokens]


def test_the_generations_are_asked_and_have_to_hold_their_pattern(subject: Subject, engine: Engine) -> None:
    pass_gate(subject, asking(Generation("2+2?", r"\b4\b", 5, 16), Generation("Anything?")))
    assert [one["messages"][0]["content"] for one in engine.asked] == [GATE.prompt, "2+2?", "Anything?"]
    assert engine.asked[1]["max_tokens"] == 16
    failed = failure(subject, asking(Generation("2+2?", "4"), Generation("2+2?", r"\b5\b")))
    assert failed.probe == failed.failure.kind == "generation"
    assert "2 of 2: pattern: '\\\\b5\\\\b' is not in the answer 'The answer is 4.'" in failed.reason


def test_an_answer_that_is_late_once_may_have_compiled_kernels(subject: Subject, engine: Engine) -> None:
    engine.seconds = [0.5]
    pass_gate(subject, asking(Generation("2+2?", "4", 0.3)))
    assert len(engine.asked) == 3
    engine.seconds = [0.5, 0.5]
    failed = failure(subject, asking(Generation("2+2?", "4", 0.3)))
    assert failed.failure.kind == "generation"
    assert re.search(r"latency: the second answer took 0\.\d s as well, max_latency is 0\.3 s", failed.reason)


def test_an_engine_that_tells_another_release_s_id_does_not_pass(subject: Subject, engine: Engine) -> None:
    engine.weight_version = "default"
    failed = failure(subject)
    assert failed.probe == failed.failure.kind == "identity"
    assert failed.reason == f"identity: weight_version is default, started was release {RELEASE}"
    pass_gate(changed(subject, identity_option=""), GATE)
    engine.weight_version = None  # a version without the path
    pass_gate(subject, GATE)


def test_of_a_program_of_no_known_engine_an_answer_is_all_that_is_asked(subject: Subject, engine: Engine) -> None:
    unknown = changed(subject, engine="unknown", served_name="", identity_option="")
    engine.ready = False
    pass_gate(unknown, asking(Generation("2+2?", "5")))
    assert engine.asked == []


def test_a_silent_engine_is_given_up_at_the_first_deadline(
    subject: Subject, engine: Engine, supervisor: Supervisor
) -> None:
    engine.ready = False
    supervisor.log = ["hello"]
    failed = failure(subject)
    assert failed.probe == "readiness"
    assert re.search(r"not ready after [12] s; readiness: .*/health answered 503", failed.reason)
    assert (failed.failure.kind, failed.failure.evidence) == ("timeout", ("hello",))


def test_an_engine_whose_log_shows_progress_is_waited_for(
    subject: Subject, engine: Engine, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_module, "LOG_PAUSE", 0.1)
    engine.ready = False

    def load() -> None:
        for shard in range(5):
            supervisor.log.append(f"Loading safetensors checkpoint shards: {shard}/5")
            time.sleep(0.5)
        engine.ready = True

    threading.Thread(target=load, daemon=True).start()
    pass_gate(subject, GATE)
    assert len(supervisor.log) == 5


def test_progress_that_stops_is_named(subject: Subject, engine: Engine, supervisor: Supervisor) -> None:
    engine.ready = False
    supervisor.log = ["Load weight begin. avail mem=70 GB"]
    assert failure(subject).reason.endswith("its last progress was: Load weight begin. avail mem=70 GB")


def test_a_process_that_dies_ends_the_waiting_and_its_log_says_why(
    subject: Subject, engine: Engine, supervisor: Supervisor
) -> None:
    engine.ready = False
    cause = "torch.OutOfMemoryError: CUDA out of memory."
    supervisor.log = [cause, *(f"line {number}" for number in range(50))]

    def die() -> None:
        supervisor.exit, supervisor.pid = "exit status 137", None

    threading.Timer(0.5, die).start()
    failed = failure(subject, dataclasses.replace(GATE, ready_timeout=600))
    assert (failed.probe, failed.reason) == ("process", "the service's process ended with exit status 137")
    assert (failed.failure.kind, failed.failure.evidence) == ("out-of-memory", (cause,))
    assert len(failed.log.splitlines()) == LOG_LINES


def test_of_a_process_that_died_for_its_port_it_is_said_who_has_that(subject: Subject, supervisor: Supervisor) -> None:
    supervisor.log = ["ERROR: [Errno 98] error while attempting to bind on address: address already in use"]
    supervisor.exit, supervisor.pid = "exit status 1", None
    failed = failure(subject)
    assert f"is held by pid {os.getpid()} of" in failed.reason
    assert (failed.failure.kind, failed.failure.evidence) == ("port", tuple(supervisor.log))


def test_a_port_that_somebody_else_has_is_not_waited_for(
    subject: Subject, supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gate_module, "STRANGER_PATIENCE", 0.6)
    supervisor.pid = os.getppid()
    failed = failure(subject, dataclasses.replace(GATE, ready_timeout=600))
    assert (failed.probe, failed.failure.kind) == ("process", "port")
    assert f"is held by pid {os.getpid()} of" in failed.reason


def test_what_is_shown_of_a_log_has_no_control_characters_and_no_secrets() -> None:
    failed = GateFailure("cutover", "disk full", "\x1b[31mred\x1b[0m\napi_key=hush")
    assert failed.log == "red\napi_key=***"
    assert failed.failure.kind == "other"
