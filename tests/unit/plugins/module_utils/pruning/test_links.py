"""Pruning where files have several names, as those of wheels have in the environments that share them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.pruning.prune import trim_wheel_cache
from tests.doubles.pruned_host import NOW, PrunedHost, deployed, digest, lock_held, run


@pytest.fixture
def host(tmp_path: Path) -> PrunedHost:
    return deployed(tmp_path / "inference")


def test_files_with_several_names_count_where_the_last_goes(host: PrunedHost) -> None:
    environments = host.root / "artifacts" / "environments"
    old, new = (environments / f"{name}-{digest(name)[:12]}" for name in ("old", "new"))
    other = host.environment("other", size=1)
    for name, size in (("kept", 1_000_000), ("gone", 2_000_000)):
        (old / name).write_bytes(b"x" * size)
    os.link(old / "kept", new / "kept")
    os.link(old / "gone", other / "gone")
    sizes = {Path(row["path"]).name: row["bytes"] for row in run(host, check=True)["removed"]}
    assert sizes[other.name] + sizes[old.name] in range(2_000_000, 2_200_000)
    assert min(sizes[other.name], sizes[old.name]) < 100_000


def test_wheels_go_when_the_last_environment_that_has_them_goes(host: PrunedHost) -> None:
    environments = host.root / "artifacts" / "environments"
    old, new = (environments / f"{name}-{digest(name)[:12]}" for name in ("old", "new"))
    used, unused, young = host.wheel("a", linked_into=new), host.wheel("b", linked_into=old), host.wheel("c", age=60)
    planned = run(host, check=True)
    done = run(host)
    assert done == planned
    row = done["removed"][-1]
    assert (row["kind"], row["why"]) == ("wheel cache", "1 unpacked wheel of which no environment has a file")
    assert row["bytes"] > 20_000
    assert used.exists() and young.exists() and not unused.exists()
    assert "wheel cache" in [row["kind"] for row in done["kept"]]
    assert not run(host)["changed"]


def test_while_an_environment_is_built_no_wheel_goes(host: PrunedHost) -> None:
    wheel = host.wheel("b")
    with lock_held(host.root / "cache" / ".builds.lock"):
        assert "wheel cache" not in [row["kind"] for row in run(host)["removed"]]
        assert trim_wheel_cache(str(host.root)) == []
    assert wheel.exists()


def test_trimming_the_wheel_cache_leaves_no_pointer_to_what_is_gone(host: PrunedHost) -> None:
    environment = host.environment("x")
    used, unused = host.wheel("a", linked_into=environment), host.wheel("b")
    assert trim_wheel_cache(str(host.root), before=NOW) == [str(unused)]
    pointers = host.root / "cache" / "wheels" / "wheels-v8"
    assert used.exists() and not unused.exists()
    assert sorted(os.listdir(pointers / "a")) == ["1.0", "1.0.rev"]
    assert os.listdir(pointers / "b") == []
