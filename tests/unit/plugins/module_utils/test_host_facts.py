"""A host's facts survive the way to the controller, and what is none is said to be none."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import HostFacts, Listener, Running
from tests.doubles.hosts import environment, gpu_facts, host_facts
from tests.doubles.nvidia_smi import Process

FACTS = host_facts(
    gpu_facts(2, "SYS", users={9: "alice"}, processes=[Process(0, 9, None)], trouble={1: ["sram"]}, mig={1: 2}),
    listeners=(Listener(22, "pid 1 of root: sshd"), Listener(8001, "service code2sql", "code2sql")),
    models={"qwen3-0123456789ab": "d" * 64},
    built=("sglang-0123456789ab",),
    environments={"sglang": environment(), "gone": environment("llamafactory", problem=("is gone", "bring it"))},
    services={"code2sql": Running("0123456789ab", "sglang", "code2sql", "qwen3", 8001, ("0", "1"), True)},
)
VALUE = json.dumps(FACTS.as_dict())
KEYS = sorted(json.loads(VALUE))


def paths(value: Any, below: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Where in the facts something lies, down to the rows of the option tables."""
    inside = value.items() if isinstance(value, dict) else enumerate(value[:2]) if isinstance(value, list) else ()
    return [below, *(path for key, one in inside for path in paths(one, (*below, key)))][:2000]


@pytest.mark.parametrize("facts", [FACTS, host_facts(0), host_facts(name="", address="", ephemeral=(1, 2))])
def test_facts_survive_json(facts: HostFacts) -> None:
    assert HostFacts.from_dict(json.loads(json.dumps(facts.as_dict(), allow_nan=False))) == facts


@pytest.mark.parametrize("key", KEYS)
def test_a_field_that_is_missing_or_of_another_kind_is_explained(key: str) -> None:
    value = json.loads(VALUE)
    without = {name: one for name, one in value.items() if name != key}
    for damaged in (without, {**value, key: None}, {**value, key: 1.5}):
        with pytest.raises(DeployError) as raised:
            HostFacts.from_dict(damaged)
        assert raised.value.fix


@pytest.mark.parametrize("value", [None, [], "facts", 1, {}, {"x": 1}])
def test_what_is_no_host_is_explained(value: Any) -> None:
    with pytest.raises(DeployError):
        HostFacts.from_dict(value)
    with pytest.raises(DeployError):
        HostFacts.from_dict({**json.loads(VALUE), "surplus": value})


@given(
    path=st.sampled_from([path for path in paths(json.loads(VALUE)) if path]),
    value=st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.just([]) | st.just({}) | st.just([[1]]),
)
def test_whatever_is_damaged_is_read_or_explained(path: tuple[Any, ...], value: Any) -> None:
    damaged = copy.deepcopy(json.loads(VALUE))
    where = damaged
    for step in path[:-1]:
        where = where[step]
    where[path[-1]] = value
    try:
        json.dumps(HostFacts.from_dict(damaged).as_dict())
    except DeployError as error:
        assert error.fix
