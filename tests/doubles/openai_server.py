"""A test double: a server that speaks as much of the OpenAI API as the gate asks for, and misbehaves on request.

Standard library only; run as `python openai_server.py --port P --served-model-name N [--fault FAULT]`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STARTED = time.monotonic()
FAULTS = (
    "none",
    "exit",  # ends at once with status 7
    "wrong-name",  # serves another name than it was given
    "hang",  # listens, never ready
    "no-done",  # its stream ends without [DONE]
    "die-soon",  # ends one second after it was first ready
    "ignore-term",  # does not end on SIGTERM
    "orphan",  # leaves a child behind when it ends
    "half-answer",  # dies in the middle of its first chat completion
    "endless",  # its stream never ends
    "slow",  # listens, ready only after three seconds
)


class Handler(BaseHTTPRequestHandler):
    """Answers the gate's probes."""

    protocol_version = "HTTP/1.0"
    name = ""
    fault = "none"

    def do_GET(self) -> None:
        if self.path == "/health":
            loading = self.fault == "slow" and time.monotonic() - STARTED < 3
            self._answer({}, 503 if self.fault == "hang" or loading else 200)
            if self.fault == "die-soon":
                threading.Timer(1.0, os._exit, (9,)).start()
        elif self.path == "/v1/models":
            self._answer({"data": [{"id": "someone-else" if self.fault == "wrong-name" else self.name}]})
        else:
            self._answer({"error": "not found"}, 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body.get("stream"):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'data: {"choices": [{"delta": {"content": "hi"}}]}\n\n')
            with contextlib.suppress(BrokenPipeError):
                while self.fault == "endless":
                    self.wfile.write(b'data: {"choices": [{"delta": {"content": "hi"}}]}\n\n')
                    time.sleep(0.2)
            if self.fault not in ("no-done", "endless"):
                self.wfile.write(b"data: [DONE]\n\n")
        elif self.fault == "half-answer":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [')
            self.wfile.flush()
            os._exit(11)
        else:
            self._answer({"choices": [{"message": {"content": "hi"}}], "usage": {"completion_tokens": 1}})

    def _answer(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        print(format % args, flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options: SGLang's names for what both have."""
    parser.add_argument("--model-path")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--fault", choices=FAULTS, default="none")


def main() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = parser.parse_args()
    print(f"double starts with fault {given.fault}", flush=True)
    if given.fault == "exit":
        sys.exit(7)
    if given.fault == "ignore-term":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    if given.fault == "orphan":
        subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({5 * 60})"])
    Handler.name, Handler.fault = given.served_model_name, given.fault
    server = ThreadingHTTPServer((given.host, given.port), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
