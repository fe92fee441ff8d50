"""A cut-over that is killed in whichever state, and one that finds something which it did not start."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import host_probe, journal, procfs, status
from ansible_collections.deployer.sglang.plugins.module_utils.cutover import run, transaction
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.outcome import Outcome
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.run import prediction
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import write_file
from ansible_collections.deployer.sglang.plugins.module_utils.release import LAUNCH_FILE, StagedRelease
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import supervisor_for
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import Supervisor, stop, wait_until
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.process import ProcessSupervisor
from tests.doubles.released_host import DOUBLE, SERVICE, ReleasedHost

STATES = ("drain", "stop", "prove", "start", "gate", "commit")


def killed_at(monkeypatch: pytest.MonkeyPatch, *states: str) -> None:
    """The process that enters one of these states is killed once it has written that down; a guardian is not."""
    enter, guardian = journal.enter, os.getpid()

    def enter_and_die(folder: ServiceFolder, state: str, **entry: object) -> None:
        enter(folder, state, **entry)
        if state in states and os.getpid() != guardian:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(transaction.journal, "enter", enter_and_die)


@pytest.mark.parametrize("state", STATES)
def test_a_process_that_is_killed_leaves_a_service_that_answers(
    host: ReleasedHost, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    host.bring(host.stage("one"))
    host.stage("two")
    killed_at(monkeypatch, state)
    outcome = host.bring("two")
    # What has passed its gate is committed; whatever else, what served before serves again.
    wanted = ("committed", "two") if state == "commit" else ("restored", "one")
    assert (outcome.outcome, outcome.after) == wanted
    assert host.run.release == outcome.after == host.folder.release_of("current")
    assert host.state == "serving"
    assert host.journal()[-1]["event"] == "recovered"
    assert journal.unfinished(host.folder) is None
    if state != "commit":
        assert outcome.reason == f"its process was killed by signal 9, at {state}"


def test_a_process_that_is_killed_while_it_restores_is_made_good_too(
    host: ReleasedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.bring(host.stage("one"))
    host.stage("two", "exit")
    killed_at(monkeypatch, "restore")
    outcome = host.bring("two")
    assert (outcome.outcome, outcome.after) == ("restored", "one")
    assert host.state == "serving"


def test_on_a_new_host_a_killed_process_leaves_nothing_running(
    host: ReleasedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.stage("one", "hang")
    killed_at(monkeypatch, "gate")
    outcome = host.bring("one")
    assert (outcome.outcome, outcome.after) == ("restored", None)
    assert not host.run.pids
    assert journal.unfinished(host.folder) is None


def test_when_not_even_the_guardian_brings_it_back_the_outcome_says_so(
    host: ReleasedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.bring(host.stage("one"))
    write_file(os.path.join(host.folder.release("one"), LAUNCH_FILE), "#!/bin/sh\nexit 3\n", 0o755)
    host.stage("two")
    killed_at(monkeypatch, "start")
    outcome = host.bring("two")
    assert outcome.outcome == "not_restored"
    assert outcome.reason.startswith("its process was killed by signal 9, at start; ")


class HostsOwnUnit(ProcessSupervisor):
    """Stands for a unit of the host's own, which something else than the deployment's supervisor keeps."""

    at_boot = False

    def __init__(self, folder: ServiceFolder) -> None:
        super().__init__(folder)
        self.pid_file, self.log = f"{folder.path}/unit-pid.json", f"{folder.path}/unit.log"

    def start_committed(self, staged: StagedRelease) -> None:
        self.start_candidate(staged)
        self.commit(staged)

    def commit(self, staged: StagedRelease) -> None:
        HostsOwnUnit.at_boot = True

    def forget(self) -> None:
        HostsOwnUnit.at_boot = False


@pytest.fixture
def own_unit(host: ReleasedHost, monkeypatch: pytest.MonkeyPatch) -> Iterator[HostsOwnUnit]:
    """The service is a unit of the host's own, adopted as release `unit`; release `next` is to replace it."""

    def chosen(kind: str, service: str, folder: ServiceFolder) -> Supervisor:
        return HostsOwnUnit(folder) if kind.startswith("unit:") else supervisor_for(kind, service, folder)

    for module in (transaction, run, status, host_probe):
        monkeypatch.setattr(module, "supervisor_for", chosen)
    host.stage("unit", supervisor="unit:llm.service")
    host.stage("next")
    host.bring("unit")
    unit = HostsOwnUnit(host.folder)
    yield unit
    supervisor_for("process", SERVICE, host.folder).request_stop(0)
    stop(unit, host.port, 0)


@pytest.mark.parametrize("state", STATES)
def test_what_another_supervisor_keeps_is_not_left_to_fight_for_the_port(
    host: ReleasedHost, own_unit: HostsOwnUnit, monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    killed_at(monkeypatch, state)
    outcome = host.bring("next")
    assert outcome.outcome == ("committed" if state == "commit" else "restored"), outcome.reason
    forward = state == "commit"
    assert (own_unit.state().running, host.run.running) == (not forward, forward)
    assert HostsOwnUnit.at_boot is not forward


def test_a_process_that_is_killed_after_the_switch_leaves_the_other_unit_to_no_boot(
    host: ReleasedHost, own_unit: HostsOwnUnit, monkeypatch: pytest.MonkeyPatch
) -> None:
    point, guardian = transaction.point_link, os.getpid()

    def point_and_die(link: str, target: str) -> None:
        point(link, target)
        if link.endswith("/current") and os.getpid() != guardian:
            os.kill(os.getpid(), signal.SIGKILL)

    monkeypatch.setattr(transaction, "point_link", point_and_die)
    assert host.bring("next").outcome == "committed"
    assert not HostsOwnUnit.at_boot


def test_a_gateway_that_is_told_to_drain_twice_does_not_keep_the_service_down(
    host: ReleasedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.bring(host.stage("one"))
    once = Path(host.root, "drained")
    drain = [sys.executable, "-c", f"open({str(once)!r}, 'x')"]  # fails the second time
    for release in ("one", host.stage("two")):
        host.handover(release, gateway_drain=drain)
    killed_at(monkeypatch, "start")
    assert host.bring("two").outcome == "restored"
    assert host.state == "serving"


def test_a_cut_over_that_cannot_be_mended_is_not_called_refused(
    host: ReleasedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.bring(host.stage("one"))
    host.stage("two")
    killed_at(monkeypatch, "start")

    def busy(order: run.Order, how: str) -> Outcome:
        raise DeployError("another cut-over of code2sql is under way on this host")

    monkeypatch.setattr(run, "recover", busy)
    outcome = host.bring("two")
    assert outcome.outcome == "not_restored"
    assert "at start; and it cannot be mended now: another cut-over" in outcome.reason


@pytest.fixture
def by_hand(host: ReleasedHost, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """What somebody started on the port, logging into a file of theirs."""
    command = [sys.executable, str(DOUBLE), "--port", str(host.port), "--served-model-name", SERVICE]
    folder = tmp_path / "theirs"
    folder.mkdir()
    with open(folder / "code2sql.log", "ab") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    assert wait_until(lambda: bool(procfs.listening_inodes(host.port)), 20)
    yield process
    process.kill()
    process.wait()


def test_what_somebody_else_started_is_adopted_replaced_and_brought_back(
    host: ReleasedHost, by_hand: subprocess.Popen[bytes], tmp_path: Path
) -> None:
    host.stage("one")
    before, after, change, found = prediction(host.order("one"))
    assert (before, after, change) == (None, "one", True)
    assert str(by_hand.pid) in found
    assert by_hand.poll() is None

    outcome = host.bring("one")
    by_hand.wait(20)
    assert (outcome.outcome, outcome.after) == ("committed", "one")
    assert outcome.before == outcome.adopted == host.folder.release_of("adopted")
    assert [entry["event"] for entry in host.journal()] == ["adopted", "started", "ended"]

    log = tmp_path / "theirs" / "code2sql.log"
    said = len(log.read_text())
    assert host.bring("@adopted").outcome == "committed"
    assert host.state == "serving"
    main = host.run.main_pid
    assert main is not None
    assert Path(f"/proc/{main}/cmdline").read_bytes().split(b"\0")[1:3] == [str(DOUBLE).encode(), b"--port"]
    assert os.readlink(f"/proc/{main}/cwd") == str(tmp_path / "theirs")
    assert len(log.read_text()) > said


def test_a_release_that_does_not_pass_gives_way_to_what_was_adopted(
    host: ReleasedHost, by_hand: subprocess.Popen[bytes]
) -> None:
    outcome = host.bring(host.stage("bad", "exit"))
    assert (outcome.outcome, outcome.after) == ("restored", outcome.adopted)
    assert host.state == "serving"
    assert host.run.release == outcome.adopted


@pytest.mark.parametrize("state", ["drain", "stop", "gate"])
def test_what_was_adopted_serves_on_when_the_process_is_killed(
    host: ReleasedHost, by_hand: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch, state: str
) -> None:
    host.stage("one")
    killed_at(monkeypatch, state)
    outcome = host.bring("one")
    assert outcome.outcome == "restored"
    assert host.state == "serving"
    assert host.run.release == host.folder.release_of("adopted") == host.folder.release_of("current")
    if state == "drain":
        assert by_hand.poll() is None
        assert host.run.main_pid == by_hand.pid
