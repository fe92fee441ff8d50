"""What a server says of itself, in the shapes that engines' versions give it."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import probes

Answers = dict[str, tuple[int, Any]]
INFO = ("/model_info", "/get_model_info")


class Server(ThreadingHTTPServer):
    """Answers each path with what the test puts there."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers: Answers = {}
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        status, value = self.server.answers.get(self.path, (404, {}))
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.mark.parametrize(
    ("answers", "running"),
    [
        ({"/v1/loads": (200, {"loads": [{"num_running_reqs": 0, "num_waiting_reqs": 0}]})}, 0),
        (
            {
                "/v1/loads": (
                    200,
                    {
                        "loads": [
                            {"num_running_reqs": 3, "num_waiting_reqs": 1, "queues": {"grammar": 2, "waiting": 1}},
                            {"num_running_reqs": 4},
                        ]
                    },
                )
            },
            10,
        ),
        ({"/get_load": (200, [{"dp_rank": 0, "num_reqs": 5, "num_waiting_reqs": 2, "num_tokens": 900}])}, 5),
        ({"/get_load": (200, {"load": 812})}, 1),
        ({"/get_load": (200, {"load": 0})}, 0),
        ({"/v1/loads": (200, {"loads": []})}, None),
        ({"/v1/loads": (200, {"loads": [{"tokens": 1}]})}, None),
        ({"/v1/loads": (200, ["x"])}, None),
        ({"/v1/loads": (200, b"metrics 1\n")}, None),
        ({"/v1/loads": (401, {}), "/get_load": (200, {"load": 0})}, None),
        ({"/v1/loads": (200, {"loads": [{"num_running_reqs": "many"}]})}, 0),
        ({}, None),
    ],
)
def test_running_requests_are_counted_where_an_sglang_tells(
    server: Server, answers: Answers, running: int | None
) -> None:
    server.answers = answers
    assert probes.running_requests(server.url, "sglang") == running


def test_other_engines_do_not_tell_how_busy_they_are(server: Server) -> None:
    server.answers = {"/v1/loads": (200, {"loads": [{"num_running_reqs": 1}]})}
    for engine in ("llamafactory", "vllm", "unknown"):
        assert probes.running_requests(server.url, engine) is None
    assert probes.running_requests("http://127.0.0.1:1", "sglang") is None


def test_an_identity_is_told_by_the_newest_path_that_is_there(server: Server) -> None:
    assert probes.identity(server.url, INFO, "weight_version", 5) is None
    server.answers["/get_model_info"] = (200, {"weight_version": "old"})
    assert probes.identity(server.url, INFO, "weight_version", 5) == "old"
    server.answers["/model_info"] = (200, {"weight_version": "new"})
    assert probes.identity(server.url, INFO, "weight_version", 5) == "new"
    server.answers["/model_info"] = (200, {"model_path": "/m"})
    assert probes.identity(server.url, INFO, "weight_version", 5) is None
    server.answers["/model_info"] = (500, {})
    with pytest.raises(probes.ProbeError, match=r"identity: .* answered 500"):
        probes.identity(server.url, INFO, "weight_version", 5)


def test_an_engine_without_a_readiness_path_is_ready_with_any_answer(server: Server) -> None:
    probes.ready(server.url, "", 5)
    with pytest.raises(probes.ProbeError, match="answered 404"):
        probes.ready(server.url, "/health", 5)
    with pytest.raises(probes.ProbeError, match="readiness"):
        probes.ready("http://127.0.0.1:1", "", 5)
