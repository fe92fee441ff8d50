"""The Python API, and the example of docs/api.md, on hosts of this machine and with the real playbooks."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from deployer import Deployer, DeployError
from tests.doubles.local_fleet import REPOSITORY, SERVICE, Ended, LocalFleet
from tests.unit.rollout.conftest import MakeFleet

EXAMPLE = REPOSITORY / "examples" / "rollout_when_clean.py"


def example(fleet: LocalFleet, *words: str) -> Ended:
    return fleet.run([sys.executable, str(EXAMPLE), str(fleet.inventory), *words])


@pytest.fixture
def at_home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder to start from that has the collection's settings."""
    monkeypatch.setenv("ANSIBLE_CONFIG", str(REPOSITORY / "ansible.cfg"))
    monkeypatch.setenv("ANSIBLE_COLLECTIONS_PATH", str(REPOSITORY))
    monkeypatch.chdir(tmp_path)
    yield tmp_path


def test_the_example_rolls_out_what_is_clean_and_refuses_the_rest(make_fleet: MakeFleet) -> None:
    fleet = make_fleet("h1")
    fleet.describe()
    done = example(fleet)
    assert done.status == 0
    assert f"to be switched, as far as the plan knows: {SERVICE} on h1" in done.output
    assert f"h1 {SERVICE}: committed, release {fleet.link('h1', 'current')}" in done.output
    (report,) = fleet.folder.glob(".deployer/runs/*/report.html")
    assert f"the report is {report.relative_to(fleet.folder)}" in done.output and report.exists()
    fleet.describe(variant="second", inference_environments={"sglang": {"prefix": "/nowhere"}})
    refused = example(fleet)
    assert refused.status == 2 and "[environment-missing]. Fix: " in refused.output
    assert fleet.serving() == ["h1"]
    nobody = example(fleet, "h9")
    assert nobody.status == 2 and "refused: -l h9: h9 matches no host of the inventory. Fix: " in nobody.output


def test_hosts_are_asked_and_answer_in_types(make_fleet: MakeFleet, at_home: Path) -> None:
    fleet = make_fleet("h1", "h2", services=("other",))
    fleet.describe(lost=["h2"])
    deployer = Deployer(fleet.inventory)
    plan = deployer.plan(services=[SERVICE])
    assert [one.service for one in plan.hosts["h1"].services] == [SERVICE]
    assert plan.exit_code == 2 and plan.failures["h2"].startswith("nobody listens at 127.0.0.1 port 1. Fix: ")
    one = Deployer([fleet.inventory], limit="h1")
    assert one.plan().changes == (("h1", SERVICE), ("h1", "other"))
    assert "Python" in [check.name for check in one.doctor().hosts["h1"].checks]
    status = one.status()
    assert {service.state for service in status.hosts["h1"].services} == {"absent"} and status.exit_code == 1
    with pytest.raises(DeployError, match=r"h9 matches no host of the inventory"):
        Deployer(fleet.inventory, limit="h1,h9").status()
    with pytest.raises(
        DeployError, match=r"--service nothing: no host has such a service. Fix: use some of code2sql, other"
    ):
        one.plan(services=["nothing"])


def test_no_inventory_and_no_group_are_errors_and_nothing_is_printed(
    at_home: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ANSIBLE_CONFIG")
    with pytest.raises(DeployError, match=r"no inventory was given.*Fix: give -i hosts.yml"):
        Deployer().plan()
    with pytest.raises(DeployError, match=r"no host in the group gpu-nodes"):
        Deployer("h1,").plan()
    (at_home / "hosts.yml").write_text("all: {hosts: {h1: {}\n")
    with pytest.raises(DeployError, match=r"hosts.yml:\d+:\d+: cannot be read as an inventory"):
        Deployer("hosts.yml").plan()
    assert capfd.readouterr() == ("", "")


@pytest.mark.slow
def test_what_was_staged_is_only_switched_by_the_rollout_and_each_host_goes_back_to_its_own(
    make_fleet: MakeFleet, at_home: Path
) -> None:
    fleet = make_fleet("h1", "h2")
    fleet.describe()
    deployer = Deployer(fleet.inventory)
    staged = deployer.stage()
    assert (staged.exit_code, fleet.serving()) == (0, []) and {*staged.hosts} == {"h1", "h2"}
    assert deployer.rollout(batches=("100%",)).done and fleet.serving() == ["h1", "h2"]
    first = {host: fleet.link(host, "current") for host in fleet.hosts}
    fleet.describe(variant="second")
    assert deployer.rollout(batches=("100%",)).done
    back = deployer.rollback(targets={"h2": {SERVICE: first["h2"]}})
    assert back.done and {*back.hosts} == {"h2"}
    assert fleet.link("h2", "current") == first["h2"] and fleet.link("h1", "current") != first["h1"]
    with pytest.raises(DeployError, match="targets names no host"):
        deployer.rollback(targets={})


@pytest.mark.slow
def test_a_program_rolls_out_back_and_looks_after_what_is_there(make_fleet: MakeFleet, at_home: Path) -> None:
    fleet = make_fleet("h1")
    fleet.describe()
    deployer = Deployer(fleet.inventory)
    kinds: list[str] = []
    first = deployer.rollout(batches=("100%",), listeners=[lambda event: kinds.append(event.kind)])
    assert first.done and first.folder is not None and (first.folder / "events.jsonl").exists()
    assert kinds[0] == "run.started" and kinds[-1] == "run.ended" and "cutover" in kinds
    fleet.describe(variant="second")
    second = deployer.rollout()
    (outcome,) = second.hosts["h1"].services
    assert outcome.before == first.hosts["h1"].services[0].after
    assert deployer.status().exit_code == 0
    back = deployer.rollback(check=True)
    assert back.hosts["h1"].services[0].outcome == "planned" and back.folder is None
    assert deployer.rollback().hosts["h1"].services[0].after == outcome.before
    releases = deployer.history().hosts["h1"].services[0].releases
    assert {one.id for one in releases if one.marks} == {outcome.before, outcome.after}
    assert deployer.adopt(check=True).exit_code == 0
    assert deployer.environments().exit_code == 0
    assert deployer.prune(check=True).exit_code == 0
    assert deployer.verify().exit_code == 0
