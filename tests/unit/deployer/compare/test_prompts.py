"""What both servers are asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.compare.prompts import Prompts, built_in, has_system, read_prompts, spread


def test_the_built_in_questions_tell_templates_apart() -> None:
    prompts = built_in().messages
    assert any(map(has_system, prompts)) and not all(map(has_system, prompts))
    assert any(len(one) == 3 for one in prompts), "one of two turns"


def test_a_line_of_a_file_is_text_or_messages(tmp_path: Path) -> None:
    file = tmp_path / "prompts.jsonl"
    file.write_text(
        "How many orders?\n\n"
        '{"messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "u"}], "max_tokens": 3}\n'
        '[{"role": "user", "content": "列出订单"}]\n'
    )
    prompts = read_prompts(file)
    assert prompts.name == "prompts.jsonl"
    assert prompts.messages == (
        ({"role": "user", "content": "How many orders?"},),
        ({"role": "system", "content": "s"}, {"role": "user", "content": "u"}),
        ({"role": "user", "content": "列出订单"},),
    )


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "has no prompts"),
        ("\n \n", "has no prompts"),
        ("fine\n{broken", ":2 is not JSON"),
        ('{"prompt": "x"}', ":1 has no messages"),
        ('{"messages": []}', ":1 has no messages"),
        ('{"messages": "text"}', ":1 has no messages"),
        ('{"messages": [{"role": "somebody", "content": "x"}]}', ":1 has no messages"),
        ("[" * 100_000, ":1 is not JSON"),
    ],
)
def test_a_file_that_holds_something_else_is_refused_with_its_line(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "prompts"
    file.write_text(text)
    with pytest.raises(DeployError, match=problem) as raised:
        read_prompts(file)
    assert raised.value.fix


def test_a_file_that_is_no_text_or_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe")
    for name in ("binary", "missing"):
        with pytest.raises(DeployError, match="cannot be read"):
            read_prompts(tmp_path / name)


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
