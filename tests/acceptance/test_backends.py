"""The same lock, built by py-rattler and by whatever real conda this machine has: the same packages and files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.environments.build import Order, build_environment
from ansible_collections.deployer.sglang.plugins.module_utils.environments.caches import Caches
from ansible_collections.deployer.sglang.plugins.module_utils.environments.check import check_environment
from ansible_collections.deployer.sglang.plugins.module_utils.environments.installers import CONDAS
from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import (
    CONDA_LOCK,
    REQUIREMENTS_LOCK,
    lock_digest,
)
from ansible_collections.deployer.sglang.plugins.module_utils.environments.verify import read_content
from demo.inputs import default_cache, make_inputs
from deployer.environments.bundle import make_bundle

PACKAGES = ("anyio", "certifi", "idna", "sniffio", "typing-extensions")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python and a few pure wheels of the demo's, with the real installers."""
    demo = make_inputs(default_cache(), print).environments["sglang-cpu"]
    lock = tmp_path_factory.mktemp("lock")
    shutil.copy(demo / CONDA_LOCK, lock)
    lines = (demo / REQUIREMENTS_LOCK).read_text().splitlines(keepends=True)
    (lock / REQUIREMENTS_LOCK).write_text("".join(line for line in lines if line.split("==")[0] in PACKAGES))
    make_bundle(lock, lock / "bundle", wheel_sources=[demo / "bundle" / "wheels", demo / "bundle" / "installer"])
    return lock / "bundle"


def build(bundle: Path, prefix: Path, backend: str) -> None:
    caches = Caches(prefix.parent / "cache")
    build_environment(Order(bundle, prefix, lock_digest(bundle), "small", caches, backend=backend, log=print))


def listed(prefix: Path, backend: str) -> dict[str, str]:
    """What the host's own program says is in a prefix, its pip packages included."""
    command = [backend, "list", "--prefix", str(prefix), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return {one["name"]: one["version"] for one in json.loads(done.stdout)}


def files(prefix: Path) -> dict[str, bytes]:
    """Every file but the installers' own notes; without the prefix's path, which scripts and settings have in them."""
    return {
        path: (prefix / path).read_bytes().replace(os.fsencode(prefix), b"PREFIX")
        for path in read_content(prefix).files
        if not path.startswith("conda-meta/") and not path.endswith((".pyc", "/RECORD", "CACHEDIR.TAG"))
    }


@pytest.mark.parametrize("backend", CONDAS)
def test_a_real_conda_installs_the_same(backend: str, bundle: Path, tmp_path: Path) -> None:
    if shutil.which(backend) is None:
        pytest.skip(f"there is no {backend} on the PATH of this machine")
    build(bundle, tmp_path / "rattler", "rattler")
    build(bundle, tmp_path / backend, backend)
    one, other = files(tmp_path / backend), files(tmp_path / "rattler")
    assert {path for path in {*one, *other} if one.get(path) != other.get(path)} == set()
    assert listed(tmp_path / backend, backend) == listed(tmp_path / "rattler", backend)
    assert "python" in listed(tmp_path / backend, backend)
    assert check_environment(str(tmp_path / backend), deep=True).sound
