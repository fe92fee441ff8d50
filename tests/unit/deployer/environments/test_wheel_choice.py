"""Which wheel is locked, and what uv is told and says; uv itself runs in test_locking.py."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.environments.conda_solve import CondaRecord, conda_cuda, conda_glibc
from deployer.environments.environment_file import parse_environment
from deployer.environments.sources import PackageSources
from deployer.environments.uv_compile import explain_uv, uv_environment
from deployer.environments.wheel_choice import applies, choose_wheel, conda_distributions, tag_ranks

A = "a" * 64
ENVIRONMENT = "channels: [team]\ndependencies: [python =3.12, {pip: [alpha]}]\n"


def pylock_package(*file_names: str, **more: Any) -> dict[str, Any]:
    wheels = [{"url": f"https://h.example.com/{name}", "hashes": {"sha256": A}, "size": 7} for name in file_names]
    return {"name": "a", "version": "1", "wheels": wheels, **more}


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["a-1-py3-none-any.whl", "a-1-cp312-cp312-manylinux_2_34_x86_64.whl"], 1),
        (["a-1-cp312-cp312-manylinux_2_28_x86_64.whl", "a-1-cp312-cp312-manylinux_2_17_x86_64.whl"], 1),
        (["a-1-cp38-abi3-manylinux_2_17_x86_64.whl", "a-1-cp311-abi3-manylinux_2_28_x86_64.whl"], 1),
        (["a-1-py3-none-manylinux2014_x86_64.whl", "a-1-py3-none-manylinux1_x86_64.manylinux_2_5_x86_64.whl"], 1),
        (["a-1-cp312-cp312-manylinux_2_39_x86_64.whl", "a-1-py3-none-any.whl"], 1),
        (["a-1-cp312-cp312-musllinux_1_2_x86_64.whl", "a-1-cp312-cp312-win_amd64.whl", "a-1-py3-none-any.whl"], 2),
        (["a-1-py3-none-any.whl", "a-1-2-py3-none-any.whl"], 1),
        (["a-1.tar.gz", "a-1%2Bcpu-cp312-cp312-linux_x86_64.whl"], 1),
    ],
)  # fmt: skip
def test_chooses_the_best_python_tag_on_the_oldest_glibc(names: list[str], chosen: int) -> None:
    wheel = choose_wheel(pylock_package(*names), tag_ranks("3.12.4", "2.34"), "3.12.4", "2.34")
    assert wheel.file_name == names[chosen].replace("%2B", "+")


def test_package_without_a_wheel_for_hosts_is_refused() -> None:
    with pytest.raises(DeployError, match=r"a 1 has no wheel for Python 3\.12 on linux-64 with glibc 2\.28"):
        choose_wheel(
            pylock_package("a-1-cp312-cp312-manylinux_2_34_x86_64.whl"), tag_ranks("3.12.4", "2.28"), "3.12.4", "2.28"
        )
    unhashed = {"name": "a", "version": "1", "wheels": [{"url": "https://h/a-1-py3-none-any.whl", "hashes": {}}]}
    with pytest.raises(DeployError, match="no sha256 for a-1-py3-none-any"):
        choose_wheel(unhashed, tag_ranks("3.12.4", "2.28"), "3.12.4", "2.28")


@pytest.mark.parametrize(
    ("marker", "holds"),
    [
        ("sys_platform == 'linux' and platform_machine == 'x86_64'", True),
        ("sys_platform == 'win32' or platform_machine == 'aarch64'", False),
        ("python_full_version < '3.12.4'", False),
        ("", True),
    ],
)
def test_markers_are_the_hosts(marker: str, holds: bool) -> None:
    assert applies(pylock_package(marker=marker), "3.12.4") is holds


def record(name: str, version: str, *depends: str, brings_module: bool = False) -> CondaRecord:
    return CondaRecord(name, version, "0", "", A, 1, depends, (), brings_module)


def test_conda_says_glibc_cuda_and_distributions() -> None:
    records = [
        record("python", "3.12.4", "__glibc >=2.17,<3.0.a0"),
        record("a", "1", "__glibc >=2.28"),
        record("cuda-version", "12.8", "__cuda >=12"),
        record("pytorch", "2.9.0", brings_module=True),
        record("tzdata", "2025b_x", brings_module=True),
        record("ninja", "1.13"),
    ]
    assert (conda_glibc(records), conda_cuda(records)) == ("2.28", "12.8")
    assert conda_distributions(records) == {"torch": "2.9.0"}


def test_uv_is_told_by_variables_and_nothing_else_counts() -> None:
    sources = PackageSources(
        indexes=("https://u:p@a.example.com/simple", "https://b.example.com/simple"),
        find_links=("/with, comma", "https://c.example.com/wheels"),
        certificate="/ca.pem",
        public_index=False,
    )
    told = uv_environment(
        sources, {"UV_INDEX_URL": "https://x", "UV_CACHE_DIR": "/cache", "UV_EXCLUDE_NEWER": "2020", "A": "b"}
    )
    assert told == {
        "A": "b",
        "UV_CACHE_DIR": "/cache",
        "UV_INDEX": "https://u:p@a.example.com/simple",
        "UV_DEFAULT_INDEX": "https://b.example.com/simple",
        "UV_FIND_LINKS": "file:///with%2C%20comma,https://c.example.com/wheels",
        "SSL_CERT_FILE": "/ca.pem",
        "UV_INDEX_STRATEGY": "first-index",
        "UV_PYTHON_DOWNLOADS": "never",
    }
    assert "UV_DEFAULT_INDEX" not in uv_environment(PackageSources(indexes=("https://a",)), {})


def test_what_uv_says_otherwise_is_shown_without_credentials() -> None:
    sources = PackageSources(indexes=("https://me:hunter2@a.example.com/simple",))
    error = explain_uv(
        "error: strange: hunter2 at https://me:hunter2@a.example.com/x\nmore",
        parse_environment(ENVIRONMENT),
        "3.12.4",
        {},
        sources,
    )
    assert error.problem == "environment.yml: uv failed: strange: *** at https://a.example.com/x"
    assert "hunter2" not in str(error)
