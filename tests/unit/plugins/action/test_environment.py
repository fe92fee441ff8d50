"""What the controller makes of an environment before a host hears of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.action.environment import described
from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import lock_digest
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from tests.doubles.bundle_files import write_bundle, write_lock


@pytest.fixture
def lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A lock with its bundle; manifests are kept in a cache of the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    bundle = write_bundle(tmp_path / "sglang" / "bundle", {"alpha": "1.0", "beta": "2.0"}, monkeypatch)
    wheels = sorted((bundle / "wheels").glob("*.whl"))
    return write_lock(tmp_path / "sglang", next(bundle.glob("conda/linux-64/*.bz2")), wheels)


def test_a_lock_is_described_with_its_digest_and_the_bundles_files(lock: Path) -> None:
    found = described({"name": "sglang", "lock": "environments/sglang", "prefix": "", "backend": "conda"}, str(lock))
    assert found["digest"] == lock_digest(lock)
    assert "wheels/beta-2.0-py3-none-any.whl" in {entry["path"] for entry in found["manifest"]["files"]}
    assert found["backend"] == "conda" and "prefix" not in found


def test_a_prefix_is_described_as_it_is() -> None:
    assert described({"name": "old", "lock": "", "prefix": "/opt/old"}, None) == {"name": "old", "prefix": "/opt/old"}


def test_a_flipped_byte_is_refused_here(lock: Path) -> None:
    wheel = lock / "bundle" / "wheels" / "beta-2.0-py3-none-any.whl"
    content = bytearray(wheel.read_bytes())
    content[-1] ^= 1
    wheel.write_bytes(content)
    with pytest.raises(DeployError) as error:
        described({"name": "sglang", "lock": str(lock)}, str(lock))
    assert error.value.problem.startswith(f"environment sglang: {wheel} is damaged: sha256 wanted ")
    assert "deployer bundle" in error.value.fix


def test_a_missing_bundle_is_named_with_the_environment(lock: Path) -> None:
    (lock / "bundle").rename(lock / "elsewhere")
    with pytest.raises(DeployError, match="environment sglang: there is no bundle"):
        described({"name": "sglang", "lock": str(lock)}, str(lock))
