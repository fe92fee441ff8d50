from __future__ import annotations

from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.environments.build import Order, build_environment
from ansible_collections.deployer.sglang.plugins.module_utils.environments.caches import Caches
from ansible_collections.deployer.sglang.plugins.module_utils.environments.check import (
    built_environments,
    check_environment,
)
from ansible_collections.deployer.sglang.plugins.module_utils.environments.lock import lock_digest
from tests.doubles.bundle_files import write_bundle


@pytest.fixture
def built(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment below the root `tmp_path`."""
    bundle = write_bundle(
        tmp_path / "bundle", {"alpha": "1.0"}, monkeypatch, {"alpha": {"alpha/__init__.py": "VALUE = 1\n"}}
    )
    digest = lock_digest(bundle)
    prefix = tmp_path / "artifacts" / "environments" / f"demo-{digest[:12]}"
    build_environment(Order(bundle, prefix, digest, "demo", Caches(tmp_path / "cache")))
    return prefix


def site_of(prefix: Path) -> Path:
    return next(prefix.glob("lib/python3*/site-packages"))


def test_a_built_environment_is_sound(tmp_path: Path, built: Path) -> None:
    assert list(built_environments(str(tmp_path))) == [str(built)]
    assert list(built_environments(str(tmp_path / "nowhere"))) == []
    found = check_environment(str(built), deep=True)
    assert found.sound and found.built and found.files > 5
    assert (found.name, found.path) == ("demo", str(built))
    assert check_environment(str(built), deep=False).sound


def test_a_flipped_byte_is_named_with_the_way_out(built: Path) -> None:
    path = site_of(built) / "alpha" / "__init__.py"
    path.write_text("VALUE = 2\n")
    assert check_environment(str(built), deep=False).sound
    found = check_environment(str(built), deep=True)
    assert not found.sound
    assert found.differences[0].startswith(f"{path.relative_to(built)} of alpha 1.0 was changed: sha256 wanted ")
    assert "environment_rebuild=true" in found.fix


def test_other_versions_than_built_show_without_hashing(built: Path) -> None:
    metadata = next(site_of(built).glob("alpha*/METADATA"))
    metadata.write_text(metadata.read_text().replace("1.0", "1.1"))
    assert check_environment(str(built), deep=False).differences == ("alpha: built as 1.0, is 1.1",)


def test_a_changed_record_or_a_lost_interpreter_is_a_problem(built: Path) -> None:
    (built / "bin" / "python").unlink()
    found = check_environment(str(built), deep=False)
    assert "has no bin/python" in found.problem and not found.sound and found.name == "demo"
    (built / "environment.json").write_text("{")
    assert "is not readable" in check_environment(str(built), deep=True).problem


def test_an_existing_prefix_is_compared_with_its_installers_records(built: Path) -> None:
    (built / "environment.json").unlink()
    found = check_environment(str(built), deep=True)
    assert (found.sound, found.built, found.name) == (True, False, "")
    (site_of(built) / "alpha" / "__init__.py").write_text("VALUE = 3\n")
    found = check_environment(str(built), deep=True)
    assert found.count == 1 and "never changes this environment" in found.fix
