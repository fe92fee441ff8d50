"""Releases that fail, ports that are taken, processes that stay, files that are gone: what serves afterwards.

The engine is a light double; only the transaction matters. What interrupts it is in test_cutover_interrupted.py.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import wait_until
from tests.lab.fleet import FOLDER, PORT, SERVICE, DoubleFleet
from tests.lab.holding import Watch
from tests.lab.memory import confine, doubles_of, short_of_memory
from tests.lab.one_host import HOST, NEW, SAVED, UNIT, OneHost

pytestmark = pytest.mark.lab

STRANGER = f"python3 -m http.server {PORT}"
OTHER_SGLANG = f"{DoubleFleet.PREFIX}/bin/python -m sglang.launch_server --host 0.0.0.0 --port {PORT}"
OTHER_SGLANG += f" --served-model-name {SERVICE}"
# A clock that is an hour slow as soon as a file is there, for every Python of the host: hosts of a lab share the
# machine's clock, and a time namespace moves only the clocks that count from the boot.
SLOW_CLOCK = """
import os, time
_time, _gmtime = time.time, time.gmtime
time.time = lambda: _time() - (3600 if os.path.exists("/run/clock-set-back") else 0)
time.gmtime = lambda seconds=None: _gmtime(time.time() if seconds is None else seconds)
"""


def failing(fault: str, **gate: int) -> dict[str, Any]:
    """A release with a fault, and its gate."""
    options = {"device": "cpu", "fault": fault}
    return {"options": options, "gate": {"ready_timeout": 5, "min_healthy_time": 0, **gate}}


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        pytest.param("exit", "exit status 7"),
        pytest.param("die-loading", "exit status 1", marks=pytest.mark.slow),
        pytest.param("hang-loading", "not ready after", marks=pytest.mark.slow),
        pytest.param("hang", "not ready after", marks=pytest.mark.slow),
        pytest.param("wrong-name", "/v1/models lists someone-else", marks=pytest.mark.slow),
        pytest.param("die-soon", "exit status 9", marks=pytest.mark.slow),
    ],
)
def test_a_release_that_does_not_pass_gives_way_to_what_served_before(one: OneHost, fault: str, reason: str) -> None:
    done = one.rollout(**failing(fault, min_healthy_time=4 if fault == "die-soon" else 0))

    assert done.status == 1, done.output
    (cutover,) = done.outcome["hosts"][0]["services"]
    assert (cutover["outcome"], cutover["after"]) == ("restored", one.committed)
    assert reason in cutover["reason"]
    assert f"double starts with fault {fault}" in done.outcome["hosts"][0]["failure"]
    one.assert_true(done, "")
    one.assert_nothing_lost()


@pytest.mark.slow
def test_a_release_that_the_kernel_ends_for_want_of_memory_gives_way(one: OneHost) -> None:
    with short_of_memory(one.host, UNIT):
        rollout = one.begin(**failing("oom", ready_timeout=60))
        confine(one.host, "oom")
        done = rollout.finish()

    assert done.status == 1, done.output
    (cutover,) = done.outcome["hosts"][0]["services"]
    assert (cutover["outcome"], cutover["probe"]) == ("restored", "process")
    assert "exit status 9" in cutover["reason"]
    assert not doubles_of(one.host, "oom")
    one.assert_true(done, "")
    one.assert_nothing_lost()


@pytest.mark.parametrize(
    "holder",
    [pytest.param(STRANGER, id="stranger"), pytest.param(OTHER_SGLANG, id="another SGLang", marks=pytest.mark.slow)],
)
def test_a_port_that_is_taken_once_all_is_staged_is_never_taken_for_the_release(one: OneHost, holder: str) -> None:
    """The first deployment to a host, found good by the plan: nothing serves there yet."""
    one.root(f"systemctl disable --now {UNIT} && rm -r {FOLDER} /etc/systemd/system/{UNIT}")
    waits = f"until ls {FOLDER}/releases/*/gate.json; do sleep 0.01; done; exec {holder}"
    one.root(f"systemd-run --unit=other --slice=other.slice sh -c {shlex.quote(waits)}")
    done = one.rollout(**NEW)
    other = one.root("systemctl show -p MainPID --value other")

    if done.status == 2:  # it is somebody else's
        assert f"port {PORT}" in done.output and f"pid {other}" in done.output
        assert one.root("systemctl is-active other") == "active"
        assert one.fleet.link(HOST, "current") == ""
    else:  # it was adopted, and replaced
        assert done.status == 0 and holder == OTHER_SGLANG, done.output
        assert one.fleet.link(HOST, "adopted")
        one.assert_true(done, one.fleet.link(HOST, "current"))


@pytest.mark.slow
@pytest.mark.parametrize("holder", [STRANGER, OTHER_SGLANG], ids=["stranger", "another SGLang"])
@pytest.mark.parametrize("state", ["stopped", "start"])
def test_a_port_that_is_taken_when_the_old_release_has_stopped(one: OneHost, state: str, holder: str) -> None:
    watch = Watch(one.host, state)
    rollout = one.begin(**NEW)
    held = watch.held()
    assert wait_until(lambda: not one.listeners(), 30)
    one.root(f"systemd-run --unit=other --slice=other.slice {holder}")
    assert wait_until(lambda: bool(one.listeners()), 30)
    other = one.root("systemctl show -p MainPID --value other")
    held.go_on()
    done = rollout.finish()

    # Neither the new nor the old release can have the port: nothing of ours serves, and that is what is said.
    assert done.status == 3, done.output
    assert "NOT RESTORED" in done.output
    assert f"port {PORT}" in done.output and f"pid {other}" in done.output
    assert one.status()["state"] != "serving"
    assert one.fleet.link(HOST, "current") == one.committed
    assert one.root("systemctl is-active other") == "active"
    one.assert_nothing_lost()
    one.root("systemctl stop other")
    again = one.rollout(**NEW)
    assert again.status == 0, again.output
    one.assert_true(again, one.fleet.link(HOST, "current"))


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["ignore-term", "fork-survivors", "slow-stop"])
def test_an_old_release_that_does_not_end_by_itself_is_ended(one: OneHost, fault: str) -> None:
    first = one.rollout(options={"device": "cpu", "fault": fault}, stop_timeout=3)
    assert first.status == 0, first.output
    family = doubles_of(one.host, fault)
    old = one.root(f"cat /sys/fs/cgroup/system.slice/{UNIT}/cgroup.procs").split()
    assert len(old) == (3 if fault == "fork-survivors" else 1)
    done = one.rollout(**NEW)

    assert done.status == 0, done.output
    one.assert_true(done, one.fleet.link(HOST, "current"))
    assert not set(doubles_of(one.host, fault)) & set(family)
    alive = one.root(f"for pid in {' '.join(old)}; do test -e /proc/$pid && echo $pid; done; true")
    assert alive == ""
    one.assert_nothing_lost()


@pytest.mark.slow
def test_a_clock_that_is_set_back_an_hour_on_the_way(one: OneHost) -> None:
    with _slow_clock(one):
        watch = Watch(one.host, "gate")
        rollout = one.begin(**NEW)
        held = watch.held()
        one.root("touch /run/clock-set-back")
        held.go_on()
        done = rollout.finish()
        assert done.status == 0, done.output
        one.assert_true(done, one.staged())
        one.assert_nothing_lost()
        started, ended = map(json.loads, one.kept().journal[-2:])
        assert (started["event"], ended["event"]) == ("started", "ended")
        assert ended["time"] < started["time"]
        assert all(0 <= seconds < 600 for seconds in ended["seconds"].values())
        back = one.rollout()
        assert back.status == 0, back.output
        assert one.answers_as() == one.committed


@contextmanager
def _slow_clock(one: OneHost) -> Iterator[None]:
    file = one.root("ls /etc/python3*/sitecustomize.py")
    one.root(f"cp {file} {SAVED}/sitecustomize && printf '%s' {shlex.quote(SLOW_CLOCK)} >> {file}")
    try:
        yield
    finally:
        one.root(f"mv {SAVED}/sitecustomize {file}; rm -f /run/clock-set-back")


@pytest.mark.slow
def test_current_that_somebody_deleted_is_no_way_to_a_dark_host(one: OneHost) -> None:
    one.root(f"rm {FOLDER}/current")
    done = one.rollout(**failing("exit"))

    assert one.answers_as() == one.committed, done.output
    assert done.status in (1, 2), done.output
    one.assert_nothing_lost()
    good = one.rollout(**NEW)
    assert good.status == 0, good.output
    one.assert_true(good, one.fleet.link(HOST, "current"))


@pytest.mark.slow
def test_current_that_somebody_deletes_on_the_way_is_put_back(one: OneHost) -> None:
    watch = Watch(one.host, "gate")
    rollout = one.begin(**failing("hang"))
    held = watch.held()
    one.root(f"rm {FOLDER}/current")
    held.go_on()
    done = rollout.finish()

    assert done.status == 1, done.output
    one.assert_true(done, "")
    one.assert_nothing_lost()


@pytest.mark.slow
def test_a_new_release_that_somebody_changed_gives_way(one: OneHost) -> None:
    watch = Watch(one.host, "stop")
    rollout = one.begin(**NEW)
    held = watch.held()
    new = one.staged()
    one.root(f"printf '#!/bin/sh\\nexit 5\\n' > {FOLDER}/releases/{new}/launch.sh")
    held.go_on()
    done = rollout.finish()

    assert done.status == 1, done.output
    one.assert_true(done, "")
    one.assert_nothing_lost(damaged=lambda path: new in path)
    again = one.rollout(**NEW)  # staging puts it right
    assert again.status == 0, again.output
    one.assert_true(again, new)


@pytest.mark.slow
def test_an_old_release_that_cannot_be_read_any_more_is_not_stopped_for_one_that_fails(one: OneHost) -> None:
    one.root(f"echo broken > {FOLDER}/releases/{one.committed}/release.json")
    done = one.rollout(**failing("exit"))

    assert one.answers_as() == one.committed or done.status == 3, done.output
    if done.status == 3:
        assert "NOT RESTORED" in done.output and one.answers_as() == ""
    one.assert_nothing_lost(damaged=lambda path: one.committed in path)


@pytest.mark.slow
def test_when_restoring_fails_as_well_the_report_says_how_to_get_back_by_hand(one: OneHost) -> None:
    launch = f"{FOLDER}/releases/{one.committed}/launch.sh"
    one.root(f"printf '#!/bin/sh\\nexit 3\\n' > {launch}")
    done = one.rollout(**failing("exit"))

    assert done.status == 3, done.output
    (cutover,) = done.outcome["hosts"][0]["services"]
    assert cutover["outcome"] == "not_restored"
    assert "exit status 7" in cutover["reason"] and "exit status 3" in cutover["reason"]
    assert one.committed in cutover["reason"]
    assert "by hand" in done.output and "launch.sh" in done.output
    assert one.answers_as() == ""
    assert one.status()["state"] not in ("serving", "changing")
    one.assert_nothing_lost(damaged=lambda path: one.committed in path)
    one.root(f"cp -p {SAVED}/service/releases/{one.committed}/launch.sh {launch}")
    assert one.serves(one.committed)  # systemd tries again and again
