"""An OpenAI API in memory: it counts a token a word, and adds a system prompt where it is told to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.measuring.exchange import Client, Response

Messages = Sequence[Mapping[str, Any]]


@dataclass(frozen=True)
class Asked:
    """A request as a server sees it: `body` is None for one that only looks."""

    path: str
    body: Any = None
    key: str = ""


def ok(value: Any) -> Response:
    """An answer with JSON."""
    return Response(200, json.dumps(value).encode())


@dataclass
class Double:
    """A server.

    Args:
        system: the system prompt that it adds where a request has none.
        models: that it lists.
        engine: of the paths that it has: sglang, llamafactory, vllm or ''.
        markup: tokens of each prompt beside its words.
        refuses: says why a request is refused; '' where it is not.
        answer: the text of an answer, made from the rendered prompt.
        more: keys of the message beside its content.
        key: that it wants; '' for none.
    """

    system: str = ""
    models: Sequence[str] = ("code2sql",)
    engine: str = "sglang"
    markup: int = 5
    refuses: Callable[[Messages], str] = lambda messages: ""
    answer: Callable[[str], str] = lambda prompt: f"SELECT {len(prompt)}"
    finish: str = "stop"
    more: Mapping[str, Any] = field(default_factory=dict)
    usage: bool = True
    key: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)

    def __call__(self, request: Asked) -> Response:
        if self.key != request.key and self.key:
            return Response(401, b"Unauthorized")
        found = self._looked_at().get(request.path)
        if found is not None:
            return ok(found)
        return Response(404, b"") if request.body is None else self._chat(request.body)

    def _looked_at(self) -> dict[str, Any]:
        shown: dict[str, Any] = {"/v1/models": {"data": [{"id": name} for name in self.models]}}
        if self.engine == "sglang":
            info = {"version": "0.5.23", "model_path": "/m", "tp_size": 2, "api_key": "secret", "chat_template": None}
            shown["/server_info"] = info
        elif self.engine == "llamafactory":
            shown["/openapi.json"] = {"paths": {"/v1/score/evaluation": {}}}
        elif self.engine == "vllm":
            shown["/version"] = {"version": "0.11.0"}
        return shown

    def _chat(self, body: dict[str, Any]) -> Response:
        self.asked.append(body)
        messages = body["messages"]
        refusal = self.refuses(messages)
        if refusal:
            return Response(400, json.dumps({"detail": refusal}).encode())
        texts = [str(one["content"]) for one in messages]
        if self.system and messages[0]["role"] != "system":
            texts.insert(0, self.system)
        prompt = " ".join(texts)
        text = self.answer(prompt)
        usage = {
            "prompt_tokens": len(prompt.split()) + self.markup * len(texts),
            "completion_tokens": len(text.split()),
        }
        choice = {"message": {"role": "assistant", "content": text, **self.more}, "finish_reason": self.finish}
        return ok({"choices": [choice], "usage": usage if self.usage else None})


def serve(monkeypatch: pytest.MonkeyPatch, **servers: Callable[[Asked], Response]) -> None:
    """Let clients reach these servers, each by its name: http://NAME:8001."""

    def answer(client: Client, url: str, seconds: float, body: Mapping[str, Any] | None) -> Response:
        parts = urlsplit(url)
        if parts.hostname not in servers:
            raise ConnectionRefusedError("connection refused")
        return servers[parts.hostname](Asked(parts.path, body, client.key))

    monkeypatch.setattr(Client, "answer", answer)
