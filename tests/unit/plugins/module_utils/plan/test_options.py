"""An engine's options against the table of the version that is installed."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.plan.findings import Finding
from ansible_collections.deployer.sglang.plugins.module_utils.plan.options import option_findings
from tests.doubles.hosts import SGLANG_OPTIONS, described, environment

TABLE = environment().options["sglang"]


def found(options: dict[str, Any], **changes: Any) -> list[Finding]:
    service = described({**changes, "options": {"tensor_parallel_size": 2, **options}})[0]
    return list(option_findings("x", service, TABLE))


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (
            "max_runing_requests",
            1,
            "option-unknown sglang 0.5.23 has no such option: did you mean max_running_requests?",
        ),
        ("zzz", 1, "option-unknown sglang 0.5.23 has no such option: see the engine's --help for its options"),
        ("max_running_requests", "two", "option-value wants a whole number, got 'two'"),
        ("max_running_requests", 2.5, "option-value wants a whole number, got 2.5"),
        ("max_running_requests", [1, 2], "option-value takes one value, got a list"),
        ("max_running_requests", {"a": 1}, "option-value wants a whole number, got a mapping"),
        ("max_running_requests", True, "option-value wants a whole number, got true"),
        ("max_running_requests", "", "option-value wants a whole number, got ''"),
        ("max_running_requests", float("inf"), "option-value wants a whole number, got inf"),
        ("max_running_requests", "100", ""),
        ("max_running_requests", 10**400, ""),
        ("context_length", "32k", ""),
        ("context_length", "32 k", "option-value wants a whole number, or one such as 128k"),
        ("mem_fraction_static", "most", "option-value wants a number, got 'most'"),
        ("mem_fraction_static", 0.9, ""),
        ("dtype", "float8", "option-value takes one of auto, half, bfloat16, float32, got 'float8'"),
        ("enable_metrics", "yes", "option-value stands alone: write true or false"),
        ("enable_metrics", "True", ""),
        ("cuda_graph_bs", [1, "x"], "option-value wants a whole number, got 'x'"),
        ("cuda_graph_bs", [1, 2], ""),
        ("disable_radix", True, "option-deprecated is deprecated in sglang 0.5.23: use disable_radix_cache instead"),
    ],
)
def test_a_value_fits_its_option_or_the_finding_says_what_would(name: str, value: Any, expected: str) -> None:
    findings = found({name: value})
    assert "; ".join(f"{one.id} {one.message}: {one.fix}" for one in findings).startswith(expected)
    assert [one.subject for one in findings] == ([f"x.options.{name}"] if expected else [])


def test_an_option_is_found_by_any_of_its_spellings() -> None:
    assert found({"tp_size": 2, "attn-dp-size": 1, "nccl_init_addr": "a:1"}) == []
    assert found({"tp": 2, "pp": 1}) == [], "the launch script has their long names"
    assert [one.subject for one in found({"dp": 1, "dp_size": "two"})] == ["x.options.dp_size"]


@pytest.mark.parametrize(("options", "identifiers"), [({"a": 1}, ["options-unread"]), ({}, [])])
def test_without_a_table_nothing_is_said_of_single_options(options: dict[str, Any], identifiers: list[str]) -> None:
    service = described({"options": options, "gpus": []})[0]
    findings = list(option_findings("x", service, None))
    assert [one.id for one in findings] == identifiers
    assert all("environment sglang" in one.message for one in findings)


@given(
    name=st.sampled_from([option.flags[0][2:].replace("-", "_") for option in SGLANG_OPTIONS]),
    value=st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.text()),
)
def test_any_value_is_taken_or_explained_in_one_line(name: str, value: Any) -> None:
    service = described({"gpus": []})[0]
    object.__setattr__(service, "options", {name: value})  # also what the reader of the description refuses
    for one in option_findings("x", service, TABLE):
        assert one.message
        assert one.fix
        assert "\n" not in str(one)
