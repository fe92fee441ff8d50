"""Waiting for a moment without requests, with a real server and real connections."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.cutover.drain import run_hook, wait_for_quiet
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError


class Counting(BaseHTTPRequestHandler):
    """SGLang's count of running requests."""

    running = 0

    def do_GET(self) -> None:
        known = self.path == "/get_load" and Counting.running >= 0
        content = json.dumps([{"num_reqs": Counting.running}]).encode()
        self.send_response(200 if known else 404)
        self.end_headers()
        self.wfile.write(content if known else b"")

    def log_message(self, format: str, *args: object) -> None:
        return


@pytest.fixture
def server() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Counting)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    Counting.running = 0
    yield server
    server.shutdown()
    server.server_close()


def quiet(server: ThreadingHTTPServer, engine: str, timeout: float) -> bool:
    port = server.server_address[1]
    return wait_for_quiet(f"http://127.0.0.1:{port}", engine, port, timeout)


def test_an_engine_that_counts_its_requests_is_asked(server: ThreadingHTTPServer) -> None:
    with socket.create_connection(("127.0.0.1", server.server_address[1])):  # kept open, and nobody is answered
        assert quiet(server, "sglang", 5)
        Counting.running = 2
        assert not quiet(server, "sglang", 0.3)
        threading.Timer(0.4, lambda: setattr(Counting, "running", 0)).start()
        assert quiet(server, "sglang", 20)


def test_of_another_engine_connections_count(server: ThreadingHTTPServer) -> None:
    assert quiet(server, "llamafactory", 5)
    with socket.create_connection(("127.0.0.1", server.server_address[1])) as client:
        time.sleep(0.05)
        assert not quiet(server, "llamafactory", 0.2)
        threading.Timer(0.3, client.close).start()
        assert quiet(server, "llamafactory", 20)


def test_an_sglang_that_does_not_count_is_judged_by_its_connections(server: ThreadingHTTPServer) -> None:
    Counting.running = -1
    assert quiet(server, "sglang", 5)


def test_a_hook_that_passes_says_nothing() -> None:
    run_hook("drain", [], 5)
    run_hook("drain", [sys.executable, "-c", "print('ok')"], 20)


@pytest.mark.parametrize(
    ("command", "timeout", "message"),
    [
        (
            [sys.executable, "-c", "import sys; print('no such backend'); sys.exit(4)"],
            20,
            "ended with 4: no such backend",
        ),
        ([sys.executable, "-c", "import time; time.sleep(60)"], 0.3, "took longer than 0.3 s"),
        (["/nowhere/gateway"], 5, r"\(/nowhere/gateway\) cannot be run: No such file or directory"),
    ],
)
def test_a_hook_that_fails_is_said(command: list[str], timeout: float, message: str) -> None:
    with pytest.raises(DeployError, match=message):
        run_hook("drain", command, timeout)
