"""A test double: a server with as much of the API as a client kit asks for, in SGLang's way or in LLaMA-Factory's."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Behaviour:
    """What the server is like.

    Args:
        sglang: has /health, /model_info and limits, as SGLang; otherwise as LLaMA-Factory.
        model: the name that it lists.
        release: that it tells.
        context: tokens; a word has one.
        truncates: answers too long a prompt.
        checks_names: refuses a name that it does not list.
        key: that it asks for; '' for none.
        health: status of /health.
        cuts_streams: its streams end without [DONE].
        moved_to: answers every request with a redirect to this URL.
        answers: with this text, whatever it is asked; '' for what it is asked.
    """

    sglang: bool = True
    model: str = "code2sql"
    release: str = "0123456789ab"
    context: int = 1000
    truncates: bool = False
    checks_names: bool = False
    key: str = ""
    health: int = 200
    cuts_streams: bool = False
    moved_to: str = ""
    answers: str = ""


class Handler(BaseHTTPRequestHandler):
    """Answers as its server's behaviour says, and remembers what it was asked."""

    server: Any

    def do_GET(self) -> None:
        behaviour = self.server.behaviour
        if not self._admitted(behaviour):
            return
        if self.path == "/health" and behaviour.sglang:
            self._answer({}, behaviour.health)
        elif self.path == "/v1/models":
            card = {"id": behaviour.model, "owned_by": "sglang" if behaviour.sglang else "owner"}
            self._answer({"data": [{**card, "max_model_len": behaviour.context} if behaviour.sglang else card]})
        elif self.path == "/model_info" and behaviour.sglang:
            self._answer({"weight_version": behaviour.release})
        elif self.path == "/server_info" and behaviour.sglang:
            self._answer({"max_total_num_tokens": behaviour.context * 4, "max_req_input_len": behaviour.context - 6})
        else:
            self._answer({"detail": "Not Found"}, 404)

    def do_POST(self) -> None:
        behaviour = self.server.behaviour
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        if not self._admitted(behaviour):
            return
        words = len(body["messages"][0]["content"].split())
        if behaviour.checks_names and body["model"] != behaviour.model:
            self._answer({"error": {"message": f"no model {body['model']}"}}, 404)
        elif behaviour.sglang and words >= behaviour.context and not behaviour.truncates:
            self._answer({"object": "error", "message": f"The input ({words} tokens) is too long."}, 400)
        elif body.get("stream"):
            self._stream(behaviour)
        else:
            usage = {"prompt_tokens": words + 9, "completion_tokens": 2}
            choice = {"index": 0, "message": {"role": "assistant", "content": "hi there"}, "finish_reason": "stop"}
            self._answer({"id": "1", "model": body["model"], "choices": [choice], "usage": usage})

    def _admitted(self, behaviour: Behaviour) -> bool:
        if behaviour.moved_to:
            self.send_response(307)
            self.send_header("Location", behaviour.moved_to + self.path)
            self.end_headers()
        elif behaviour.answers:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(behaviour.answers.encode())
        elif behaviour.key and self.headers.get("Authorization") != f"Bearer {behaviour.key}":
            self._answer({"error": "Unauthorized"}, 401)
        else:
            return True
        return False

    def _stream(self, behaviour: Behaviour) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        chunk = {"choices": [{"index": 0, "delta": {"content": "hi"}, "finish_reason": None}]}
        for _ in range(3):
            self.wfile.write(f"data: {json.dumps(chunk)}\n\n".encode())
        if not behaviour.cuts_streams:
            self.wfile.write(b"data: [DONE]\n\n")

    def _answer(self, value: Any, status: int = 200) -> None:
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def chat_server(behaviour: Behaviour) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """The URL of a server, and the bodies of the requests that it gets.

    Args:
        behaviour: what it is like.
    """
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.behaviour, server.bodies = behaviour, []  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", server.bodies  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()
