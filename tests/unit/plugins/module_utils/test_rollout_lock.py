"""The lock of a rollout, on real files and with real processes."""

from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import rollout_lock
from ansible_collections.deployer.sglang.plugins.module_utils.rollout_lock import (
    Holder,
    acquire,
    describe,
    holder_of,
    release,
)

FIRST = Holder("aaa", "mia@ops1", "ops1", "rollout of code2sql", 1000.0, "m1", "b1", "n1", ((1234, 5),))
SECOND = Holder("bbb", "tom@ops2", "ops2", "rollback of code2sql", 1001.0, "m2", "b2", "n2", ((77, 6),))


def audited(root: Path) -> list[str]:
    lines = (root / "audit.jsonl").read_text().splitlines()
    return [json.loads(line)["what"] for line in lines]


def test_what_was_taken_is_read_back(tmp_path: Path) -> None:
    assert acquire(str(tmp_path), FIRST) is None
    assert holder_of(str(tmp_path)) == FIRST
    assert (tmp_path / "rollout.json").stat().st_mode & 0o777 == 0o644


def test_the_root_folder_is_made(tmp_path: Path) -> None:
    assert acquire(str(tmp_path / "opt" / "inference"), FIRST) is None


def test_another_run_learns_who_holds_it(tmp_path: Path) -> None:
    acquire(str(tmp_path), FIRST)
    assert acquire(str(tmp_path), SECOND) == FIRST
    assert holder_of(str(tmp_path)) == FIRST


def test_a_run_may_take_its_own_lock_again(tmp_path: Path) -> None:
    acquire(str(tmp_path), FIRST)
    assert acquire(str(tmp_path), FIRST) is None
    assert audited(tmp_path) == ["lock taken"]


def test_a_lock_of_a_run_that_is_gone_is_taken_over_and_nobody_elses(tmp_path: Path) -> None:
    acquire(str(tmp_path), FIRST)
    assert acquire(str(tmp_path), SECOND, replaces="other") == FIRST
    assert acquire(str(tmp_path), SECOND, replaces=FIRST.run) is None
    assert holder_of(str(tmp_path)) == SECOND
    assert audited(tmp_path) == ["lock taken", "lock taken over"]


def test_only_what_a_run_holds_is_given_back(tmp_path: Path) -> None:
    acquire(str(tmp_path), FIRST)
    assert release(str(tmp_path), SECOND.run, "tom@ops2") is None
    assert release(str(tmp_path), FIRST.run, "mia@ops1") == FIRST
    assert holder_of(str(tmp_path)) is None
    assert release(str(tmp_path), FIRST.run, "mia@ops1") is None


def test_any_lock_can_be_broken_and_that_is_written_down(tmp_path: Path) -> None:
    acquire(str(tmp_path), FIRST)
    assert release(str(tmp_path), "", "tom@ops2", force=True) == FIRST
    assert audited(tmp_path) == ["lock taken", "lock broken"]


def test_a_host_without_a_deployment_has_no_lock(tmp_path: Path) -> None:
    assert holder_of(str(tmp_path / "none")) is None
    assert release(str(tmp_path / "none"), "", "me", force=True) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"run": "x"}', json.dumps({**FIRST.as_dict(), "processes": 7})])
def test_a_lock_that_cannot_be_read_is_held_until_it_is_broken(tmp_path: Path, text: str) -> None:
    (tmp_path / "rollout.json").write_text(text)
    held = acquire(str(tmp_path), FIRST)
    assert held is not None and held.run == ""
    assert describe(held, 0) == "a lock that cannot be read"
    assert release(str(tmp_path), "", "me", force=True) == held


def test_the_run_that_comes_first_waits_for_one_that_gives_way(tmp_path: Path) -> None:
    acquire(str(tmp_path), SECOND)
    assert acquire(str(tmp_path), FIRST, on_wait=lambda: _given_back(tmp_path)) is None
    assert holder_of(str(tmp_path)) == FIRST


def _given_back(root: Path) -> None:
    release(str(root), SECOND.run, "")


def test_nobody_waits_for_a_lock_that_is_none_of_a_race(tmp_path: Path) -> None:
    acquire(str(tmp_path), SECOND)
    old = os.stat(tmp_path / "rollout.json").st_mtime - rollout_lock.PATIENCE - 1
    os.utime(tmp_path / "rollout.json", (old, old))
    assert acquire(str(tmp_path), FIRST, on_wait=lambda: pytest.fail("it waited")) == SECOND


def _takes_all(roots: list[str], holder: Holder, barrier: object, results: object) -> None:
    barrier.wait()  # type: ignore[attr-defined]
    for root in roots:
        if acquire(root, holder) is not None:
            for one in roots:
                release(one, holder.run, holder.who)
            results.put((holder.run, False))  # type: ignore[attr-defined]
            return
    results.put((holder.run, True))  # type: ignore[attr-defined]


def test_of_two_runs_that_race_for_two_hosts_one_goes_on(tmp_path: Path) -> None:
    """Each begins with another host: without an order between them, both would give up."""
    context = multiprocessing.get_context("spawn")
    roots = [str(tmp_path / name) for name in ("h1", "h2")]
    results = context.Queue()
    barrier = context.Barrier(2)
    runs = [
        context.Process(target=_takes_all, args=(order, holder, barrier, results))
        for order, holder in ((roots, FIRST), (roots[::-1], SECOND))
    ]
    for run in runs:
        run.start()
    outcome = dict(results.get(timeout=60) for _ in runs)
    for run in runs:
        run.join()
    (winner,) = [name for name, went_on in outcome.items() if went_on]
    assert [holder.run for root in roots if (holder := holder_of(root))] == [winner, winner]


def test_a_holder_is_described_on_one_line_without_control_characters() -> None:
    line = describe(Holder("x", "mia\x1b[31m", "ops1", "rollout of a\nb", 0.0, processes=((1, 2), (3, 4))), 24 * 60.0)
    assert "(24 min), from ops1 pid 1, 3" in line and line.isprintable()
    assert "1970-01-01" not in line and "1970-01-01" in describe(Holder("x", "mia", "ops1"), 10.0**9)
