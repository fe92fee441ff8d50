"""The file in which a user names what servers are asked."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.compare.prompt_file import read_prompts


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
