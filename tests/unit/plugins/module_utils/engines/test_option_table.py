"""A table of options: found by any spelling, values judged as the engine's parser judges them, carried as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.engines.option_table import (
    KINDS,
    Option,
    OptionTable,
    one_option_a_flag,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

TABLE = OptionTable(
    "sglang",
    "0.5.23",
    (
        Option(("--tp-size", "--tensor-parallel-size"), "int"),
        Option(("--context-length",), "size"),
        Option(("--mem-fraction-static",), "float"),
        Option(("--kv-cache-dtype",), "str", ("auto", "fp8_e5m2", "fp8_e4m3")),
        Option(("--log-requests-level",), "int", ("0", "1", "2", "3")),
        Option(("--json-model-override-args",), "str"),
        Option(("--enable-metrics",), "flag"),
        Option(("--enable-dp-attention",), "flag", deprecated="use --attn-dp-size <dp-size>"),
        Option(("--cuda-graph-bs",), "int", many=True),
        Option(("--lora-paths",), "str", many=True),
        Option(("--cuda-graph-config",), "any"),
        Option(("--do_sample",), "bool"),
    ),
)

ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.integers(5000, 5001).map(lambda digits: 10**digits),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)
OPTIONS = st.builds(
    Option,
    st.lists(st.from_regex(r"--[a-z_-]{1,8}", fullmatch=True), min_size=1, max_size=3).map(tuple),
    st.sampled_from(KINDS),
    st.none() | st.lists(st.text(max_size=5), max_size=3).map(tuple),
    st.booleans(),
    st.text(max_size=10),
)


@pytest.mark.parametrize("name", ["tp_size", "tp-size", "--tp-size", "tensor_parallel_size", "--tensor-parallel_size"])
def test_an_option_is_found_by_every_spelling(name: str) -> None:
    assert TABLE.find(name) is TABLE.options[0]


def test_an_unknown_option_is_named_with_the_nearest() -> None:
    assert TABLE.find("tensor_paralel_size") is None
    assert TABLE.nearest("tensor-paralel-size") == "tensor_parallel_size"
    assert TABLE.problem("tensor_paralel_size", 2) == (
        "is no option of sglang 0.5.23, did you mean tensor_parallel_size?"
    )
    assert TABLE.nearest("quux") == ""
    assert TABLE.problem("quux", 2) == "is no option of sglang 0.5.23"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("tp_size", 2),
        ("tp_size", "2"),
        ("context_length", 131072),
        ("context_length", "128k"),
        ("context_length", "25.6k"),
        ("context_length", "128Ki"),
        ("mem_fraction_static", 0.85),
        ("mem_fraction_static", "0.85"),
        ("mem_fraction_static", 1),
        ("kv_cache_dtype", "fp8_e5m2"),
        ("log_requests_level", 2),
        ("log_requests_level", "2"),
        ("json_model_override_args", {"rope_scaling": {"factor": 4}}),
        ("json_model_override_args", '{"rope_scaling": null}'),
        ("json_model_override_args", 7),
        ("enable_metrics", True),
        ("enable_metrics", "False"),
        ("cuda_graph_bs", [1, 2, "4"]),
        ("cuda_graph_bs", 8),
        ("lora_paths", ["a=/loras/a", '{"lora_name": "b", "lora_path": "/loras/b"}']),
        ("cuda_graph_config", {"decode": {"backend": "full"}}),
        ("do_sample", False),
        ("do_sample", "yes"),
        ("do_sample", 1),
    ],
)
def test_a_value_that_the_engine_takes_has_no_problem(name: str, value: Any) -> None:
    assert TABLE.problem(name, value) == ""


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("tp_size", "two", "wants a whole number, got 'two'"),
        ("tp_size", 2.0, "wants a whole number, got 2.0"),
        ("tp_size", True, "wants a whole number, got true"),
        ("tp_size", {"a": 1}, "wants a whole number, got a mapping"),
        ("tp_size", [2], "takes one value, got a list"),
        ("tp_size", None, "has no value"),
        ("context_length", "128K", "wants a whole number, or one such as 128k or 128Ki, got '128K'"),
        ("context_length", "1.5Ki", "wants a whole number, or one such as 128k or 128Ki, got '1.5Ki'"),
        ("mem_fraction_static", "most", "wants a number, got 'most'"),
        ("kv_cache_dtype", "fp9", "takes one of auto, fp8_e5m2, fp8_e4m3, got 'fp9'"),
        ("kv_cache_dtype", True, "takes one of auto, fp8_e5m2, fp8_e4m3, got true"),
        ("log_requests_level", 4, "takes one of 0, 1, 2, 3, got 4"),
        ("enable_metrics", "on", "stands alone: write true or false"),
        ("enable_metrics", 1, "stands alone: write true or false"),
        ("enable_metrics", [True], "stands alone: write true or false"),
        ("cuda_graph_bs", [1, "two"], "wants a whole number, got 'two'"),
        ("cuda_graph_bs", [True], "wants a whole number, got true"),
        (
            "lora_paths",
            [{"lora_name": "b"}],
            "takes single values in its list, got a mapping: write JSON as text",
        ),
        ("do_sample", "maybe", "wants true or false, got 'maybe'"),
        ("do_sample", 2, "wants true or false, got 2"),
    ],
)
def test_a_value_that_the_engine_refuses_is_named(name: str, value: Any, problem: str) -> None:
    assert TABLE.problem(name, value) == problem


def test_a_number_that_python_does_not_print_is_refused() -> None:
    assert TABLE.problem("tp_size", 10**5000) == "wants a whole number, got a number that is too long"


def test_the_table_travels_as_json() -> None:
    data = json.loads(json.dumps(TABLE.as_dict()))
    assert data["options"][0] == ["--tp-size --tensor-parallel-size", "int"]
    assert OptionTable.from_dict(data) == TABLE


def test_what_is_no_table_is_refused() -> None:
    for data in (None, [], {}, {"engine": "sglang", "version": "1", "options": [["--x", "number"]]}):
        with pytest.raises(DeployError, match="this is no table of options"):
            OptionTable.from_dict(data)


def test_a_flag_declared_in_two_ways_is_not_checked() -> None:
    once, again = Option(("--x",), "int"), Option(("--x",), "str")
    assert one_option_a_flag([once, once]) == (once,)
    assert one_option_a_flag([once, again]) == (Option(("--x",), "any", many=True),)


@given(st.lists(OPTIONS, max_size=4), st.text(), ANYTHING)
def test_any_value_is_judged_in_one_line(options: list[Option], name: str, value: Any) -> None:
    table = OptionTable("engine", "1", tuple(options))
    assert OptionTable.from_dict(json.loads(json.dumps(table.as_dict()))) == table
    for asked in (name, *(option.flags[-1] for option in options)):
        assert isinstance(table.problem(asked, value), str)
    assert table.nearest(name) == "" or table.find(table.nearest(name)) is not None


@given(ANYTHING | st.fixed_dictionaries({"engine": ANYTHING, "version": ANYTHING, "options": st.lists(ANYTHING)}))
def test_any_data_is_a_table_or_refused(data: Any) -> None:
    try:
        table = OptionTable.from_dict(data)
    except DeployError:
        return
    assert isinstance(table.problem("x", 1), str)
