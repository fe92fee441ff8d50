"""What a server is, and what it answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.measuring import asking
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.exchange import Client, Response
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import Answers, Measurement, Server
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.prompts import Prompts, built_in
from deployer.compare.record import save
from tests.unit.plugins.module_utils.measuring.servers import Asked, Double, serve

QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."


def identified(url: str, model: str = "", key: str = "") -> Server:
    return asking.identify(Client(key), url, model)


def asked(url: str, prompts: Prompts | None = None) -> Answers:
    return asking.ask(Client(), asking.identify(Client(), url), prompts or built_in(), 16)


@pytest.mark.parametrize(
    ("engine", "version"), [("sglang", "0.5.23"), ("llamafactory", ""), ("vllm", "0.11.0"), ("", "")]
)
def test_an_engine_is_known_by_what_it_alone_has(monkeypatch: pytest.MonkeyPatch, engine: str, version: str) -> None:
    serve(monkeypatch, gpu1=Double(engine=engine))
    server = identified("http://gpu1:8001")
    assert (server.engine, server.version, server.model) == (engine, version, "code2sql")


def test_flags_that_matter_are_kept_and_secrets_are_not(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, gpu1=Double())
    assert identified("http://gpu1:8001").flags == {"model_path": "/m", "tp_size": "2"}


@pytest.mark.parametrize("pasted", ["http://gpu1:8001/", "http://gpu1:8001/v1", "http://gpu1:8001/v1/chat/completions"])
def test_a_url_may_be_pasted_with_its_path(pasted: str) -> None:
    assert asking.base_of(pasted) == "http://gpu1:8001"


@pytest.mark.parametrize("url", ["gpu1:8001", "ftp://gpu1", "http://", "http://user:key@gpu1:8001", "http://gpu1:port"])
def test_what_is_no_url_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(DeployError, match="is no URL"):
        asking.base_of(url)


def test_a_server_that_lists_nothing_needs_a_name(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, gpu1=Double(models=()))
    with pytest.raises(DeployError, match="lists no models"):
        identified("http://gpu1:8001")
    assert identified("http://gpu1:8001", "mine").model == "mine"


def test_a_server_that_does_not_answer_or_wants_a_key_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, locked=Double(key="k1"), broken=lambda request: Response(200, b"<html>"))
    for host, problem in (("gone", "does not answer"), ("locked", "wants another API key"), ("broken", "with JSON")):
        with pytest.raises(DeployError, match=problem) as raised:
            identified(f"http://{host}:8001")
        assert host in raised.value.problem and raised.value.fix
    assert identified("http://locked:8001", key="k1").model == "code2sql"


def test_white_space_around_a_key_is_not_part_of_it() -> None:
    assert (asking.usable_key(" k1\r\n"), asking.usable_key("\n")) == ("k1", "")


@pytest.mark.parametrize("key", ["sk-secr\u00e9t", "sk-secret\rmore", "sk-secret\x1b"])
def test_a_key_that_cannot_stand_in_a_header_is_refused_and_not_said(key: str) -> None:
    with pytest.raises(DeployError, match="OPENAI_API_KEY holds characters") as raised:
        asking.usable_key(key)
    assert "sk-" not in str(raised.value) and raised.value.fix == "see how the variable was set"


def test_what_is_said_of_headers_of_ones_own_is_not_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def malformed(request: Asked) -> Response:
        raise ValueError("Invalid header value b'Bearer sk-secret'")

    serve(monkeypatch, gpu1=malformed)
    with pytest.raises(DeployError, match="does not answer: ValueError") as raised:
        identified("http://gpu1:8001")
    assert "sk-secret" not in str(raised.value)


def test_what_a_server_says_does_not_act_on_the_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, gpu1=lambda request: Response(500, b"\x1b[2Jgone"))
    with pytest.raises(DeployError, match=r"answered 500 \?\[2Jgone"):
        identified("http://gpu1:8001")


@pytest.mark.parametrize(
    ("models", "problem"),
    [
        ("[" * 200_000, "http://gpu1:8001/v1/models did not answer with JSON"),
        ('{"data": 5}', "http://gpu1:8001 lists no models"),
        ('{"data": {"id": 5}}', "http://gpu1:8001 lists no models"),
    ],
)
def test_a_list_of_models_that_is_none_is_named(monkeypatch: pytest.MonkeyPatch, models: str, problem: str) -> None:
    serve(monkeypatch, gpu1=lambda request: Response(200, models.encode()))
    with pytest.raises(DeployError, match=problem):
        identified("http://gpu1:8001")


@pytest.mark.parametrize("answer", ["[" * 200_000, '{"choices": 5}', "<html>"])
def test_an_answer_that_is_none_is_told_as_one(monkeypatch: pytest.MonkeyPatch, answer: str) -> None:
    double = Double()
    serve(monkeypatch, gpu1=lambda one: Response(200, answer.encode()) if one.body else double(one))
    assert {one.error[:33] for one in asked("http://gpu1:8001").replies} == {"an answer that is no chat complet"}


def test_half_a_surrogate_pair_costs_no_measurement(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    double = Double(models=("mHALF",), answer=lambda prompt: "aHALF")
    serve(monkeypatch, gpu1=lambda one: Response(200, double(one).content.replace(b"HALF", rb"\ud800")))
    answers = asked("http://gpu1:8001")
    assert (answers.replies[0].text, identified("http://gpu1:8001").model) == ("a?", "m?")
    save(Measurement(identified("http://gpu1:8001"), "2026-11-29T10:00:00Z", answers), tmp_path / "it.json")


def test_everything_is_asked_at_temperature_0_by_the_served_name(monkeypatch: pytest.MonkeyPatch) -> None:
    double = Double()
    serve(monkeypatch, gpu1=double)
    asked("http://gpu1:8001")
    assert {(one["model"], one["temperature"], one["stream"]) for one in double.asked} == {("code2sql", 0, False)}


def test_a_refusal_is_an_answer_and_a_broken_one_too(monkeypatch: pytest.MonkeyPatch) -> None:
    refusing = Double(refuses=lambda messages: "Only supports u/a/u/a/u..." if len(messages) > 2 else "")
    serve(monkeypatch, gpu1=refusing, gpu2=Double(answer=lambda prompt: ""))
    replies = asked("http://gpu1:8001").replies
    assert [one.error[:4] for one in replies if one.error] == ["400 "]
    assert all(one.text == "" and not one.error for one in asked("http://gpu2:8001").replies)


def test_a_key_that_a_server_quotes_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, gpu1=lambda one: Response(400, f"no such key: {one.key}".encode()))
    http = Client("k1-private")
    reply = asking.reply_to(http, Server("http://gpu1:8001", "m"), ({"role": "user", "content": "a"},), 8)
    assert reply.error == "400 no such key: ***"
    with pytest.raises(DeployError) as raised:
        asking.identify(http, "http://gpu1:8001")
    assert "k1-private" not in str(raised.value)


def test_a_server_that_goes_away_between_two_prompts_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    double = Double()

    def going(request: Asked) -> Response:
        if len(double.asked) == 3:
            raise ConnectionResetError("connection reset")
        return double(request)

    serve(monkeypatch, gpu1=going)
    with pytest.raises(DeployError, match="chat/completions does not answer: connection reset"):
        asked("http://gpu1:8001")


@pytest.mark.parametrize("added", ["", QWEN, "You are a helpful assistant."])
def test_the_system_prompt_that_a_server_adds_is_found_by_sending_it(
    monkeypatch: pytest.MonkeyPatch, added: str
) -> None:
    serve(monkeypatch, gpu1=Double(system=added))
    assert asked("http://gpu1:8001").probes.added == added


def test_a_server_without_usage_is_no_evidence_of_a_system_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, gpu1=Double(usage=False, answer=lambda prompt: "always"))
    answers = asked("http://gpu1:8001")
    assert answers.probes.added == "" and answers.replies[0].prompt_tokens is None
