"""A test double: a server that speaks as much of the OpenAI API as the gate asks for, and misbehaves on request.

Standard library only; run as `python openai_server.py --port P --served-model-name N [--fault FAULT]`.
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

STARTED = time.monotonic()
DRAIN = 5  # seconds that slow-stop takes from SIGTERM to its end
SHARDS = 4  # as many lines of progress, half a second apart, from a double that loads slowly
MEMORY_STEP = 16 * 2**20  # bytes that oom takes at once
SYSTEM_TOKENS = 15
MEMORY_LIMIT = 2**30  # bytes; where nobody stops it, oom stops there
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
    "load-slowly",  # says how far it is, listens only after two seconds
    "die-loading",  # says how far it is, ends with status 1 before it listens
    "hang-loading",  # begins to load and says nothing more, never listens
    "oom",  # takes more and more memory while it loads
    "slow-stop",  # answers for five more seconds after SIGTERM
    "adds-system",  # puts a system prompt of SYSTEM_TOKENS where a request has none
    "fork-survivors",  # leaves children behind, in sessions of their own, deaf to SIGTERM, that hold its port
)


class Handler(BaseHTTPRequestHandler):
    """Answers the gate's probes."""

    protocol_version = "HTTP/1.0"
    name = ""
    release = ""
    fault = "none"
    draining = False

    def do_GET(self) -> None:
        if self.path == "/health":
            loading = self.fault == "slow" and time.monotonic() - STARTED < 3
            self._answer({}, 503 if self.fault == "hang" or loading or self.draining else 200)
            if self.fault == "die-soon":
                threading.Timer(1.0, os._exit, (9,)).start()
        elif self.path == "/v1/models":
            self._answer({"data": [{"id": "someone-else" if self.fault == "wrong-name" else self.name}]})
        elif self.path == "/model_info":
            self._answer({"weight_version": self.release})
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
            usage = {"completion_tokens": 1, "prompt_tokens": self._prompt_tokens(body["messages"])}
            self._answer({"choices": [{"message": {"content": "hi"}}], "usage": usage})

    def _prompt_tokens(self, messages: list[dict[str, str]]) -> int:
        added = SYSTEM_TOKENS if self.fault == "adds-system" and messages[0]["role"] != "system" else 0
        return added + sum(len(one["content"].split()) for one in messages)

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
    parser.add_argument("--weight-version", default="default")
    parser.add_argument("--max-running-requests", type=int)
    parser.add_argument("--context-length", type=int)
    parser.add_argument("--enable-metrics", action="store_true")
    parser.add_argument("--fault", choices=FAULTS, default="none")


def say(line: str) -> None:
    """One line of the log."""
    print(line, flush=True)


def load(fault: str) -> None:
    """What happens between the start and the first connection, in SGLang's words."""
    if fault not in ("load-slowly", "die-loading", "hang-loading", "oom"):
        return
    say("Load weight begin. avail mem=79.10 GB")
    if fault == "hang-loading":
        while True:
            time.sleep(3600)
    if fault == "oom":
        take_memory()
    for shard in range(1, SHARDS + 1):
        if fault == "die-loading" and shard == SHARDS:
            raise SystemExit("RuntimeError: the file is shorter than its header says")
        time.sleep(0.5)
        done = 100 * shard // SHARDS
        say(f"Loading safetensors checkpoint shards: {done:3d}% Completed | {shard}/{SHARDS}")
    say("Load weight end. type=Qwen3ForCausalLM, dtype=torch.bfloat16, avail mem=50.55 GB")


def take_memory() -> None:
    """Take memory step by step until somebody ends this process, or up to the limit; then only wait."""
    taken = []
    while len(taken) * MEMORY_STEP < MEMORY_LIMIT:
        taken.append(b"x" * MEMORY_STEP)
        time.sleep(0.1)
    while True:
        time.sleep(3600)


def listening(host: str, port: int) -> ThreadingHTTPServer:
    """The server; on a port that another SGLang holds, SGLang takes the other's answers for its own and ends later."""
    try:
        return ThreadingHTTPServer((host, port), Handler)
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
    with contextlib.suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5):
        say("The server is fired up and ready to roll!")
        time.sleep(3)
        sys.exit(3)
    say(f"ERROR: [Errno 98] error while attempting to bind on address ('{host}', {port}): address already in use")
    sys.exit(1)


def leave_survivors(server: ThreadingHTTPServer) -> None:
    """Two children that hold the listening socket, are PID 1's to wait for, and do not end on SIGTERM."""
    server.socket.set_inheritable(True)
    code = f"import os, signal, time\nif os.fork() == 0:\n os.setsid(); signal.signal(15, 1); time.sleep({5 * 60})"
    for _ in range(2):
        subprocess.run([sys.executable, "-c", code], close_fds=False, check=True)


def end(fault: str) -> None:
    """What a SIGTERM does."""
    if fault != "slow-stop":
        os._exit(0)
    say("Gracefully exiting... Remaining number of requests 1")
    Handler.draining = True
    threading.Timer(DRAIN, os._exit, (0,)).start()


def main() -> None:
    parser = argparse.ArgumentParser()
    add_arguments(parser)
    given = parser.parse_args()
    say(f"double starts with fault {given.fault}")
    if given.fault == "exit":
        sys.exit(7)
    if given.fault == "ignore-term":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    else:
        signal.signal(signal.SIGTERM, lambda *_: end(given.fault))
    if given.fault == "orphan":
        subprocess.Popen([sys.executable, "-c", f"import time; time.sleep({5 * 60})"])
    load(given.fault)
    Handler.name, Handler.fault, Handler.release = given.served_model_name, given.fault, given.weight_version
    server = listening(given.host, given.port)
    if given.fault == "fork-survivors":
        leave_survivors(server)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    say("The server is fired up and ready to roll!")
    while True:
        time.sleep(3600)


if __name__ == "__main__":
    main()
