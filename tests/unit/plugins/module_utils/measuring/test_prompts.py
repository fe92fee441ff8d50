"""What both servers are asked."""

from __future__ import annotations

from ansible_collections.deployer.sglang.plugins.module_utils.measuring.prompts import (
    Prompts,
    as_lines,
    built_in,
    has_system,
    parse_prompts,
    spread,
)


def test_the_built_in_questions_tell_templates_apart() -> None:
    prompts = built_in().messages
    assert any(map(has_system, prompts)) and not all(map(has_system, prompts))
    assert any(len(one) == 3 for one in prompts), "one of two turns"


def test_prompts_are_read_as_they_were_written() -> None:
    odd = Prompts("mine.txt", (({"role": "user", "content": "[\u2028 列出\n{{ x }}"},), built_in().messages[-1]))
    assert parse_prompts("/somewhere/mine.txt", as_lines(odd)) == odd


def test_no_two_requests_of_a_load_ask_the_same_built_in_question() -> None:
    spreaded = spread(built_in(), 500, seed=1)
    assert len(spreaded) == 500 == len({str(one) for one in spreaded})
    assert spread(built_in(), 500, seed=1) == spreaded != spread(built_in(), 500, seed=2)


def test_a_users_prompts_are_taken_round_after_round() -> None:
    own = Prompts("mine", tuple(({"role": "user", "content": name},) for name in "abc"))
    chosen = [str(one[0]["content"]) for one in spread(own, 7, seed=3)]
    assert [sorted(chosen[:3]), sorted(chosen[3:6])] == [["a", "b", "c"]] * 2
    assert len(chosen) == 7


def test_other_prompts_have_another_digest() -> None:
    one, other = (
        Prompts("x", (({"role": "user", "content": "a"},),)),
        Prompts("x", (({"role": "user", "content": "b"},),)),
    )
    assert one.sha256 != other.sha256 and len(one.sha256) == 64
