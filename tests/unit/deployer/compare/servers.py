"""An OpenAI API in memory, behind httpx: it counts a token a word, and adds a system prompt where it is told to."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from deployer.compare import asking

Messages = Sequence[Mapping[str, Any]]


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

    def __call__(self, request: httpx.Request) -> httpx.Response:
        if self.key and request.headers.get("Authorization") != f"Bearer {self.key}":
            return httpx.Response(401, text="Unauthorized")
        found = self._looked_at().get(request.url.path)
        if found is not None:
            return httpx.Response(200, json=found)
        return self._chat(json.loads(request.content)) if request.method == "POST" else httpx.Response(404)

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

    def _chat(self, body: dict[str, Any]) -> httpx.Response:
        self.asked.append(body)
        messages = body["messages"]
        refusal = self.refuses(messages)
        if refusal:
            return httpx.Response(400, json={"detail": refusal})
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
        return httpx.Response(200, json={"choices": [choice], "usage": usage if self.usage else None})


def serve(monkeypatch: pytest.MonkeyPatch, **servers: Callable[[httpx.Request], httpx.Response]) -> None:
    """Let `asking` reach these servers, each by its name: http://NAME:8001."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host not in servers:
            raise httpx.ConnectError("connection refused", request=request)
        return servers[request.url.host](request)

    def client() -> httpx.Client:
        return httpx.Client(transport=httpx.MockTransport(answer), headers=asking.credentials())

    monkeypatch.setattr(asking, "client", client)
