"""Which options of a found command line are said to SGLang."""

from __future__ import annotations

import pytest

from deployer.first_inventory.options import is_plain, llamafactory_options, sglang_options


def test_sglangs_own_are_taken_by_their_long_names_once_and_typed() -> None:
    given = {
        "tensor_parallel_size": ("2",), "tp_size": ("2",), "port": ("8001",), "model_path": ("/m",),
        "enable_metrics": (), "mem_fraction_static": ("0.85",), "cuda_graph_bs": ("1", "2"), "dtype": ("bfloat16",),
        "random_seed": ("-1",), "load_format": ("007",),
    }  # fmt: skip
    assert sglang_options("sglang", given).options == {
        "tensor_parallel_size": 2, "enable_metrics": True, "mem_fraction_static": 0.85, "cuda_graph_bs": [1, 2],
        "dtype": "bfloat16", "random_seed": -1, "load_format": "007",
    }  # fmt: skip


def test_of_vllm_those_are_taken_that_mean_the_same_and_of_llamafactory_none() -> None:
    given = {"tensor_parallel_size": ("4",), "max_model_len": ("32768",), "gpu_memory_utilization": ("0.9",)}
    assert sglang_options("vllm", given).options == {"tensor_parallel_size": 4, "context_length": 32768}
    assert sglang_options("llamafactory", {"template": ("qwen",)}).options == {}
    assert llamafactory_options({"template": ("qwen",), "model_name_or_path": ("/m",)}).options == {"template": "qwen"}


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("chat_template", "{{ lookup('pipe', 'id') }}"),
        ("chat_template", "{% raw %}"),
        ("chat_template", "{# x #}"),
        ("chat_template", "a\nb"),
        ("chat_template", "x" * 2000),
        ("api_key", "sk-hidden"),
        ("; rm -rf", "x"),
    ],
)
def test_what_ansible_would_run_or_others_must_not_read_is_left_out_by_name(name: str, word: str) -> None:
    taken = sglang_options("sglang", {name: (word,), "tp_size": ("2",)})
    assert taken.options == {"tensor_parallel_size": 2}
    assert taken.left_out == (name,)


def test_json_is_no_template() -> None:
    assert is_plain('{"a": {"b": 1}}')
