"""What docs/llamafactory.md says of both engines' APIs, asked of the real ones on this machine's CPU."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Mapping
from typing import Any

import httpx
import pytest

from tests.acceptance.test_compare import Engines, engines

__all__ = ["engines"]
pytestmark = pytest.mark.slow

PATIENCE = 300  # seconds, for an answer on a busy machine
QUESTION = [{"role": "user", "content": "How many rows has the table t?"}]
SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
TOOL = {"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}


def post(url: str, body: Mapping[str, Any], path: str = "/v1/chat/completions") -> httpx.Response:
    return httpx.post(f"{url}{path}", json=body, timeout=PATIENCE, trust_env=False)


def asked(url: str, **more: Any) -> httpx.Response:
    """A chat at temperature 0, of 16 tokens unless said otherwise."""
    return post(url, {"model": "tiny", "messages": QUESTION, "max_tokens": 16, "temperature": 0, **more})


def answer(url: str, **more: Any) -> dict[str, Any]:
    value: dict[str, Any] = asked(url, **more).json()
    return {**value["choices"][0], "usage": value["usage"]}


def streamed(url: str, **more: Any) -> list[tuple[float, dict[str, Any]]]:
    """What a stream brings, each with the time at which it came."""
    body = {"model": "tiny", "messages": QUESTION, "temperature": 0, "stream": True, **more}
    found = []
    with httpx.stream("POST", f"{url}/v1/chat/completions", json=body, timeout=PATIENCE, trust_env=False) as stream:
        for line in stream.iter_lines():
            if line.startswith("data: {"):
                found.append((time.monotonic(), json.loads(line[len("data: ") :])))
    return found


def content_times(events: list[tuple[float, dict[str, Any]]]) -> list[float]:
    return [at for at, one in events if one["choices"] and one["choices"][0]["delta"].get("content")]


def test_only_sglang_has_what_monitors_and_gateways_ask_for(engines: Engines) -> None:
    for path in ("/health", "/metrics", "/model_info", "/v1/loads"):
        codes = [
            httpx.get(url + path, timeout=PATIENCE, trust_env=False).status_code for url in (engines.old, engines.new)
        ]
        assert codes == [404, 200], path
    body = {"model": "tiny", "prompt": "select", "max_tokens": 2}
    assert [post(url, body, "/v1/completions").status_code for url in (engines.old, engines.new)] == [404, 200]
    told = httpx.get(f"{engines.new}/v1/models", trust_env=False).json()["data"][0]
    assert told["max_model_len"] == 2048


def test_what_llamafactory_takes_and_leaves_out(engines: Engines) -> None:
    plain = {url: answer(url, max_tokens=32)["message"]["content"] for url in (engines.old, engines.new)}
    for more in (
        {"stop": [plain[engines.old][6:8]]},
        {"frequency_penalty": 1.5},
        {"response_format": {"type": "json_object"}},
    ):
        assert answer(engines.old, max_tokens=32, **more)["message"]["content"] == plain[engines.old], more
    stopped = answer(engines.new, max_tokens=32, stop=[plain[engines.new][6:8]])
    assert stopped["finish_reason"] == "stop" and len(stopped["message"]["content"]) < len(plain[engines.new])
    schema = {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}
    assert answer(engines.new, response_format=schema)["message"]["content"].startswith("{")
    assert not answer(engines.old, logprobs=True).get("logprobs") and answer(engines.new, logprobs=True)["logprobs"]


def test_how_long_an_answer_may_be(engines: Engines) -> None:
    for limit, old, new in (({"max_completion_tokens": 5}, 1024, 5), ({"max_tokens": 0}, 1024, 0)):
        body = {"model": "tiny", "messages": QUESTION, "temperature": 0, **limit}
        generated = [post(url, body).json()["usage"]["completion_tokens"] for url in (engines.old, engines.new)]
        assert generated == [old, new], limit


def test_presence_penalty_is_llamafactory_s_repetition_penalty(engines: Engines) -> None:
    assert [asked(url, presence_penalty=0).status_code for url in (engines.old, engines.new)] == [500, 200]


def test_messages_have_to_take_turns_at_llamafactory(engines: Engines) -> None:
    system = {"role": "system", "content": "Answer with SQL."}
    for messages in ([*QUESTION, *QUESTION], [*QUESTION, system], [system]):
        assert [asked(url, messages=messages).status_code for url in (engines.old, engines.new)] == [400, 200]


def test_a_prompt_beyond_the_context_is_refused_by_sglang_alone(engines: Engines) -> None:
    messages = [{"role": "user", "content": "select count " * 400}]
    codes = [asked(url, messages=messages, max_tokens=1).status_code for url in (engines.old, engines.new)]
    assert codes == [200, 400]


def test_any_model_name_is_answered_by_both(engines: Engines) -> None:
    assert [asked(url, model="no-such-model").json()["model"] for url in (engines.old, engines.new)] == [
        "no-such-model"
    ] * 2


def test_a_stream_of_llamafactory_tells_neither_its_length_nor_that_it_was_cut_for_it(engines: Engines) -> None:
    told = {}
    for url in (engines.old, engines.new):
        events = [one for _, one in streamed(url, max_tokens=3, stream_options={"include_usage": True})]
        ends = [
            one["choices"][0]["finish_reason"]
            for one in events
            if one["choices"] and one["choices"][0]["finish_reason"]
        ]
        told[url] = (ends, any(one.get("usage") for one in events))
    assert told == {engines.old: (["stop"], False), engines.new: (["length"], True)}


@pytest.mark.parametrize("more", [{"n": 2}, {"tools": [TOOL]}])
def test_what_llamafactory_cannot_stream_ends_the_connection_without_a_word(engines: Engines, more: Any) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        streamed(engines.old, max_tokens=8, **more)
    assert streamed(engines.new, max_tokens=8, **more)


@pytest.mark.parametrize("who", ["old", "new"])
def test_requests_of_llamafactory_wait_for_each_other(engines: Engines, who: str) -> None:
    """A short stream that comes while a long one runs: after it at LLaMA-Factory, beside it at SGLang."""
    url = getattr(engines, who)
    found: dict[str, list[float]] = {}
    long = threading.Thread(target=lambda: found.update(long=content_times(streamed(url, max_tokens=1500))))
    long.start()
    time.sleep(0.5)
    found["short"] = content_times(streamed(url, max_tokens=100))
    long.join()
    if who == "old":
        assert found["short"][0] > found["long"][-1]
    else:
        assert found["short"][-1] < found["long"][-1]
