"""Whether two servers answer alike, by what the real engines answered and by servers that differ in one thing."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import Measurement, Reply
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.parity import REFUSAL, TEXT, TOKENS, Pair
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.prompts import Prompts
from deployer.api.comparisons import compare, measure
from deployer.compare.parity import Parity
from tests.unit.deployer.compare import recorded
from tests.unit.plugins.module_utils.measuring.servers import Double, serve

QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
USER = ({"role": "user", "content": "u"},)


def answers_of(old: Measurement, new: Measurement, **options: Any) -> Parity:
    found = compare(old, new, **options).parity
    assert found is not None
    return found


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Compares two doubles."""

    def run(old: Double, new: Double, prompts: Prompts | None = None, **options: Any) -> Parity:
        serve(monkeypatch, old=old, new=new)
        measured = [measure(f"http://{name}:8001", prompts=prompts, max_tokens=16) for name in ("old", "new")]
        return answers_of(*measured, **options)

    return run


def ids(parity: Parity) -> list[str]:
    return [one.id for one in parity.explanations]


def test_the_recorded_engines_differ_by_the_system_prompt_of_the_template_and_it_is_named_and_measured() -> None:
    parity = answers_of(recorded.llamafactory(), recorded.sglang())
    first = parity.explanations[0]
    assert parity.exit_code == 1
    assert first.id == "system-prompt"
    assert "the old server adds a system prompt of 78 tokens" in first.says and QWEN in first.says
    assert "chat_template in the options of SGLang" in first.fix
    assert {pair.more for pair in parity.pairs if not pair.has_system} == {-78}
    assert {pair.more for pair in parity.pairs if pair.has_system} == {0}


def test_the_recorded_engines_also_differ_in_texts_of_prompts_that_are_rendered_alike() -> None:
    parity = answers_of(recorded.llamafactory(), recorded.sglang())
    assert "same-prompt-other-text" in ids(parity)
    assert [one.id for one in parity.notes] == ["sampling-defaults", "stop-ignored"]
    assert "temperature 0.95 -> 1.0" in parity.notes[0].says and "repetition_penalty 1.0 ->" not in parity.notes[0].says


def test_servers_that_answer_alike_are_the_same(compared: Any) -> None:
    parity = compared(Double(), Double())
    assert (parity.exit_code, parity.differing, parity.explanations) == (0, (), ())


@pytest.mark.parametrize("system", [QWEN, "You are somebody else."])
def test_a_system_prompt_of_the_new_server_is_found_as_well(compared: Any, system: str) -> None:
    found = compared(Double(), Double(system=system)).explanations[0]
    assert found.id == "system-prompt" and "the new server adds" in found.says
    assert (system in found.says) == (system == QWEN)


def test_two_system_prompts_that_differ_are_both_named(compared: Any) -> None:
    one, other = "You are a helpful assistant.", "You are Zephyr, a helpful assistant."
    found = compared(Double(system=one), Double(system=other)).explanations
    assert found[0].id == "system-prompt"
    assert one in found[0].says and other in found[0].says
    assert compared(Double(system=one), Double(system=one)).explanations == ()


def test_markup_that_every_prompt_has_is_told_from_a_system_prompt(compared: Any) -> None:
    one_turn = Prompts("mine", (USER, ({"role": "user", "content": "another question"},)))
    parity = compared(Double(markup=5), Double(markup=9), one_turn, rendering_only=True)
    assert ids(parity) == ["chat-template"]
    # The probe with a system message has two messages, so that markup counts twice there.
    assert "not by the same number of tokens (+4)" in parity.explanations[0].says or "+4" in parity.explanations[0].says


def test_only_how_prompts_are_rendered_may_be_asked_for(compared: Any) -> None:
    other = Double(answer=lambda prompt: "SELECT something else")
    assert compared(Double(), other).exit_code == 1
    assert compared(Double(), other, rendering_only=True).exit_code == 0
    assert compared(Double(system=QWEN), Double(), rendering_only=True).exit_code == 1


def test_a_prompt_that_one_server_refuses_is_explained(compared: Any) -> None:
    def strict(messages: Any) -> str:
        return "Only supports u/a/u/a/u..." if messages[0]["role"] == "assistant" else ""

    begins = Prompts("mine", (USER, ({"role": "assistant", "content": "a"}, {"role": "user", "content": "u"})))
    parity = compared(Double(refuses=strict, engine="llamafactory"), Double(), begins)
    assert [pair.differences for pair in parity.pairs] == [(), (REFUSAL,)]
    assert ids(parity)[0] == "refused" and "in turns" in parity.explanations[0].fix


def test_what_both_refuse_is_the_same(compared: Any) -> None:
    def refuse(messages: Any) -> str:
        return "no" if len(messages) > 2 else ""

    assert compared(Double(refuses=refuse), Double(refuses=refuse)).exit_code == 0


def test_a_stop_that_one_does_not_know_is_explained(compared: Any) -> None:
    stops = Double(answer=lambda prompt: "SELECT 1;")
    goes_on = Double(answer=lambda prompt: "SELECT 1;<|im_end|>\nSELECT 2;", finish="length")
    parity = compared(stops, goes_on)
    assert {"stop-tokens", "special-tokens"} <= set(ids(parity))
    assert "same-prompt-other-text" not in ids(parity)


def test_reasoning_that_one_takes_out_is_explained(compared: Any) -> None:
    plain = Double(answer=lambda prompt: "<think>hm</think>SELECT 1;")
    parsed = Double(answer=lambda prompt: "SELECT 1;", more={"reasoning_content": "hm"})
    assert "reasoning-parser" in ids(compared(plain, parsed))


def test_a_server_without_usage_is_said_to_have_none(compared: Any) -> None:
    parity = compared(Double(), Double(usage=False))
    assert ids(parity) == ["usage-missing"] and "the new server does not say" in parity.explanations[0].says


def test_a_limit_of_the_servers_own_is_told_from_the_requests(compared: Any) -> None:
    parity = compared(Double(answer=lambda prompt: "a b c d"), Double(answer=lambda prompt: "a b", finish="length"))
    found = next(one for one in parity.explanations if one.id == "max-tokens")
    assert "the new server ends an answer for its length after 2 of 16 tokens" in found.says


def test_a_server_that_differs_from_itself_is_said_to(compared: Any) -> None:
    numbers = iter(range(1000))
    parity = compared(Double(), Double(answer=lambda prompt: f"SELECT {next(numbers)}"))
    assert ids(parity)[0] == "not-repeatable" and "the new server" in parity.explanations[0].says


def test_another_served_name_is_noted(compared: Any) -> None:
    parity = compared(Double(models=("code2sql",)), Double(models=("/data/saves/qwen3",)))
    assert [one.id for one in parity.notes] == ["served-name-differs"] and "model.name: code2sql" in parity.notes[0].fix


def test_measurements_of_other_prompts_or_of_none_are_refused() -> None:
    old, new = recorded.llamafactory(), recorded.sglang()
    assert old.answers is not None and new.answers is not None
    shorter = dataclasses.replace(new, load=None, answers=dataclasses.replace(new.answers, max_tokens=1))
    cut = dataclasses.replace(new, load=None, answers=dataclasses.replace(new.answers, replies=new.answers.replies[:2]))
    for other, problem in (
        (shorter, "different prompts"),
        (cut, "is incomplete"),
        (dataclasses.replace(new, answers=None, load=None), "not the same was measured"),
    ):
        with pytest.raises(DeployError, match=problem):
            compare(old, other)
    with pytest.raises(DeployError, match="nothing was measured"):
        compare(dataclasses.replace(old, answers=None, load=None), new)


def test_how_far_two_texts_are_alike_is_counted_in_characters() -> None:
    def pair(old: str, new: str) -> Pair:
        return Pair(USER, 9, Reply(3, 1, "stop", old), Reply(4, 1, "stop", new))

    assert pair("SELECT a", "SELECT b").alike == 7
    assert pair("SELECT", "SELECT b").alike == 6
    assert pair("", "x").differences == (TOKENS, TEXT)
