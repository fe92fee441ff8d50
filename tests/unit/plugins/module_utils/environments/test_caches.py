from __future__ import annotations

from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.environments.caches import Caches


def wheel_at(folder: Path) -> Path:
    folder.mkdir(parents=True)
    wheel = folder / "alpha-1.0-py3-none-any.whl"
    wheel.write_text("wheel")
    return wheel


def test_wheels_of_any_bundle_have_one_path_and_time(tmp_path: Path) -> None:
    caches = Caches(tmp_path / "cache")
    seen = []
    for bundle in ("one", "two"):
        wheel = wheel_at(tmp_path / bundle)
        with caches.in_use(), caches.wheelhouse([wheel]) as house:
            found = house / wheel.name
            assert found.samefile(wheel)
            seen.append((found, found.stat().st_mtime))
        assert not house.exists()
    assert seen[0] == seen[1]


def test_what_does_not_last_leaves_times_alone(tmp_path: Path) -> None:
    wheel = wheel_at(tmp_path / "one")
    before = wheel.stat().st_mtime_ns
    caches = Caches(tmp_path / "cache", lasting=False)
    with caches.in_use(), caches.wheelhouse([wheel]):
        pass
    assert wheel.stat().st_mtime_ns == before


def test_a_killed_builds_second_names_are_forgotten(tmp_path: Path) -> None:
    caches = Caches(tmp_path / "cache")
    caches.forget_interrupted()
    wheel = wheel_at(tmp_path / "one")
    with caches.in_use(), caches.wheelhouse([wheel]) as house:
        (tmp_path / "killed").mkdir()
        (house / wheel.name).rename(tmp_path / "killed" / wheel.name)
    house.mkdir()
    (tmp_path / "killed" / wheel.name).rename(house / wheel.name)
    assert wheel.stat().st_nlink == 2
    caches.forget_interrupted()
    assert wheel.stat().st_nlink == 1


def test_caches_in_use_are_not_discarded(tmp_path: Path) -> None:
    caches = Caches(tmp_path / "cache")
    assert not caches.filled()
    caches.discard()
    with caches.in_use():
        caches.wheels.mkdir()
        caches.discard()
        assert caches.filled()
    caches.discard()
    assert not caches.filled()
