"""Whole migrations by `deployer migrate` and the real playbooks, from one release of a stand-in to another."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from tests.doubles.local_fleet import SERVICE, LocalFleet
from tests.lab.fleet import Running
from tests.unit.rollout.conftest import MakeFleet
from tests.unit.rollout.test_rollouts import Watched, releases
from tests.unit.rollout.test_terminal_capture import SAID_LAST, terminal


def state(fleet: LocalFleet) -> dict[str, Any]:
    """state.json of the newest migration."""
    value: dict[str, Any] = json.loads(sorted(migrations(fleet))[-1].joinpath("state.json").read_text())
    return value


def migrations(fleet: LocalFleet) -> list[Path]:
    """Their folders."""
    return [*(fleet.folder / ".deployer" / "migrations").glob("2*")]


@pytest.fixture
def fleet(make_fleet: MakeFleet) -> LocalFleet:
    """Two hosts that serve a first release, where a second is described."""
    made = make_fleet("h1", "h2")
    made.describe()
    assert made.deployer("rollout", "--batches", "100%").status == 0
    made.describe(variant="second")
    return made


@pytest.mark.slow
def test_a_migration_is_stopped_killed_continued_reported_and_gone_back_on(fleet: LocalFleet) -> None:
    before = releases(fleet)
    refused = fleet.run(fleet.deployer_command("migrate"))
    assert refused.status == 2 and "--until measure" in refused.output and not migrations(fleet)

    checked = fleet.deployer("migrate", "--check")
    assert checked.status == 0 and "would be staged on 2 hosts" in checked.output and not migrations(fleet)

    planned = fleet.deployer("migrate", "--until", "plan")
    assert planned.status == 0 and "the canary is h1" in planned.output
    measured = fleet.deployer("migrate", "--until", "measure", "--canary", "h2")
    assert measured.status == 0 and "measured code2sql on h2" in measured.output and releases(fleet) == before
    other = fleet.deployer("migrate", "--yes", "--canary", "h1")
    assert other.status == 2 and "--canary was h2 when the canary was measured" in other.output

    going = Watched(fleet, "migrate", "--yes")
    going.until("batch 1 of 1: h2")
    second = fleet.deployer("migrate", "--yes")
    assert second.status == 2 and f"pid {going.child.pid}" in second.output
    Running(going.child, fleet.folder / "unread").kill()
    assert state(fleet)["steps"]["canary"]["state"] == "running"
    status = fleet.deployer("migrate", "--status")
    assert status.status == 0 and "begun" in status.output and "go on: python -m deployer migrate -i" in status.output

    done = fleet.deployer("migrate", "--yes")
    assert done.status == 0 and len(migrations(fleet)) == 1
    after = releases(fleet)
    assert all(after[host] != before[host] for host in fleet.hosts)
    told = state(fleet)
    assert told["ended"] == "done" and told["comparison"]["passed"]
    assert {host: one[SERVICE]["before"] for host, one in told["hosts"].items()} == before
    (folder,) = migrations(fleet)
    assert {one.name for one in (folder / "compared" / SERVICE).iterdir()} == {
        "old.json", "new.json", "comparison.json", "report.html",
    }  # fmt: skip
    page = (folder / "report.html").read_text()
    assert f'href="compared/{SERVICE}/report.html"' in page
    linked = [one.split('"')[0] for one in page.split('href="')[1:]]
    assert len(linked) >= 4 and all((folder / one).exists() for one in linked)
    for path in folder.rglob("*"):
        assert path.stat().st_mode & 0o077 == 0, path
    assert "is done; --restart begins a new migration" in fleet.deployer("migrate", "--yes").output

    back = fleet.deployer("migrate", "--back", "--yes")
    assert back.status == 0 and releases(fleet) == before and state(fleet)["ended"] == "back"
    again = fleet.deployer("migrate", "--back", "--yes")
    assert again.status == 0 and "went back already" in again.output


@pytest.mark.slow
def test_a_canary_that_does_not_pass_its_gate_stops_it_until_the_description_is_mended(fleet: LocalFleet) -> None:
    before = releases(fleet)
    fleet.describe(variant="second", faults={"h1": "wrong-name"})
    failed = fleet.deployer("migrate", "--yes", "--json")
    assert failed.status == 1 and releases(fleet) == before
    events = [json.loads(line) for line in failed.output.splitlines() if line.startswith('{"schema"')]
    assert events[0]["event"] == "migration.started" and events[-1]["event"] == "migration.ended"
    assert events[-1]["exit_code"] == 1 and state(fleet)["steps"]["canary"]["problems"]

    fleet.describe(variant="second")
    assert fleet.deployer("migrate", "--yes").status == 0
    assert all(after != before[host] for host, after in releases(fleet).items())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("tmux") is None, reason="there is no tmux")
def test_somebody_at_a_terminal_is_shown_and_asked_twice(fleet: LocalFleet) -> None:
    before = releases(fleet)
    with terminal(fleet, 120, *fleet.deployer_command("migrate")) as shown:
        shown.until(lambda screen: "h1 to be switched" in screen and "Go on? [yes/no]" in screen)
        assert releases(fleet) == before and "it can be rolled out" in shown.screen()
        shown.run("send-keys", "yes", "Enter")
        shown.until(lambda screen: "h2 to be switched" in screen and screen.rstrip().endswith("[yes/no]"))
        assert "the comparison on h1 passed" in shown.screen()
        shown.run("send-keys", "no", "Enter")
        last = shown.until(lambda screen: SAID_LAST in screen)
        assert "[exit 4]" in last and "not agreed to; h1 stays as it is" in last and "go back: python" in last
    after = releases(fleet)
    assert after["h1"] != before["h1"] and after["h2"] == before["h2"]
    with terminal(fleet, 120, *fleet.deployer_command("migrate", "--back")) as shown:
        shown.until(lambda screen: "h1 to go back to what served before" in screen)
        shown.run("send-keys", "yes", "Enter")
        assert "[exit 0]" in shown.until(lambda screen: SAID_LAST in screen)
    assert releases(fleet) == before
