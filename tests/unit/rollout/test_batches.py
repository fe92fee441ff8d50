"""Through the hosts batch by batch, with the real ansible-playbook and nothing to cut over."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pexpect
import pytest

from tests.doubles.local_fleet import Ended, LocalFleet
from tests.unit.rollout.conftest import MakeFleet

PLAYBOOK = str(Path(__file__).with_name("batches.yml"))
POINTS = ("before_batch", "after_batch")


def command(fleet: LocalFleet, **variables: Any) -> list[str]:
    """Through the fleet; every host that was gone to is a line of `done`."""
    given = json.dumps({"done": str(fleet.folder / "done"), **variables})
    program = str(Path(sys.executable).parent / "ansible-playbook")
    return [program, PLAYBOOK, "-i", str(fleet.inventory), "-e", given]


def through(fleet: LocalFleet, **variables: Any) -> Ended:
    return fleet.run(command(fleet, **variables))


def done(fleet: LocalFleet) -> list[str]:
    path = fleet.folder / "done"
    return path.read_text().split() if path.exists() else []


def hooks(fleet: LocalFleet) -> dict[str, list[list[str]]]:
    script = f'echo "$DEPLOYER_HOOK $DEPLOYER_HOSTS" >> {fleet.folder / "hooks"}'
    return {point: [["sh", "-c", script]] for point in POINTS}


def test_a_batch_that_is_within_what_may_fail_is_followed_by_the_next(make_fleet: MakeFleet) -> None:
    """Settings come from the inventory; a host that is out of reach counts, and what it holds is given back later."""
    fleet = make_fleet("h1", "h2", "h3", "h4", "h5")
    fleet.describe(lost=["h5"], rollout_batches=[1, 2, "100%"], rollout_max_fail="40%", rollout_hooks=hooks(fleet))
    ended = through(fleet, fails=["h3"])
    assert ended.status != 0
    assert sorted(done(fleet)) == ["h1", "h2", "h3", "h4"]
    assert (fleet.folder / "hooks").read_text().splitlines() == [
        *("before_batch h1", "after_batch h1"),
        *("before_batch h2,h3", "after_batch h2,h3"),
        *("before_batch h4", "after_batch h4"),
    ]
    assert fleet.locked() == []


def test_no_batch_is_begun_after_more_have_failed_than_may(make_fleet: MakeFleet) -> None:
    fleet = make_fleet("h1", "h2", "h3", "h4", "h5")
    fleet.describe(rollout_batches=[1, 2, "100%"])
    ended = through(fleet, fails=["h3"])
    assert ended.status != 0
    assert "1 of 5 hosts failed or were not reached, 0 may: h3" in ended.output
    assert sorted(done(fleet)) == ["h1", "h2", "h3"]
    assert fleet.locked() == []


def test_the_first_batch_has_to_pass_whatever_may_fail(make_fleet: MakeFleet) -> None:
    fleet = make_fleet("h1", "h2", "h3")
    fleet.describe(rollout_max_fail=3)
    ended = through(fleet, fails=["h1"])
    assert ended.status != 0 and done(fleet) == ["h1"]


def test_a_mistake_is_named_before_any_host_is_contacted(make_fleet: MakeFleet) -> None:
    fleet = make_fleet("h1", "h2")
    fleet.describe(
        lost=["h1", "h2"],
        rollout_max_fail="some",
        rollout_hooks={"before_batch": ["echo"]},
        cutover_services=["nothing"],
        rollout_confirm=True,
    )
    ended = through(fleet)
    for said in (
        "rollout_max_fail: is 'some'",
        "rollout_hooks.before_batch[0]",
        "no service 'nothing' on these hosts",
        "use some of code2sql",
        "rollout_confirm: there is no terminal",
    ):
        assert said in " ".join(ended.output.split()), said
    assert "UNREACHABLE" not in ended.output


@pytest.mark.parametrize(("answer", "gone_to"), [("yes", ["h1", "h2"]), ("no", ["h1"])])
def test_a_batch_is_confirmed_in_ansibles_own_terminal(make_fleet: MakeFleet, answer: str, gone_to: list[str]) -> None:
    fleet = make_fleet("h1", "h2")
    fleet.describe(rollout_batches=[1], rollout_confirm=True)
    program, *words = command(fleet)
    child = pexpect.spawn(program, words, cwd=str(fleet.folder), env=fleet.surroundings["env"], encoding="utf-8")
    child.expect("Type yes, or no", timeout=60)
    child.sendline(answer)
    said = child.read()
    child.close()
    assert done(fleet) == gone_to, said
    assert ("it was not confirmed" in said) == (answer == "no")
    assert fleet.locked() == []


def test_of_two_runs_at_once_one_goes_on_everywhere(make_fleet: MakeFleet) -> None:
    """Two controllers, which are told apart here by the names that they give themselves."""
    fleet = make_fleet("h1", "h2", "h3", "h4")
    fleet.describe()
    runs = []
    for run, names in (("aaa", "h1,h2"), ("bbb", "h2,h1")):
        log = (fleet.folder / run).open("w")
        words = command(fleet, rollout_lock_run=run, done=str(fleet.folder / f"done-{run}"), rollout_batches=["100%"])
        streams = {**fleet.surroundings, "stdout": log}
        runs.append(subprocess.Popen([*words, "-l", names], cwd=fleet.folder, **streams))
    statuses = [run.wait(90) for run in runs]
    assert sorted(status == 0 for status in statuses) in ([False, True], [True, True])
    for run, status in zip(("aaa", "bbb"), statuses, strict=True):
        gone_to = fleet.folder / f"done-{run}"
        assert (sorted(gone_to.read_text().split()) if gone_to.exists() else []) == (
            ["h1", "h2"] if status == 0 else []
        )
        assert status == 0 or "is locked: rollout of code2sql by " in (fleet.folder / run).read_text()
    assert fleet.locked() == []


def test_a_host_that_is_locked_keeps_the_run_from_all_and_nothing_stays_locked_by_it(make_fleet: MakeFleet) -> None:
    fleet = make_fleet("h1", "h2", "h3")
    fleet.describe()
    fleet.root("h2").mkdir(parents=True)
    other = {"run": "zzz", "who": "mia@ops1", "controller": "ops1", "what": "rollout of x", "since": 0.0}
    other.update(machine="m", boot="b", namespace="n", processes=[[1234, 5]])
    lock = fleet.root("h2") / "rollout.json"
    lock.write_text(json.dumps(other))
    os.utime(lock, (0, 0))
    ended = through(fleet)
    assert ended.status != 0 and done(fleet) == []
    text = " ".join(ended.output.split())
    assert "h2 is locked: rollout of x by mia@ops1 since" in text and "from ops1 pid 1234. Fix: wait" in text
    assert fleet.locked() == ["h2"]
    looked = fleet.ansible("lock", "-l", "h2,h3")
    assert "rollout of x by mia@ops1" in looked.output and "nobody" in looked.output
    fleet.ansible("lock", "-l", "h2", "-e", "rollout_lock_state=released")
    assert fleet.locked() == []


def test_check_mode_locks_nothing_and_runs_no_hooks(make_fleet: MakeFleet) -> None:
    fleet = make_fleet("h1", "h2")
    fleet.describe(rollout_hooks=hooks(fleet), rollout_pause=600)
    ended = fleet.run([*command(fleet), "--check"])
    assert ended.status == 0
    assert "before_batch would run: sh -c" in ended.output
    assert not (fleet.folder / "hooks").exists() and not fleet.root("h1").exists()
