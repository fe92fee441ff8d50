"""build_environment over doubles of py-rattler and uv; the real ones are driven by the lab tests."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.environments import build, installers
from ansible_collections.deployer.sglang.plugins.module_utils.environments.build import (
    UNFINISHED,
    Order,
    build_environment,
    installed_bytes,
    package_differences,
)
from ansible_collections.deployer.sglang.plugins.module_utils.environments.caches import Caches
from ansible_collections.deployer.sglang.plugins.module_utils.environments.facts import (
    EnvironmentFacts,
    load_environment,
)
from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import Lock, LockedWheel, lock_digest
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from tests.doubles.bundle_files import PYTHON, write_bundle, write_lock, write_python_package

PACKAGES = {"alpha": "1.0", "beta": "2.0"}
CODE = {"alpha": {"alpha/__init__.py": "VALUE = 1\n"}}


def order(bundle: Path, prefix: Path, digest: str = "", **more: Any) -> Order:
    return Order(bundle, prefix, digest or lock_digest(bundle), "demo", Caches(prefix.parent / "cache"), **more)


def build_at(bundle: Path, prefix: Path, digest: str = "", **more: Any) -> EnvironmentFacts:
    return build_environment(order(bundle, prefix, digest, **more))


def leftovers(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if "env" in path.name)


def test_builds_what_the_lock_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch)
    prefix = tmp_path / "artifacts" / "environments" / "demo-123"
    lines: list[str] = []
    facts = build_at(bundle, prefix, log=lines.append)
    assert facts.packages == PACKAGES
    assert (facts.python, facts.digest, facts.name) == (PYTHON, lock_digest(bundle), "demo")
    assert load_environment(prefix) == facts
    assert "Using the double of uv" in lines
    assert not (prefix / UNFINISHED).exists()
    assert sorted(path.name for path in prefix.parent.iterdir()) == [".demo-123.lock", "cache", "demo-123"]


def test_every_user_can_read_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch)
    prefix = tmp_path / "root" / "env"
    before = os.umask(0o077)
    try:
        build_at(bundle, prefix)
    finally:
        os.umask(before)
    found = [path for path in [prefix, prefix.parent, *prefix.rglob("*")] if not path.is_symlink()]
    assert {path.stat().st_mode & 0o777 for path in found} == {0o755, 0o644}


def test_a_finished_environment_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch)
    facts = build_at(bundle, tmp_path / "env")
    lines: list[str] = []
    assert build_at(tmp_path / "gone", tmp_path / "env", facts.digest, log=lines.append) == facts
    assert lines == []
    with pytest.raises(DeployError, match="a finished environment is never changed"):
        build_at(bundle, tmp_path / "env", "e" * 64)


def test_starts_over_after_a_killed_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = write_bundle(tmp_path / "killed", {**PACKAGES, "killer": "1.0"}, monkeypatch)
    script = f"""
        import sys
        sys.path[:0] = {sys.path!r}
        import pytest
        from pathlib import Path
        from tests.doubles.bundle_files import use_installer_doubles
        from tests.unit.plugins.module_utils.environments.test_build import build_at
        use_installer_doubles(Path({str(tmp_path / "doubles")!r}), pytest.MonkeyPatch())
        build_at(Path(sys.argv[1]), Path(sys.argv[2]))
    """
    prefix = tmp_path / "env"
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script), killed, prefix], check=False)
    assert done.returncode == -signal.SIGKILL
    assert (prefix / UNFINISHED).is_file()
    assert load_environment(prefix) is None

    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch)
    assert build_at(bundle, prefix).packages == PACKAGES
    assert sorted(path.name for path in tmp_path.glob(".env*")) == [".env.lock"]


def test_never_removes_what_it_did_not_make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch)
    (tmp_path / "miniconda3").mkdir()
    (tmp_path / "miniconda3" / "mine").touch()
    with pytest.raises(DeployError, match="no environment of the deployer's"):
        build_at(bundle, tmp_path / "miniconda3")
    assert (tmp_path / "miniconda3" / "mine").exists()


def test_refuses_a_flipped_byte(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch)
    wheel = bundle / "wheels" / "beta-2.0-py3-none-any.whl"
    content = bytearray(wheel.read_bytes())
    content[-1] ^= 1
    wheel.write_bytes(content)
    with pytest.raises(DeployError) as error:
        build_at(bundle, tmp_path / "env")
    assert "wheels/beta-2.0-py3-none-any.whl: sha256 wanted" in error.value.problem
    assert not (tmp_path / "env").exists()


def test_refuses_an_incomplete_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch)
    (bundle / "wheels" / "beta-2.0-py3-none-any.whl").unlink()
    with pytest.raises(DeployError, match=r"is incomplete: wheels/ has no beta 2\.0"):
        build_at(bundle, tmp_path / "env")


def test_refuses_the_bundle_of_another_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch)
    with pytest.raises(DeployError, match="wanted eeeeeeeeeeee"):
        build_at(bundle, tmp_path / "env", "e" * 64)


def test_a_package_that_did_not_arrive_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", {**PACKAGES, "forgotten": "1.0"}, monkeypatch)
    with pytest.raises(DeployError, match=r"forgotten: wanted 1\.0, got nothing"):
        build_at(bundle, tmp_path / "env")
    assert leftovers(tmp_path) == [".env.lock"]


def test_another_python_than_locked_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", {}, monkeypatch)
    python = write_python_package(bundle / "conda" / "linux-64", version="3.8.1")
    (bundle / "conda" / "linux-64" / "repodata.json").write_text(f'{{"packages": {{"{python.name}": {{}}}}}}')
    write_lock(bundle, python, [])
    # The package's library is the running version's: the stub's own layout stays.
    monkeypatch.setattr(build, "install_wheels", lambda *arguments: None)
    with pytest.raises(DeployError, match=rf"python: wanted 3\.8\.1, got {PYTHON}"):
        build_at(bundle, tmp_path / "env")


def test_a_full_disk_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", {"full-disk": "1.0"}, monkeypatch)
    with pytest.raises(DeployError) as error:
        build_at(bundle, tmp_path / "env")
    assert error.value.problem.startswith(f"disk full under {tmp_path}")
    assert "free some space" in error.value.fix


def test_too_little_room_is_said_before_anything_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch)
    assert installed_bytes(bundle) > 0
    monkeypatch.setattr(build, "installed_bytes", lambda bundle: 10**18)
    with pytest.raises(DeployError, match=r"the environment needs 1000000000\.0 GB"):
        build_at(bundle, tmp_path / "env")
    assert leftovers(tmp_path) == [".env.lock"]


def test_the_second_environment_shares_files_and_byte_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch, CODE)
    first, second = tmp_path / "env1", tmp_path / "env2"
    build_at(bundle, first)
    build_at(bundle, second)
    for pattern in ("alpha/__init__.py", "alpha/__pycache__/__init__.*.pyc"):
        one, other = (next(site_of(prefix).glob(pattern)) for prefix in (first, second))
        assert one.samefile(other), pattern


def site_of(prefix: Path) -> Path:
    return next(prefix.glob("lib/python3*/site-packages"))


def damage(path: Path) -> None:
    """Change a file in place, as a bad disk does: every link to it has the change."""
    path.write_text(path.read_text().replace("1", "2"))


def test_a_damaged_cache_is_discarded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch, CODE)
    build_at(bundle, tmp_path / "env1")
    damage(site_of(tmp_path / "env1") / "alpha" / "__init__.py")
    lines: list[str] = []
    build_at(bundle, tmp_path / "env2", log=lines.append)
    assert any("alpha/__init__.py" in line and "discarding" in line for line in lines)
    assert (site_of(tmp_path / "env2") / "alpha" / "__init__.py").read_text() == "VALUE = 1\n"


def test_a_changed_environment_is_rebuilt_on_request_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch, CODE)
    prefix = tmp_path / "env"
    build_at(bundle, prefix)
    damage(site_of(prefix) / "alpha" / "__init__.py")
    build_at(bundle, prefix)
    assert (site_of(prefix) / "alpha" / "__init__.py").read_text() == "VALUE = 2\n"
    build_at(bundle, prefix, rebuild=True)
    assert (site_of(prefix) / "alpha" / "__init__.py").read_text() == "VALUE = 1\n"
    assert leftovers(tmp_path) == [".env.lock", "env"]


def test_a_rebuild_that_fails_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch, CODE)
    prefix = tmp_path / "env"
    facts = build_at(bundle, prefix)
    monkeypatch.setattr(build, "prove", broken_proof)
    with pytest.raises(DeployError, match="cannot be imported"):
        build_at(bundle, prefix, rebuild=True)
    assert load_environment(prefix) == facts
    assert leftovers(tmp_path) == [".env.lock", "env"]


def broken_proof(*arguments: object) -> dict[str, str]:
    raise DeployError("sglang cannot be imported", "install libnuma")


def test_a_rebuild_that_was_killed_gives_back_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch, CODE)
    prefix = tmp_path / "env"
    facts = build_at(bundle, prefix)
    # As a kill leaves it: the old one aside, half a new one in its place.
    prefix.rename(tmp_path / ".env.replaced")
    prefix.mkdir()
    (prefix / UNFINISHED).touch()
    assert build_at(tmp_path / "gone", prefix, facts.digest) == facts
    assert leftovers(tmp_path) == [".env.lock", "env"]


def test_a_kill_after_the_end_leaves_nothing_for_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch, CODE)
    prefix = tmp_path / "env"
    facts = build_at(bundle, prefix)
    (prefix / UNFINISHED).touch()
    for name in (".env.replaced", ".env.build"):
        (tmp_path / name / "sub").mkdir(parents=True)
    assert build_at(bundle, prefix) == facts
    assert leftovers(tmp_path) == [".env.lock", "env"] and not (prefix / UNFINISHED).exists()


def test_a_link_is_not_taken_for_an_empty_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch)
    (tmp_path / "mine").mkdir()
    (tmp_path / "env").symlink_to("mine")
    with pytest.raises(DeployError, match="no environment of the deployer's"):
        build_at(bundle, tmp_path / "env")
    assert (tmp_path / "env").is_symlink()


def test_changed_byte_code_does_not_survive_a_rebuild(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch, CODE)
    prefix = tmp_path / "env"
    build_at(bundle, prefix)
    code = next(site_of(prefix).glob("alpha/__pycache__/*.pyc"))
    good = code.read_bytes()
    with code.open("r+b") as stream:  # in place: the cache has the same file
        stream.seek(20)
        stream.write(b"EVIL")
    build_at(bundle, prefix, rebuild=True)
    assert code.read_bytes() == good
    build_at(bundle, tmp_path / "env2")
    assert next(site_of(tmp_path / "env2").glob("alpha/__pycache__/*.pyc")).read_bytes() == good


def test_a_repodata_with_another_file_than_the_lock_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch)
    monkeypatch.setattr(build, "damaged_files", lambda bundle: [])
    package = next(bundle.glob("conda/linux-64/*.tar.bz2"))
    package.write_bytes(package.read_bytes() + b"0")
    with pytest.raises(DeployError) as error:
        build_at(bundle, tmp_path / "env")
    assert "another file" in error.value.detail


def test_what_does_not_work_here_is_not_blamed_on_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch, CODE)
    build_at(bundle, tmp_path / "env1")
    monkeypatch.setattr(build, "prove", broken_proof)
    lines: list[str] = []
    with pytest.raises(DeployError, match="cannot be imported"):
        build_at(bundle, tmp_path / "env2", log=lines.append)
    assert not any("discarding" in line for line in lines)


def test_an_environment_in_use_is_not_rebuilt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch)
    prefix = tmp_path / "env"
    build_at(bundle, prefix)
    shutil.copy("/bin/sleep", prefix / "bin" / "engine")
    with subprocess.Popen([prefix / "bin" / "engine", "60"]) as process:
        try:
            with pytest.raises(DeployError, match=f"in use by pid {process.pid}"):
                build_at(bundle, prefix, rebuild=True)
        finally:
            process.kill()
    assert load_environment(prefix) is not None


def test_a_missing_backend_is_named_before_anything_is_built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(installers, "DISTRIBUTIONS", ())
    with pytest.raises(DeployError, match="this host has no mamba"):
        build_at(bundle, tmp_path / "env", backend="mamba")
    assert leftovers(tmp_path) == [".env.lock"]


def test_a_broken_conda_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = write_bundle(tmp_path / "bundle", PACKAGES, monkeypatch)
    conda = tmp_path / "conda"
    conda.write_text("#!/bin/sh\necho \"ModuleNotFoundError: No module named 'conda'\" >&2\nexit 1\n")
    conda.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DeployError, match=f"{conda} could not install the conda packages") as error:
        build_at(bundle, tmp_path / "env", backend="conda")
    assert "remove `backend`" in error.value.fix
    assert "No module named 'conda'" in error.value.detail
    assert leftovers(tmp_path) == [".env.lock"]


def test_packages_of_conda_may_be_there_besides() -> None:
    lock = Lock((), (LockedWheel("a", "2025.9.1", frozenset()), LockedWheel("b", "1.0", frozenset())))
    installed = {"a": "2025.09.01", "b": "1.1", "pip": "25.0", "stray": "1"}
    assert package_differences(installed, lock, from_conda={"pip": "25.0"}) == [
        "b: wanted 1.0, got 1.1",
        "stray: not locked",
    ]
