"""Whole rollouts by `python -m deployer` and the real playbooks, with a light stand-in for the engine."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.local_fleet import SERVICE, Ended, LocalFleet, wait_until
from tests.unit.rollout.conftest import MakeFleet

BATCHES = ("--batches", "1,100%")


class Watched:
    """`python -m deployer VERB` that goes on while the test does something to it."""

    def __init__(self, fleet: LocalFleet, verb: str, *words: str) -> None:
        self.child = subprocess.Popen(fleet.deployer_command(verb, *words), cwd=fleet.folder, **fleet.surroundings)
        self.lines: list[str] = []

    def until(self, said: str) -> None:
        """Read until a line has these words."""
        assert self.child.stdout is not None
        for line in self.child.stdout:
            self.lines.append(line)
            if said in line:
                return
        raise AssertionError(f"{said!r} was not said:\n{''.join(self.lines)}")

    def end(self) -> Ended:
        """Read to the end."""
        assert self.child.stdout is not None
        self.lines += self.child.stdout.readlines()
        status = self.child.wait(60)
        print("".join(self.lines), f"[exit {status}]")
        return Ended(status, "".join(self.lines))


def releases(fleet: LocalFleet, service: str = SERVICE) -> dict[str, str]:
    return {host: fleet.link(host, "current", service) for host in fleet.hosts}


def hooks(fleet: LocalFleet, *points: str) -> dict[str, Any]:
    script = f'echo "$DEPLOYER_HOOK $DEPLOYER_HOSTS $DEPLOYER_OUTCOME" >> {fleet.folder / "hooks"}'
    return {point: [["sh", "-c", script]] for point in points}


def test_an_output_that_nobody_reads_any_more_ends_no_rollout(make_fleet: MakeFleet) -> None:
    fleet = make_fleet("h1", "h2")
    fleet.describe()
    going = Watched(fleet, "rollout", *BATCHES)
    going.until("batch 1 of 2")
    assert going.child.stdout is not None
    going.child.stdout.close()
    assert going.child.wait(120) == 0
    assert fleet.serving() == ["h1", "h2"]
    (run,) = (fleet.folder / ".deployer" / "runs").iterdir()
    assert json.loads((run / "run.json").read_text())["exit_code"] == 0


@pytest.mark.slow
def test_a_rollout_that_fails_can_bring_every_host_back(make_fleet: MakeFleet) -> None:
    fleet = make_fleet("h1", "h2", "h3")
    fleet.describe()
    assert fleet.deployer("rollout", "--batches", "100%").status == 0
    before = releases(fleet)
    fleet.describe(variant="second", faults={"h3": "exit"}, rollout_hooks=hooks(fleet, "after_host"))
    ended = fleet.deployer("rollout", *BATCHES, "--on-failure", "restore-all", "--json")
    assert ended.status == 1 == ended.outcome["exit_code"]
    assert {one["host"]: one["services"][0]["outcome"] for one in ended.outcome["hosts"]} == {
        "h1": "committed",
        "h2": "committed",
        "h3": "restored",
    }
    assert {one["host"]: one["services"][0]["after"] for one in ended.outcome["restored"]} == {
        host: before[host] for host in ("h1", "h2")
    }
    assert releases(fleet) == before and fleet.serving() == ["h1", "h2", "h3"]
    assert "every host that had been cut over is back" in ended.output
    said = (fleet.folder / "hooks").read_text().splitlines()
    assert said[0] == "after_host h1 committed" and "after_host h3 restored" in said
    assert fleet.locked() == []


def test_ctrl_c_once_begins_no_further_batch_and_waits_for_this_one(make_fleet: MakeFleet) -> None:
    fleet = make_fleet("h1", "h2")
    fleet.describe(faults={"h1": "slow"})
    run = Watched(fleet, "rollout", *BATCHES)
    run.until("Ensure each service serves")
    run.child.send_signal(signal.SIGINT)
    ended = run.end()
    assert ended.status == 4
    assert "h1 committed" in ended.output and "stopped on request after 1 of 2 hosts" in ended.output
    assert "refused" not in ended.output
    assert fleet.serving() == ["h1"] and releases(fleet)["h2"] == "" and fleet.locked() == []


@pytest.mark.slow
def test_ctrl_c_twice_ends_the_watching_and_the_host_finishes_by_itself(make_fleet: MakeFleet) -> None:
    fleet = make_fleet("h1", "h2")
    fleet.describe(faults={"h1": "hang"})
    run = Watched(fleet, "rollout", *BATCHES)
    run.until("Ensure each service serves")
    wait_until(lambda: fleet.serving() == ["h1"])
    run.child.send_signal(signal.SIGINT)
    run.until("interrupted")
    run.child.send_signal(signal.SIGINT)
    ended = run.end()
    assert ended.status == 3 and "OUTCOME NOT KNOWN" in ended.output and "refused" not in ended.output
    assert not [pid for pid in playbooks() if str(fleet.inventory) in (Path("/proc") / pid / "cmdline").read_text()]
    journal = fleet.root("h1") / "services" / SERVICE / "journal.jsonl"
    wait_until(lambda: '"ended"' in journal.read_text(), 60)
    assert fleet.serving() == [] and fleet.locked() == []


def playbooks() -> list[str]:
    """Ids of the processes of ansible-playbook on this machine."""
    done = subprocess.run(["pgrep", "-f", "ansible-playbook"], stdout=subprocess.PIPE, text=True, check=False)
    return [pid for pid in done.stdout.split() if (Path("/proc") / pid / "cmdline").exists()]


@pytest.mark.slow
def test_one_service_of_two_goes_back_to_a_release_by_its_id(make_fleet: MakeFleet) -> None:
    fleet = make_fleet("h1", services=("other",))
    fleet.describe()
    assert fleet.deployer("rollout").status == 0
    first, other = fleet.link("h1", "current"), fleet.link("h1", "current", "other")
    for variant in ("second", "third"):
        fleet.describe(variant=variant)
        assert fleet.deployer("rollout", "--service", SERVICE).status == 0
    assert fleet.link("h1", "current", "other") == other
    listed = fleet.deployer("history", "--json").outcome["h1"]["services"][0]
    assert listed["releases"][0]["id"] == first and len(listed["events"]) == 3
    assert fleet.deployer("rollback", "--to", first[:6], "--service", SERVICE).status == 0
    assert (fleet.link("h1", "current"), fleet.link("h1", "current", "other")) == (first, other)
    refused = fleet.deployer("rollback", "--service", "nothing")
    assert refused.status == 2 and "use some of code2sql, other" in " ".join(refused.output.split())


@pytest.mark.slow
def test_a_hook_before_a_host_keeps_it_as_it_is_and_one_after_it_makes_it_count_as_failed(
    make_fleet: MakeFleet,
) -> None:
    fleet = make_fleet("h1", "h2", "h3")
    fails = {"before_host": "h2", "after_host": "h3"}
    points = {
        p: [["sh", "-c", f'test "$DEPLOYER_HOSTS" != {host} || {{ echo no; exit 3; }}']] for p, host in fails.items()
    }
    fleet.describe(rollout_hooks=points)
    ended = fleet.deployer("rollout", *BATCHES, "--max-fail", "2", "--json")
    assert ended.status == 1
    hosts = {one["host"]: one for one in ended.outcome["hosts"]}
    assert hosts["h2"]["services"] == [] and "(nothing was touched)" in hosts["h2"]["failure"]
    assert hosts["h3"]["services"][0]["outcome"] == "committed"
    assert "the release serves; only the hook failed" in hosts["h3"]["failure"]
    assert fleet.serving() == ["h1", "h3"] and fleet.locked() == []


@pytest.mark.slow
def test_a_release_that_answers_otherwise_than_what_served_before_is_taken_back(make_fleet: MakeFleet) -> None:
    fleet = make_fleet("h1")
    fleet.describe(faults={"h1": "adds-system"})
    assert fleet.deployer("rollout").status == 0
    first = fleet.link("h1", "current")
    fleet.describe(gate={"parity": {"compare": "rendering", "prompts": ["how many orders"]}})
    refused = fleet.deployer("rollout")
    assert refused.status == 1 and fleet.link("h1", "current") == first
    assert "1 of 1 prompt is rendered otherwise" in " ".join(refused.output.split())
    assert "prompt tokens 18 -> 3" in refused.output and "[parity]" in refused.output
    fleet.describe(faults={"h1": "adds-system"}, variant="second", gate={"parity": "text"})
    passed = fleet.deployer("rollout")
    assert passed.status == 0 and "parity: 8 prompts answered alike" in passed.output
    assert fleet.deployer("rollback").status == 0 and fleet.link("h1", "current") == first
