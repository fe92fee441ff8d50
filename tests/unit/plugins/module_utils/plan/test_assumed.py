"""GPUs by name, for a plan before there is a host."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.nvidia_smi import capability_of
from ansible_collections.deployer.sglang.plugins.module_utils.plan.assumed import PUBLISHED, assumed_host
from tests.doubles.hosts import GIB, gpu_facts, planned


@pytest.mark.parametrize(
    ("text", "product", "count"),
    [
        ("H200x8", "H200", 8),
        ("h200X8", "H200", 8),
        (" H200 x 8 ", "H200", 8),
        ("H200*2", "H200", 2),
        ("H200", "H200", 1),
        ("H200x64", "H200", 64),
        ("rtx 4090 x2", "RTX-4090", 2),
        ("RTX_6000-Ada", "RTX-6000-ADA", 1),
        ("a100-40gb x4", "A100-40GB", 4),
    ],
)
def test_a_kind_and_how_many_are_a_host(text: str, product: str, count: int) -> None:
    gpus = assumed_host(text).gpus.gpus
    assert [(gpu.index, gpu.product) for gpu in gpus] == [(index, product) for index in range(count)]
    assert len({gpu.uuid for gpu in gpus}) == len({gpu.pci for gpu in gpus}) == count
    assert all(0 < gpu.memory_free < gpu.memory_total for gpu in gpus)


@pytest.mark.parametrize(
    ("text", "fix"),
    [
        ("H20O", "did you mean H20?"),
        ("H100-80GB", "did you mean"),
        ("H200x0", "give 1 to 64 of them"),
        ("H200x65", "give 1 to 64 of them"),
        ("", "use one of T4, V100"),
        ("x", "use one of"),
        ("8", "use one of"),
        ("H200x8x8", "H200"),
        ("H200\nx8 y", "use one of"),
    ],
)
def test_what_is_no_gpu_is_answered_with_what_is(text: str, fix: str) -> None:
    with pytest.raises(DeployError) as raised:
        assumed_host(text)
    assert fix in raised.value.fix
    assert repr(text) in raised.value.problem
    assert raised.value.fix.endswith("(H200x8 are eight of the kind H200)")


@given(text=st.text(max_size=12) | st.from_regex(r"[A-Z]{1,3}[0-9]{1,3}[x*][0-9]{1,4}"))
def test_any_text_is_a_host_or_explained(text: str) -> None:
    try:
        assert assumed_host(text).gpus.gpus
    except DeployError as error:
        assert error.fix


@pytest.mark.parametrize("kind", PUBLISHED)
def test_a_kind_has_the_memory_and_capability_that_a_real_one_reports(kind: str) -> None:
    (gpu,) = assumed_host(kind).gpus.gpus
    generations = {"7.0": "Volta", "7.5": "Turing", "8.9": "Ada", "9.0": "Hopper"}
    major = gpu.compute_capability.partition(".")[0]
    architecture = generations.get(gpu.compute_capability, {"8": "Ampere"}.get(major, "Blackwell"))
    assert capability_of(architecture, f"NVIDIA {kind.replace('-', ' ')}") == gpu.compute_capability
    published = PUBLISHED[kind][0] * GIB
    assert 0.93 * published < gpu.memory_total <= published


def test_an_assumed_h100_comes_to_about_the_plan_of_a_real_one() -> None:
    real = planned({}).services[0].tokens
    assumed = planned({}, host=assumed_host("H100x8"), reachable=False).services[0].tokens
    assert real is not None and assumed is not None
    assert abs(real - assumed) < real / 50
    assert gpu_facts().gpus[0].memory_total <= assumed_host("H100").gpus.gpus[0].memory_total
