"""Whether a run on this controller is gone: with real processes."""

from __future__ import annotations

import dataclasses
import os
import subprocess

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.procfs import start_time_of
from ansible_collections.deployer.sglang.plugins.module_utils.rollout_lock import Holder
from ansible_collections.deployer.sglang.plugins.plugin_utils import controller


@pytest.fixture
def own() -> Holder:
    found = controller.holder("me", "rollout", 0.0)
    return dataclasses.replace(found, machine=found.machine or "m")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(controller, "machine_id", lambda: "m")


def carried_by(holder: Holder, *processes: tuple[int, int]) -> Holder:
    return dataclasses.replace(holder, machine="m", processes=processes)


def test_a_run_is_the_same_in_every_worker() -> None:
    assert controller.holder("a", "b", 1.0).run == controller.holder("c", "d", 2.0).run
    assert controller.holder("a", "b", 1.0, run="x").run == "x"


def test_a_process_that_lives_is_not_gone(own: Holder) -> None:
    assert not controller.is_gone(carried_by(own, (os.getpid(), start_time_of(os.getpid()))))


def test_a_process_that_has_ended_is_gone_and_so_is_one_whose_id_is_anothers(own: Holder) -> None:
    child = subprocess.Popen(["sleep", "60"])
    start = start_time_of(child.pid)
    both = carried_by(own, (os.getpid(), 1), (child.pid, start))
    assert not controller.is_gone(both)
    child.kill()
    child.wait()
    assert controller.is_gone(both)


def test_of_another_machine_or_container_nothing_is_known(own: Holder) -> None:
    ended = carried_by(own, (os.getpid(), 1))
    assert controller.is_gone(ended)
    for other in ({"machine": "other"}, {"machine": ""}, {"controller": "other"}, {"namespace": "pid:[1]"}):
        assert not controller.is_gone(dataclasses.replace(ended, **other))
    assert not controller.is_gone(carried_by(own))


def test_what_ran_before_this_machine_was_booted_is_gone(own: Holder) -> None:
    alive = carried_by(own, (os.getpid(), start_time_of(os.getpid())))
    assert controller.is_gone(dataclasses.replace(alive, boot="another"))
