"""What both servers are asked: a user's file, or a small set of questions about SQL."""

from __future__ import annotations

import hashlib
import json
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

BUILT_IN = "built-in questions"
LINES = 'give a line a prompt: its text, or {"messages": [{"role": "user", "content": "…"}]}'
ROLES = ("system", "user", "assistant", "tool")
SCHEMA = (
    "CREATE TABLE orders (id BIGINT, customer_id BIGINT, region TEXT, amount DECIMAL(12,2), created_at DATE);\n"
    "CREATE TABLE customers (id BIGINT, name TEXT, city TEXT, level INT);"
)
SYSTEM = "You write SQL for PostgreSQL. Answer with one statement and nothing else."
QUESTIONS = (
    "Write a SQL query for the ten customers with the highest total amount of orders in {year}.",
    "查询{year}年每个地区的订单总金额，按金额从高到低排序，只返回 SQL。",  # noqa: RUF001
    "How many customers of level {level} have not ordered since {year}? Answer in SQL.",
    "统计{year}年每个月的订单数量和平均金额，用 SQL 表示。",  # noqa: RUF001
    "Which city has the most customers of level {level}? Write the query.",
    "找出{year}年下单超过{level}次的客户姓名和城市，只返回 SQL。",  # noqa: RUF001
)

Messages = tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Prompts:
    """What is asked.

    Args:
        name: of the file, or BUILT_IN.
        messages: of each prompt.
    """

    name: str
    messages: tuple[Messages, ...]

    @property
    def sha256(self) -> str:
        """The digest of what is asked, so that two measurements can be told to have asked the same."""
        text = json.dumps([list(one) for one in self.messages], ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


def has_system(messages: Messages) -> bool:
    """Whether the client sends a system message of its own."""
    return any(one.get("role") == "system" for one in messages)


def built_in() -> Prompts:
    """Questions as clients of a service that writes SQL ask: with and without a system message, one in two turns."""
    with_schema = [{"role": "user", "content": f"{SCHEMA}\n\n{_question(0, 2024, 3)}"}]
    prompts: list[list[dict[str, Any]]] = [
        *([{"role": "user", "content": _question(number, 2024, 3)}] for number in range(4)),
        with_schema,
        [{"role": "system", "content": SYSTEM}, *with_schema],
        [{"role": "system", "content": SYSTEM}, {"role": "user", "content": _question(5, 2025, 2)}],
        [
            {"role": "user", "content": _question(1, 2024, 3)},
            {"role": "assistant", "content": "SELECT region, SUM(amount) FROM orders GROUP BY region;"},
            {"role": "user", "content": "Now only for customers of level 3."},
        ],
    ]
    return Prompts(BUILT_IN, tuple(map(tuple, prompts)))


def parse_prompts(name: str, text: str) -> Prompts:
    """A user's prompts: a line is plain text, a JSON list of messages, or a JSON object with `messages`.

    Args:
        name: of the file that they are from.
        text: of it.

    Raises:
        DeployError: it is empty, or a line is none of these.
    """
    found = [_prompt(f"{name}:{number}", line) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not found:
        raise DeployError(f"{name} has no prompts", LINES)
    return Prompts(os.path.basename(name), tuple(found))


def as_lines(prompts: Prompts) -> str:
    """Prompts as `parse_prompts` reads them."""
    # A line separator of Unicode inside a text would end the line.
    return "".join(json.dumps([dict(message) for message in one]) + "\n" for one in prompts.messages)


def spread(prompts: Prompts, count: int, seed: int) -> tuple[Messages, ...]:
    """As many prompts as a load takes, in an order that the seed alone decides.

    Of the built-in questions no two are the same, as a server that keeps the prefixes of prompts would be
    measured by how often they repeat; a user's own are taken round after round.
    """
    order = random.Random(seed)
    if prompts.name != BUILT_IN:
        rounds = -(-count // len(prompts.messages))
        every = [one for _ in range(rounds) for one in order.sample(prompts.messages, len(prompts.messages))]
        return tuple(every[:count])
    years, levels = range(1970, 2030), range(1, 100)
    each = [(number, year, level) for number in range(len(QUESTIONS)) for year in years for level in levels]
    chosen = order.sample(each, min(count, len(each)))
    return tuple(
        (
            {"role": "system", "content": f"{SYSTEM}\n{SCHEMA}"},
            {"role": "user", "content": f"[{year}-{level}] {_question(number, year, level)}"},
        )
        for number, year, level in chosen
    )


def _question(number: int, year: int, level: int) -> str:
    return QUESTIONS[number].format(year=year, level=level)


def _prompt(where: str, line: str) -> Messages:
    if line.lstrip()[:1] not in ("{", "["):
        return ({"role": "user", "content": line.strip()},)
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DeployError(f"{where} is not JSON: {error}", LINES) from error
    messages: Any = value.get("messages") if isinstance(value, dict) else value
    if not are_messages(messages):
        raise DeployError(f"{where} has no messages", LINES)
    return tuple(messages)


def are_messages(value: Any) -> bool:
    """Whether a value is the messages of a prompt."""
    return (
        isinstance(value, Sequence)
        and not isinstance(value, str)
        and len(value) > 0
        and all(isinstance(one, Mapping) and one.get("role") in ROLES for one in value)
    )
