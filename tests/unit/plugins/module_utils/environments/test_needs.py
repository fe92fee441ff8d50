"""What packages need of a host, told from their names."""

from __future__ import annotations

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.environments.needs import (
    cuda_runtime,
    highest_version,
    needed_glibc,
)


@pytest.mark.parametrize(
    ("tags", "glibc"),
    [
        ([], ""),
        (["Tag: py3-none-any"], ""),
        (["Tag: cp311-cp311-linux_x86_64"], ""),
        (["torch-2.9.1-cp311-cp311-manylinux_2_28_x86_64.whl"], "2.28"),
        (["x-1-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", "y-1-py3-none-any.whl"], "2.17"),
        (["Tag: cp311-cp311-manylinux_2_28_x86_64 Tag: cp311-cp311-manylinux_2_34_x86_64"], "2.28"),
        (["cp311-manylinux_2_9_x86_64", "cp311-manylinux_2_34_x86_64", "cp311-manylinux_2_28_x86_64"], "2.34"),
        (["cp39-manylinux1_x86_64"], "2.5"),
        (["cp39-manylinux2010_x86_64.manylinux1_x86_64"], "2.5"),
        (["cp39-manylinux2014_x86_64"], "2.17"),
        (["cp311-musllinux_1_2_x86_64", "cp311-manylinux_2_28_aarch64"], ""),
    ],
)
def test_the_glibc_is_the_highest_of_what_each_wheel_needs_at_least(tags: list[str], glibc: str) -> None:
    assert needed_glibc(tags) == glibc


@pytest.mark.parametrize(
    ("versions", "cuda"),
    [
        ({}, ""),
        ({"torch": "2.9.1"}, ""),
        ({"torch": "2.9.1+cpu"}, ""),
        ({"torch": "2.9.1+cu128"}, "12.8"),
        ({"torch": "2.6.0+cu118"}, "11.8"),
        ({"torch": "2.9.1+cu130"}, "13.0"),
        ({"torch": "2.9.1+rocm6.4"}, ""),
        ({"nvidia-cuda-runtime-cu12": "12.8.90", "torch": "2.9.1"}, "12.8"),
        ({"nvidia-cuda-runtime": "13.0.48", "nvidia-cuda-runtime-cu12": "12.8.90"}, "13.0"),
        ({"nvidia-cuda-runtime-cu12": "12.8.90", "torch": "2.6.0+cu118"}, "12.8"),
    ],
)
def test_the_cuda_runtime_is_the_packages_else_torchs(versions: dict[str, str], cuda: str) -> None:
    assert cuda_runtime(versions) == cuda


def test_versions_are_compared_as_numbers() -> None:
    assert highest_version(["2.9", "", "2.34", "2.17"]) == "2.34"
    assert highest_version([]) == ""
