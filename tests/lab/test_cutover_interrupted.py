"""What interrupts a cut-over, in each of its states: afterwards a service answers, and what is said of it is true.

The host is held in the state (see tests/lab/holding.py), the fault comes, and the host is let go.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.lab.fleet import DoubleFleet
from tests.lab.holding import STATES, Watch
from tests.lab.one_host import HOST, NEW, OneHost

pytestmark = pytest.mark.lab

FAILS: dict[str, Any] = {"options": {"device": "cpu", "fault": "exit"}}
# A controller that asks its host every second whether it is still there, so that a test need not wait for a minute.
ATTENTIVE = {"ANSIBLE_SSH_ARGS": "-o ControlMaster=auto -o ControlPersist=60s -o ServerAliveInterval=1"}


def in_each_state(quick: str) -> pytest.MarkDecorator:
    """Once a state; `make test` runs one of them."""
    return pytest.mark.parametrize(
        "state", [pytest.param(state, marks=() if state == quick else pytest.mark.slow) for state in STATES]
    )


def release_for(state: str) -> dict[str, Any]:
    """What has to be rolled out to come through `state`."""
    return FAILS if state == "restore" else NEW


def expected(one: OneHost, state: str) -> str:
    """What serves where a rollout that came to `state` goes on to its end."""
    return one.committed if state == "restore" else one.staged()


def assert_next_rollout_finishes(one: OneHost) -> None:
    """Whatever is left of the interrupted one, the next brings the release asked for."""
    done = one.rollout(**NEW)
    assert done.status == 0, done.output
    assert one.answers_as() == one.fleet.link(HOST, "current") == done.outcome["hosts"][0]["services"][0]["after"]
    assert one.status()["state"] == "serving"
    one.assert_nothing_lost()


@in_each_state(quick="gate")
def test_a_controller_that_is_killed_leaves_a_host_that_goes_on(one: OneHost, state: str) -> None:
    watch = Watch(one.host, state)
    rollout = one.begin(**release_for(state))
    held = watch.held()
    rollout.kill()
    held.go_on()
    one.settle()

    assert one.answers_as() == expected(one, state) == one.fleet.link(HOST, "current")
    assert one.status()["state"] == "serving"
    one.assert_nothing_lost()


@in_each_state(quick="")
def test_a_cable_that_is_out_for_a_while_breaks_the_connection_and_nothing_else(one: OneHost, state: str) -> None:
    watch = Watch(one.host, state)
    rollout = one.begin(**release_for(state), environment=ATTENTIVE)
    watch.held().go_on(after=2)
    with cable_out(one):
        time.sleep(8)  # until ssh has given the connection up; the host has gone on long before
    done = rollout.finish()

    assert done.status == (1 if state == "restore" else 0), done.output
    one.assert_true(done, expected(one, state))
    assert one.answers_as() == expected(one, state)
    one.assert_nothing_lost()


@pytest.mark.slow
def test_a_controller_that_never_sees_its_host_again_says_so_and_the_host_goes_on(one: OneHost) -> None:
    watch = Watch(one.host, "gate")
    rollout = one.begin("-e", "cutover_timeout=20", **NEW, environment=ATTENTIVE)
    watch.held().go_on(after=2)
    with cable_out(one):
        done = rollout.finish()
    one.settle()

    assert done.status == 3, done.output
    assert "NOT KNOWN" in done.output
    assert one.answers_as() == one.staged() == one.fleet.link(HOST, "current")
    assert one.status()["state"] == "serving"
    one.assert_nothing_lost()


@contextmanager
def cable_out(one: OneHost) -> Iterator[None]:
    """While the block runs."""
    one.host.link(up=False)
    try:
        yield
    finally:
        one.host.link(up=True)
        one.host.wait_until_up()


@in_each_state(quick="gate")
def test_a_host_that_loses_power_comes_up_with_what_was_proved(one: OneHost, state: str) -> None:
    watch = Watch(one.host, state)
    rollout = one.begin(**release_for(state))
    watch.held()
    one.host.power_cut()
    one.host.boot()
    assert one.fleet.answers_within(HOST, 60)

    proved = {one.committed, one.staged()} if state == "commit" else {one.committed}
    # The unit in /etc and `current` are two writes: between them a power cut leaves either, and both were proved.
    assert one.answers_as() in proved and one.fleet.link(HOST, "current") in proved
    assert one.status()["state"] == "interrupted"
    done = rollout.finish()
    assert done.status == 3, done.output
    one.assert_nothing_lost()
    assert_next_rollout_finishes(one)


@in_each_state(quick="stopped")
def test_a_module_that_is_killed_leaves_a_service_that_answers(one: OneHost, state: str) -> None:
    watch = Watch(one.host, state)
    rollout = one.begin(**release_for(state))
    watch.held().kill()

    allowed = {one.committed} if state == "restore" else {one.committed, one.staged()}
    assert one.serves_one_of(allowed)
    one.settle()
    assert one.answers_as() in allowed
    assert one.answers_as() == one.fleet.link(HOST, "current")
    done = rollout.finish()
    # What has passed its gate is committed by the guardian, and that is what was asked for.
    assert done.status in ((0,) if state == "commit" else (1, 3)), done.output
    one.assert_true(done, expected(one, state))
    one.assert_nothing_lost()
    assert_next_rollout_finishes(one)


@pytest.mark.slow
def test_the_host_goes_on_when_who_waits_for_the_transaction_is_killed(one: OneHost) -> None:
    watch = Watch(one.host, "gate")
    rollout = one.begin("-e", "cutover_timeout=30", **NEW)
    held = watch.held()
    held.kill_parent()
    held.go_on()
    one.settle()

    assert one.answers_as() == one.staged() == one.fleet.link(HOST, "current")
    one.assert_true(rollout.finish(), one.staged())
    assert one.status()["state"] == "serving"
    one.assert_nothing_lost()


@pytest.mark.slow
def test_when_nobody_is_left_the_next_rollout_puts_it_right(one: OneHost) -> None:
    watch = Watch(one.host, "stopped")
    rollout = one.begin("-e", "cutover_timeout=30", **NEW)
    held = watch.held()
    held.kill_parent()
    held.kill()
    done = rollout.finish()

    assert done.status == 3, done.output
    assert one.answers_as() == ""
    assert one.status()["state"] == "interrupted"
    one.assert_nothing_lost()
    assert_next_rollout_finishes(one)


@in_each_state(quick="")
def test_a_disk_that_fills_up_keeps_no_service_from_answering(one: OneHost, state: str) -> None:
    one.put_on_small_disk()
    watch = Watch(one.host, state)
    rollout = one.begin(**release_for(state))
    held = watch.held()
    one.fill_disk()
    held.go_on()
    done = rollout.finish()

    assert done.status in ((2,) if state == "drain" else (0, 1)), done.output  # nothing was stopped yet
    one.assert_true(done, expected(one, state))
    one.assert_nothing_lost()
    one.free_disk()
    assert_next_rollout_finishes(one)


@pytest.mark.slow
def test_a_disk_that_is_full_already_is_refused(one: OneHost) -> None:
    before = one.listeners()
    one.put_on_small_disk()
    one.fill_disk()
    done = one.rollout(**NEW)

    assert done.status == 2, done.output
    assert "No space left" in done.output
    assert one.listeners() == before
    one.assert_true(done, "")
    one.assert_nothing_lost()
    one.free_disk()
    assert_next_rollout_finishes(one)


@pytest.mark.slow
def test_of_two_controllers_one_is_refused(one: OneHost, tmp_path: Path) -> None:
    second = DoubleFleet(one.fleet.lab, one.fleet.inputs, tmp_path / "second")
    second.describe(environment_variables={"RELEASE": "of the second controller"})
    watch = Watch(one.host, "gate")
    rollout = one.begin(**NEW)
    held = watch.held()
    wanted = one.staged()
    refused = second.deployer("rollout", HOST)
    held.go_on()
    done = rollout.finish()

    assert refused.status == 2, refused.output
    assert "under way" in refused.output or "rollout of" in refused.output
    assert done.status == 0, done.output
    one.assert_true(done, wanted)
    one.assert_nothing_lost()


@pytest.mark.slow
def test_ctrl_c_once_waits_for_what_is_under_way(one: OneHost) -> None:
    watch = Watch(one.host, "gate")
    rollout = one.begin(**NEW)
    held = watch.held()
    rollout.interrupt()
    held.go_on(after=3)
    done = rollout.finish()
    one.settle()

    # All that was to be done is done, or the run says that it was interrupted; that something failed is not true.
    assert done.status == 0 or (done.status in (1, 3) and "interrupted" in done.output.lower()), done.output
    assert "refused" not in done.outcome["meaning"]
    (cutover,) = done.outcome["hosts"][0]["services"]
    assert cutover["outcome"] == "committed"
    assert one.answers_as() == one.staged() == one.fleet.link(HOST, "current")
    one.assert_nothing_lost()


@pytest.mark.slow
def test_ctrl_c_twice_stops_watching_and_says_that_the_outcome_is_not_known(one: OneHost) -> None:
    watch = Watch(one.host, "gate")
    rollout = one.begin(**NEW)
    held = watch.held()
    rollout.interrupt()
    time.sleep(2)  # a person who sees that it goes on
    rollout.interrupt()
    done = rollout.finish()  # the host is still held: nobody can know how this ends

    assert done.status == 3, done.output
    assert "NOT KNOWN" in done.output
    held.go_on()
    one.settle()
    assert one.answers_as() == one.staged() == one.fleet.link(HOST, "current")
    assert one.status()["state"] == "serving"
    one.assert_nothing_lost()
    assert_next_rollout_finishes(one)
