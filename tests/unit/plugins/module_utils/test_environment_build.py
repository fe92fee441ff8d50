"""build_environment over doubles of py-rattler and uv; the real ones are driven by the lab tests."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import environment_build
from ansible_collections.deployer.sglang.plugins.module_utils.environment import load_environment
from ansible_collections.deployer.sglang.plugins.module_utils.environment_build import (
    UNFINISHED,
    build_environment,
    installed_bytes,
    package_differences,
)
from ansible_collections.deployer.sglang.plugins.module_utils.environment_lock import Lock, LockedWheel, lock_digest
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from tests.doubles.bundle_files import PYTHON, write_bundle, write_lock, write_python_package

PACKAGES = {"alpha": "1.0", "beta": "2.0"}


def test_builds_what_the_lock_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch)
    prefix = tmp_path / "artifacts" / "environments" / "demo-123"
    lines: list[str] = []
    facts = build_environment(bundle, prefix, lock_digest(bundle), lines.append, name="demo")
    assert facts.packages == PACKAGES
    assert (facts.python, facts.digest, facts.name) == (PYTHON, lock_digest(bundle), "demo")
    assert load_environment(prefix) == facts
    assert "Using the double of uv" in lines
    assert not (prefix / UNFINISHED).exists()
    assert sorted(path.name for path in prefix.parent.iterdir()) == [".demo-123.lock", "demo-123"]


def test_every_user_can_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch)
    prefix = tmp_path / "root" / "env"
    before = os.umask(0o077)
    try:
        build_environment(bundle, prefix, lock_digest(bundle))
    finally:
        os.umask(before)
    found = [path for path in [prefix, prefix.parent, *prefix.rglob("*")] if not path.is_symlink()]
    assert {path.stat().st_mode & 0o777 for path in found} == {0o755, 0o644}


def test_a_finished_environment_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch)
    facts = build_environment(bundle, tmp_path / "env", lock_digest(bundle))
    lines: list[str] = []
    assert build_environment(tmp_path / "gone", tmp_path / "env", facts.digest, lines.append) == facts
    assert lines == []
    with pytest.raises(DeployError, match="a finished environment is never changed"):
        build_environment(bundle, tmp_path / "env", "e" * 64)


def test_starts_over_after_a_killed_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = write_bundle(tmp_path / "killed", {**PACKAGES, "killer": "1.0"}, monkeypatch)
    script = f"""
        import sys
        sys.path[:0] = {sys.path!r}
        import pytest
        from pathlib import Path
        from tests.doubles.bundle_files import use_installer_doubles
        from ansible_collections.deployer.sglang.plugins.module_utils import environment_build, environment_lock
        use_installer_doubles(Path({str(tmp_path / "doubles")!r}), pytest.MonkeyPatch())
        environment_build.build_environment(sys.argv[1], sys.argv[2], environment_lock.lock_digest(sys.argv[1]))
    """
    prefix = tmp_path / "env"
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), killed, prefix], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (prefix / UNFINISHED).is_file()
    assert load_environment(prefix) is None

    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch)
    assert build_environment(bundle, prefix, lock_digest(bundle)).packages == PACKAGES
    assert sorted(path.name for path in tmp_path.glob(".env*")) == [".env.lock"]


def test_never_removes_what_it_did_not_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch)
    (tmp_path / "miniconda3").mkdir()
    (tmp_path / "miniconda3" / "mine").touch()
    with pytest.raises(DeployError, match="no environment of the deployer's"):
        build_environment(bundle, tmp_path / "miniconda3", lock_digest(bundle))
    assert (tmp_path / "miniconda3" / "mine").exists()


def test_refuses_a_flipped_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch)
    wheel = bundle / "wheels" / "beta-2.0-py3-none-any.whl"
    content = bytearray(wheel.read_bytes())
    content[-1] ^= 1
    wheel.write_bytes(content)
    with pytest.raises(DeployError) as error:
        build_environment(bundle, tmp_path / "env", lock_digest(bundle))
    assert "wheels/beta-2.0-py3-none-any.whl: sha256 wanted" in error.value.problem
    assert not (tmp_path / "env").exists()


def test_refuses_an_incomplete_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch)
    (bundle / "wheels" / "beta-2.0-py3-none-any.whl").unlink()
    with pytest.raises(DeployError, match=r"is incomplete: wheels/ has no beta 2\.0"):
        build_environment(bundle, tmp_path / "env", lock_digest(bundle))


def test_refuses_the_bundle_of_another_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch)
    with pytest.raises(DeployError, match="wanted eeeeeeeeeeee"):
        build_environment(bundle, tmp_path / "env", "e" * 64)


def test_a_package_that_did_not_arrive_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", {**PACKAGES, "forgotten": "1.0"}, monkeypatch)
    with pytest.raises(DeployError, match=r"forgotten: wanted 1\.0, got nothing"):
        build_environment(bundle, tmp_path / "env", lock_digest(bundle))
    assert [path.name for path in tmp_path.glob("*env*")] == [".env.lock"]


def test_another_python_than_locked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", {}, monkeypatch)
    python = write_python_package(bundle / "conda" / "linux-64", version="3.8.1")
    (bundle / "conda" / "linux-64" / "repodata.json").write_text(f'{{"packages": {{"{python.name}": {{}}}}}}')
    write_lock(bundle, python, [])
    # The package's library is the running version's: the stub's own layout stays.
    monkeypatch.setattr(environment_build, "_install_wheels", lambda *arguments: None)
    with pytest.raises(DeployError, match=rf"python: wanted 3\.8\.1, got {PYTHON}"):
        build_environment(bundle, tmp_path / "env", lock_digest(bundle))


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", {"full-disk": "1.0"}, monkeypatch)
    with pytest.raises(DeployError) as error:
        build_environment(bundle, tmp_path / "env", lock_digest(bundle))
    assert error.value.problem.startswith(f"disk full under {tmp_path}")
    assert "free some space" in error.value.fix


def test_too_little_room_is_said_before_anything_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch)
    assert installed_bytes(bundle) > 0
    monkeypatch.setattr(environment_build, "installed_bytes", lambda bundle: 10**18)
    with pytest.raises(DeployError, match=r"the environment needs 1000000000\.0 GB"):
        build_environment(bundle, tmp_path / "env", lock_digest(bundle))
    assert [path.name for path in tmp_path.glob("*env*")] == [".env.lock"]


def test_packages_of_conda_may_be_there_besides() -> None:
    lock = Lock((), (LockedWheel("a", "2025.9.1", frozenset()), LockedWheel("b", "1.0", frozenset())))
    installed = {"a": "2025.09.01", "b": "1.1", "pip": "25.0", "stray": "1"}
    assert package_differences(installed, lock, from_conda={"pip": "25.0"}) == [
        "b: wanted 1.0, got 1.1",
        "stray: not locked",
    ]
