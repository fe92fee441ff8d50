"""What clients would get otherwise than from LLaMA-Factory."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import Running
from ansible_collections.deployer.sglang.plugins.module_utils.plan.migration import (
    LLAMAFACTORY,
    migration_findings,
    running_findings,
)
from tests.doubles.hosts import TEMPLATES, described, model

QWEN = TEMPLATES["qwen"]
SAME = {"temperature": 0.6, "top_p": 0.95, "top_k": 20, "max_new_tokens": "to the context"}


def found(before: dict[str, Any], after: dict[str, Any] | None = None, **changes: Any) -> dict[str, str]:
    predecessor = {"engine": "llamafactory", "environment": "llamafactory", "gpus": [7], "options": before}
    service = described({"options": {"tp": 2, **(after or {})}, "predecessor": predecessor})[0]
    findings = list(migration_findings("x", service, dataclasses.replace(model(), **changes), TEMPLATES))
    return {one.id: f"{one.subject} {one.message}: {one.fix}" for one in findings}


@pytest.mark.parametrize(
    ("before", "after", "template", "said"),
    [
        ({"template": "qwen"}, {}, "{{ messages }}", "x.predecessor.options.template template 'qwen' adds the system"),
        ({"template": "qwen"}, {}, f"... {QWEN} ...", ""),
        ({"template": "qwen"}, {"chat_template": "/t.jinja"}, "", ""),
        ({"template": "qwen"}, {}, "", ""),
        ({}, {}, "{{ messages }}", ""),
        ({"template": "unknown"}, {}, "{{ messages }}", ""),
        ({"default_system": "Answer\nin SQL. " * 9}, {}, "{{ messages }}", "'Answer\\nin SQL. Answer\\nin SQL."),
        ({"template": ["qwen"]}, {}, "{{ messages }}", ""),
    ],
)
def test_a_system_prompt_that_only_llamafactory_adds_is_named(
    before: dict[str, Any], after: dict[str, Any], template: str, said: str
) -> None:
    text = found({**SAME, **before}, after, chat_template=template).get("chat-template-differs", "")
    assert bool(text) == bool(said)
    assert said in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("before", "after", "sampling", "said"),
    [
        (
            {},
            {},
            {},
            "temperature 0.95 -> 1.0, top_p 0.7 -> 1.0, top_k 50 -> off, max_new_tokens 1024 -> to the context",
        ),
        ({}, {}, LLAMAFACTORY, "otherwise than before: max_new_tokens 1024 -> to the context:"),
        (SAME, {}, {"temperature": 0.6, "top_p": 0.95, "top_k": 20}, ""),
        (SAME, {"sampling_defaults": "openai"}, {"temperature": 0.6, "top_p": 0.95, "top_k": 20}, "top_k 20 -> off"),
        ({**SAME, "temperature": 1, "repetition_penalty": 1}, {}, {"top_p": 0.95, "top_k": 20}, ""),
        ({**SAME, "temperature": "0.60"}, {}, {"temperature": 0.6, "top_p": 0.95, "top_k": 20}, ""),
        ({**SAME, "temperature": [1]}, {}, {"top_p": 0.95, "top_k": 20}, "temperature [1] -> 1.0"),
    ],
)
def test_defaults_of_sampling_that_change_are_named_with_both_values(
    before: dict[str, Any], after: dict[str, Any], sampling: dict[str, Any], said: str
) -> None:
    text = found(before, after, sampling=sampling).get("sampling-differs", "")
    assert bool(text) == bool(said)
    assert said in text


@pytest.mark.parametrize(
    "predecessor",
    [None, {"engine": "sglang", "environment": "sglang", "gpus": [7]}],
)
def test_nothing_changes_for_who_did_not_come_from_llamafactory(predecessor: Any) -> None:
    service = described({"predecessor": predecessor})[0]
    assert list(migration_findings("x", service, dataclasses.replace(model(), chat_template=""), TEMPLATES)) == []


def test_a_predecessor_that_says_nothing_is_compared_by_llamafactorys_defaults() -> None:
    bare = {"engine": "llamafactory", "environment": "llamafactory"}
    service = described({"predecessor": bare})[0]
    findings = list(migration_findings("x", service, dataclasses.replace(model(), chat_template=""), {}))
    assert [one.id for one in findings] == ["sampling-differs"]


@pytest.mark.parametrize(("name", "differs"), [("code2sql", False), ("", False), ("text2sql", True)])
def test_a_deployed_release_is_a_promise_to_clients(name: str, differs: bool) -> None:
    running = Running("0123456789ab", "sglang", name, "qwen3-0123456789ab", 8001, ("6", "7"), True)
    findings = list(running_findings("x", described()[0], running))
    assert [one.id for one in findings] == ["served-name-differs"] * differs
    assert all("release 0123456789ab serves, 'text2sql'" in one.message for one in findings)
    assert list(running_findings("x", described()[0], None)) == []
