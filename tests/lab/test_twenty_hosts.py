"""A rollout over twenty hosts: a canary, a quarter, the rest; where it fails it stops, and goes on after the fix."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from demo.inputs import default_cache, make_inputs
from tests.lab.conftest import NewLab
from tests.lab.fleet import DoubleFleet, Finished

pytestmark = [pytest.mark.lab, pytest.mark.slow]

NAMES = tuple(f"gpu{number}" for number in range(1, 21))
CANARY, QUARTER, REST = NAMES[:1], NAMES[1:6], NAMES[6:]
BAD = ("gpu3", "gpu4", "gpu6")
FAILS = {"options": {"device": "cpu", "fault": "exit"}}
NEW = {"RELEASE": "new"}


@pytest.fixture(scope="module")
def fleet(new_lab: NewLab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[DoubleFleet]:
    """Twenty hosts that serve the first release."""
    with new_lab([{"name": name, "groups": ["gpu-nodes"]} for name in NAMES]) as lab:
        fleet = DoubleFleet(lab, make_inputs(default_cache()), tmp_path_factory.mktemp("twenty"))
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(fleet.install, NAMES))
        fleet.describe(hosts={name: {} for name in NAMES})
        first = fleet.deployer("rollout", "gpu-nodes", "-e", '{"rollout_batches": ["100%"]}')
        assert first.status == 0, first.output
        yield fleet


def outcomes(done: Finished) -> dict[str, str]:
    """What each host that was cut over came to."""
    hosts = done.outcome["hosts"]
    return {host["host"]: service["outcome"] for host in hosts for service in host["services"]}


def on_all(fleet: DoubleFleet, command: str) -> dict[str, str]:
    """What a command prints on every host."""
    with ThreadPoolExecutor(8) as pool:
        return dict(zip(NAMES, pool.map(lambda name: fleet.root(name, command), NAMES), strict=True))


def test_three_hosts_fail_in_the_second_batch_and_after_the_fix_the_rest_follows(fleet: DoubleFleet) -> None:
    pid = "systemctl show -p MainPID --value inference-code2sql"
    release = "basename $(readlink /opt/inference/services/code2sql/current)"
    pids, old = on_all(fleet, pid), on_all(fleet, release)

    hosts = {name: dict(FAILS) if name in BAD else {} for name in NAMES}
    fleet.describe(hosts=hosts, environment_variables=NEW)
    stopped = fleet.deployer("rollout")

    assert stopped.status == 1, stopped.output
    wanted = {name: "restored" if name in BAD else "committed" for name in (*CANARY, *QUARTER)}
    assert outcomes(stopped) == wanted
    failures = {host["host"]: host["failure"] for host in stopped.outcome["hosts"] if host["failure"]}
    assert set(failures) == set(BAD)
    assert all("exit status 7" in failure for failure in failures.values())
    now = on_all(fleet, pid)
    assert {name for name in NAMES if now[name] == pids[name]} == {*REST}
    assert {name: release == old[name] for name, release in on_all(fleet, release).items()} == {
        name: wanted.get(name) != "committed" for name in NAMES
    }
    for name in NAMES:
        assert fleet.chat(name) > 0, name

    fleet.describe(hosts={name: {} for name in NAMES}, environment_variables=NEW)
    resumed = fleet.deployer("rollout")

    assert resumed.status == 0, resumed.output
    there = {*CANARY, *QUARTER} - {*BAD}
    assert outcomes(resumed) == {name: "unchanged" if name in there else "committed" for name in NAMES}
    after = on_all(fleet, pid)
    assert {name for name in NAMES if after[name] == now[name]} == there
    assert not {*on_all(fleet, release).values()} & {*old.values()}
    for name in NAMES:
        assert fleet.chat(name) > 0, name


def test_some_may_fail_before_it_stops(fleet: DoubleFleet) -> None:
    hosts = {name: dict(FAILS) if name in BAD else {} for name in NAMES}
    fleet.describe(hosts=hosts, environment_variables={"RELEASE": "third"})
    done = fleet.deployer("rollout", "gpu-nodes", "--max-fail", str(len(BAD)))

    assert done.status == 1, done.output
    assert outcomes(done) == {name: "restored" if name in BAD else "committed" for name in NAMES}
    for name in NAMES:
        assert fleet.chat(name) > 0, name
