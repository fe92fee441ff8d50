"""Pruning a real tree: what is kept, what goes, what a kill leaves, and that a second run changes nothing."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.pruning import disk
from ansible_collections.deployer.sglang.plugins.module_utils.pruning import prune as pruning
from ansible_collections.deployer.sglang.plugins.module_utils.pruning.processes import Uses
from ansible_collections.deployer.sglang.plugins.module_utils.pruning.prune import prune
from ansible_collections.deployer.sglang.plugins.module_utils.pruning.rules import Rules
from tests.doubles.pruned_host import DAY, NOW, OLD, PrunedHost, date, deployed, digest, lock_held, names, run, tree


@pytest.fixture
def host(tmp_path: Path) -> PrunedHost:
    return deployed(tmp_path / "inference")


def test_what_no_kept_release_needs_goes_and_a_second_run_changes_nothing(host: PrunedHost) -> None:
    before = tree(host.root)
    planned = run(host, check=True)
    assert tree(host.root) == before
    assert not (host.root / "services" / "code2sql" / "lock").exists()
    done = run(host)
    assert done == planned
    assert names(done["removed"]) == [
        "old",
        "old-" + digest("old")[:12],
        "m-old-" + digest("m-old")[:12],
        digest("old")[:12],
    ]
    assert not any(os.path.exists(row["path"]) for row in done["removed"])
    assert all(os.path.exists(row["path"]) for row in done["kept"])
    assert done["freed"] == sum(row["bytes"] for row in done["removed"]) > 20_000
    assert not [path for path in tree(host.root) if ".removing" in path]
    again = run(host)
    assert (again["changed"], again["removed"], again["freed"]) == (False, [], 0)
    assert again["kept"] == done["kept"]


def test_it_is_said_which_release_keeps_what(host: PrunedHost) -> None:
    kept = {row["path"]: row for row in run(host, check=True)["kept"]}
    row = kept[str(host.root / "artifacts" / "models" / f"m-new-{digest('m-new')[:12]}")]
    assert row["used_by"] == ["release new of code2sql (current)"]
    assert row["why"] == "release new of code2sql (current)"


def test_previous_transaction_and_the_newest_others_keep_their_artifacts(host: PrunedHost) -> None:
    assert run(host, check=True, keep=1)["removed"] == []
    transaction = host.root / "services" / "code2sql" / "transaction.json"
    transaction.write_text(json.dumps({"state": "gate", "from": "new", "to": "old"}))
    assert run(host, check=True)["removed"] == []
    transaction.unlink()
    host.link("code2sql", "previous", "old")
    assert run(host, check=True)["removed"] == []


def test_what_is_young_is_kept_whatever_uses_it(host: PrunedHost) -> None:
    young = [
        host.environment("a", age=3600),
        host.model("b", age=3600),
        host.build("c", 3600),
        host.incoming("d", 3600),
    ]
    old = [host.build("e"), host.incoming("f")]
    done = run(host)
    assert all(path.exists() for path in young)
    assert not any(path.exists() for path in old)
    assert "younger than 1 day" in [row["why"] for row in done["kept"]]


def test_one_new_file_makes_a_transfer_young(host: PrunedHost) -> None:
    arriving = host.incoming("d")
    date(arriving / "part", NOW - 60)
    run(host)
    assert arriving.exists()


def test_a_build_and_a_transfer_whose_lock_is_held_are_kept(host: PrunedHost) -> None:
    build, free, arriving = host.build("c"), host.build("e"), host.incoming("d")
    work = build.with_name(f".{build.name}.build")
    work.mkdir()
    date(work, OLD)
    locks = [path.with_name(f".{path.name}.lock") for path in (build, arriving)]
    with lock_held(locks[0]), lock_held(locks[1]):
        done = run(host)
    assert build.exists() and work.exists() and arriving.exists()
    assert not free.exists()
    assert len([row for row in done["kept"] if "its lock is held" in row["why"]]) == 3


def test_a_cut_over_under_way_keeps_every_release_of_its_service(
    host: PrunedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ansible_collections.deployer.sglang.plugins.module_utils.pruning.survey.PATIENCE", 0)
    with lock_held(host.root / "services" / "code2sql" / "lock"):
        done = run(host)
    assert not done["changed"]
    assert "a cut-over is under way" in [row["why"] for row in done["kept"]]


def test_no_cut_over_can_start_between_the_decision_and_the_hiding(
    host: PrunedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = str(host.root / "services" / "code2sql" / "lock")
    taken = []

    def hide(path: str) -> str:
        words = ["flock", "--nonblock", lock, "true"]
        taken.append(subprocess.run(words, check=False).returncode == 0)
        return path

    monkeypatch.setattr(disk, "hide", hide)
    run(host)
    assert taken == [False] * 4
    assert subprocess.run(["flock", "--nonblock", lock, "true"], check=False).returncode == 0


def test_an_artifact_that_a_process_runs_from_is_kept(host: PrunedHost) -> None:
    environment = host.root / "artifacts" / "environments" / f"old-{digest('old')[:12]}"
    program = environment / "bin" / "python"
    program.parent.mkdir()
    shutil.copy("/bin/sleep", program)
    process = subprocess.Popen([program, "600"])
    try:
        done = run(host)
        assert environment.exists()
        kept = {row["path"]: row for row in done["kept"]}
        assert kept[str(environment)]["used_by"][0].startswith(f"pid {process.pid} of ")
        assert f"m-old-{digest('m-old')[:12]}" in names(done["removed"])
        assert (host.root / "cache" / digest("old")[:12]).exists()
    finally:
        process.kill()
        process.wait()
    assert environment.name in names(run(host)["removed"])


def in_child(function: Callable[[], None], user: int = 0) -> int:
    """Run a function in a process of its own, as `user` where one is given; the signal or exit code it ends by."""
    child = os.fork()
    if child == 0:
        try:
            if user:
                os.setgroups([])
                os.setgid(user)
                os.setuid(user)
            function()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_killed_removal_is_out_of_sight_and_gone_on_with(host: PrunedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(disk, "remove", lambda path: os.kill(os.getpid(), signal.SIGKILL))
        assert in_child(lambda: run(host) and None) == -signal.SIGKILL
    environments = host.root / "artifacts" / "environments"
    name = f"old-{digest('old')[:12]}"
    assert (environments / f".{name}.removing").exists()
    assert not (environments / name).exists()
    host.environment("old")  # it was staged again meanwhile, and is no more needed once more
    done = run(host)
    assert [row["kind"] for row in done["removed"]].count("unfinished removal") == 4
    assert not [path for path in tree(host.root) if "removing" in path or name in path]


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user")
def test_a_user_prunes_a_root_of_their_own() -> None:
    operator = 54321
    with tempfile.TemporaryDirectory() as folder:  # pytest's own folders are closed to others
        host = PrunedHost(Path(folder) / "inference")
        for name in ("old", "new"):
            host.environment(name)
            host.release("code2sql", name, name, "m")
        host.link("code2sql", "current", "new")
        for path in (Path(folder), *Path(folder).rglob("*")):
            os.chown(path, operator, operator, follow_symlinks=False)
        assert in_child(lambda: run(host) and None, user=operator) == 0
        assert [path.name for path in host.root.glob("artifacts/environments/*")] == [f"new-{digest('new')[:12]}"]


def test_two_prunings_of_a_host_do_not_meet(host: PrunedHost) -> None:
    with lock_held(host.root / ".prune.lock"):
        with pytest.raises(DeployError, match="another pruning"):
            run(host)
        assert run(host, check=True)["changed"]


def test_a_half_done_staging_goes_when_it_is_old(host: PrunedHost) -> None:
    half = host.root / "services" / "code2sql" / "releases" / ".0123456789ab.part"
    half.mkdir()
    date(half, NOW)
    assert "unfinished release" not in [row["kind"] for row in run(host, check=True)["removed"]]
    date(half, OLD)
    assert "unfinished release" in [row["kind"] for row in run(host)["removed"]]
    assert not half.exists()


def test_what_cannot_be_removed_is_said_and_the_rest_goes(host: PrunedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    remove = disk.remove

    def failing(path: str) -> None:
        if "m-old" in path:
            raise PermissionError(1, "Operation not permitted", f"{path}/x")
        remove(path)

    monkeypatch.setattr(disk, "remove", failing)
    done = run(host)
    (failed,) = done["failed_paths"]
    assert "m-old" in failed["path"]
    assert "Operation not permitted" in failed["why"]
    assert "m-old" not in str(names(done["removed"]))
    monkeypatch.undo()
    assert [row["kind"] for row in run(host)["removed"]] == ["unfinished removal"]


def test_an_empty_host_has_nothing_to_remove(tmp_path: Path) -> None:
    done = prune(str(tmp_path / "nowhere"), Rules())
    assert not done["changed"] and done["removed"] == done["kept"] == done["left_alone"] == []
    assert not (tmp_path / "nowhere").exists()


NAMES = st.sampled_from("abcdef")


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    artifacts=st.sets(NAMES),
    releases=st.lists(st.tuples(st.sampled_from(["s", "t"]), NAMES, NAMES, st.integers(2, 20)), max_size=8),
    links=st.lists(st.tuples(st.integers(0, 7), st.sampled_from(["current", "previous", "predecessor"])), max_size=4),
    keep=st.integers(0, 2),
)
def test_whatever_was_deployed_what_is_kept_has_what_it_uses_and_everything_is_listed(
    artifacts: set[str],
    releases: list[tuple[str, str, str, int]],
    links: list[tuple[int, str]],
    keep: int,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pruning, "find_uses", lambda root, tokens: Uses({}, ()))
    host = PrunedHost(tmp_path_factory.mktemp("host"))
    for name in artifacts:
        host.environment(name, size=10)
        host.model(name, size=10)
        host.cache(name)
    for number, (service, environment, model, age) in enumerate(releases):
        host.release(service, str(number), environment, model, age=age * DAY)
    named = {(releases[number][0], role): number for number, role in links if number < len(releases)}
    for (service, role), number in named.items():
        host.link(service, role, str(number))
    patterns = ("artifacts/*/*", "cache/*", "services/*/releases/*")
    things = {str(path) for pattern in patterns for path in host.root.glob(pattern)}
    done = run(host, keep=keep)
    assert sorted(row["path"] for row in (*done["removed"], *done["kept"])) == sorted(things)
    assert {path for path in things if os.path.exists(path)} == {row["path"] for row in done["kept"]}
    for (service, _), number in named.items():
        _, environment, model, _ = releases[number]
        assert (host.root / "services" / service / "releases" / str(number)).exists()
        for kind, name in (("environments", environment), ("models", model)):
            folder = host.root / "artifacts" / kind / f"{name}-{digest(name)[:12]}"
            assert folder.exists() == (name in artifacts)
    assert not run(host, keep=keep)["changed"]
