"""The cut-over with real processes under the process supervisor; the server is a light double (tests/doubles)."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import journal, procfs, status
from ansible_collections.deployer.sglang.plugins.module_utils.cutover import transaction
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import write_file
from ansible_collections.deployer.sglang.plugins.module_utils.release import (
    LAUNCH_FILE,
    Artifact,
    StagedRelease,
    load_release,
)
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import supervisor_for
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import wait_until
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.process import ProcessSupervisor
from tests.doubles.released_host import DOUBLE, SERVICE, ReleasedHost


def test_a_release_is_committed_and_a_second_run_changes_nothing(host: ReleasedHost) -> None:
    outcome = host.cut_over(host.stage("one"))
    assert (outcome.outcome, outcome.before, outcome.after) == ("committed", None, "one")
    assert host.state == "serving"
    pid = host.run.main_pid
    assert host.cut_over("one").outcome == "unchanged"
    assert host.run.main_pid == pid


def test_the_next_release_replaces_it_and_previous_names_the_way_back(host: ReleasedHost) -> None:
    host.cut_over(host.stage("one"))
    outcome = host.cut_over(host.stage("two"))
    assert (outcome.outcome, outcome.before, outcome.after) == ("committed", "one", "two")
    assert host.run.release == "two"
    assert host.resolve("@previous") == "one"
    assert host.cut_over("one").outcome == "committed"
    assert host.run.release == "one"


@pytest.mark.parametrize(
    ("fault", "probe", "reason"),
    [
        ("exit", "process", "ended with exit status 7"),
        ("wrong-name", "served name", "/v1/models lists someone-else, promised was code2sql"),
        ("no-done", "stream", "ended without [DONE] after 1 chunks"),
        ("hang", "readiness", "not ready after"),
        ("die-soon", "process", "ended with exit status 9"),
        ("half-answer", "chat completion", "ended with exit status 11"),
        ("endless", "stream", "not ended after 2 s"),
    ],
)
def test_a_release_that_does_not_pass_gives_way_to_what_served_before(
    host: ReleasedHost, fault: str, probe: str, reason: str
) -> None:
    host.cut_over(host.stage("good"))
    host.stage("bad", fault)
    host.gate("bad", ready_timeout=2, request_timeout=2, min_healthy_time=5 if fault == "die-soon" else 0)
    outcome = host.cut_over("bad")
    assert (outcome.outcome, outcome.probe, outcome.after) == ("restored", probe, "good")
    assert reason in outcome.reason
    assert f"double starts with fault {fault}" in outcome.log
    assert host.state == "serving"
    assert host.run.release == "good"
    assert host.journal()[-1]["outcome"] == "restored"


def test_on_a_new_host_a_release_that_does_not_pass_leaves_nothing_running(host: ReleasedHost) -> None:
    outcome = host.cut_over(host.stage("bad", "exit"))
    assert (outcome.outcome, outcome.after) == ("restored", None)
    assert host.state == "absent"
    assert not host.run.pids


def test_when_the_old_release_does_not_come_back_the_outcome_says_so(host: ReleasedHost) -> None:
    host.cut_over(host.stage("good"))
    write_file(os.path.join(host.folder.release("good"), LAUNCH_FILE), "#!/bin/sh\nexit 3\n", 0o755)
    outcome = host.cut_over(host.stage("bad", "exit"))
    assert outcome.outcome == "not_restored"
    assert "restoring good failed as well" in outcome.reason
    assert host.state == "stopped"


def test_a_process_that_ignores_sigterm_is_ended(host: ReleasedHost) -> None:
    host.cut_over(host.stage("deaf", "ignore-term"))
    assert host.cut_over(host.stage("next")).outcome == "committed"
    assert host.run.release == "next"


def test_a_child_that_survives_its_parent_is_ended(host: ReleasedHost) -> None:
    host.cut_over(host.stage("parent", "orphan"))
    family = set(host.run.pids)
    assert len(family) == 2
    host.cut_over(host.stage("next"))
    assert not {pid for pid in family if (found := procfs.read_process(pid)) and found.state not in "ZX"}


def test_a_stranger_on_the_port_is_named_and_nothing_is_touched(host: ReleasedHost) -> None:
    host.stage("one")
    stranger = subprocess.Popen([sys.executable, "-m", "http.server", str(host.port)], stderr=subprocess.DEVNULL)
    try:
        assert wait_until(lambda: bool(procfs.listening_inodes(host.port)), 10)
        with pytest.raises(DeployError, match=f"port {host.port} is held by pid {stranger.pid} of"):
            host.cut_over("one")
        assert stranger.poll() is None
        assert not os.path.exists(host.folder.journal)
    finally:
        stranger.kill()
        stranger.wait()


def test_an_answer_from_another_process_on_the_port_does_not_pass_the_gate(host: ReleasedHost) -> None:
    """SGLang logs that it is ready when another SGLang holds its port: the answer must be its own."""
    host.stage("one", "hang", argv=(sys.executable, "-c", "import time; time.sleep(60)"))
    host.gate("one", ready_timeout=4)
    port = host.port
    arguments = ["x", "--port", str(port), "--served-model-name", SERVICE]
    run = f"sys.argv = {arguments!r}; runpy.run_path({str(DOUBLE)!r}, run_name='__main__')"
    code = f"import time, runpy, sys; time.sleep(1.5); {run}"
    stranger = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL)
    try:
        outcome = host.cut_over("one")
        assert outcome.probe == "process"
        assert f"port {port} is held by pid {stranger.pid}" in outcome.reason
    finally:
        stranger.kill()
        stranger.wait()


def test_a_release_that_lost_its_model_is_refused_and_the_old_one_serves_on(host: ReleasedHost) -> None:
    host.cut_over(host.stage("one"))
    pid = host.run.main_pid
    host.stage("two", model=Artifact("m", "d" * 64, f"{host.root}/nowhere"))
    with pytest.raises(DeployError, match="the model of release two is missing"):
        host.cut_over("two")
    assert host.run.main_pid == pid


def test_a_cut_over_that_was_killed_is_reported_and_the_next_one_finishes_it(host: ReleasedHost) -> None:
    host.cut_over(host.stage("one"))
    host.stage("two", "hang")
    pid = os.fork()
    if pid == 0:  # the run that will be killed at the gate
        host.cut_over("two")
        os._exit(0)
    assert wait_until(lambda: (journal.unfinished(host.folder) or {}).get("state") == "gate", 20)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    found = status.service_status(host.root, SERVICE, host.port)
    assert (found["state"], found["detail"].partition(". Fix: ")[2]) == ("interrupted", status.FINISHED_BY)
    assert host.folder.release_of("current") == "one"
    outcome = host.cut_over("one")
    assert outcome.outcome == "committed"
    assert host.state == "serving"
    assert host.run.release == "one"


def test_two_cut_overs_at_once_are_one_and_a_refusal(host: ReleasedHost) -> None:
    host.stage("one", "hang")
    host.gate("one", ready_timeout=3)
    pid = os.fork()
    if pid == 0:
        host.cut_over("one")
        os._exit(0)
    assert wait_until(lambda: journal.unfinished(host.folder) is not None, 20)
    assert host.state == "changing"
    with pytest.raises(DeployError, match="another cut-over of code2sql is under way"):
        host.cut_over("one")
    os.waitpid(pid, 0)


def test_a_service_that_died_is_started_again(host: ReleasedHost) -> None:
    host.cut_over(host.stage("one"))
    main = host.run.main_pid
    assert main is not None
    os.kill(main, signal.SIGKILL)
    assert wait_until(lambda: not host.run.running, 5)
    assert host.state == "stopped"
    assert host.cut_over("one").outcome == "committed"
    assert host.state == "serving"


def test_there_is_nothing_to_go_back_to(host: ReleasedHost) -> None:
    host.cut_over(host.stage("one"))
    with pytest.raises(DeployError, match="no earlier release"):
        host.resolve("@previous")


def test_the_launch_script_run_by_hand_is_the_service(host: ReleasedHost) -> None:
    host.stage("one")
    environment = {"PATH": os.environ["PATH"], "http_proxy": "http://nowhere.invalid:1", "PYTHONPATH": "/nowhere"}
    script = os.path.join(host.folder.release("one"), LAUNCH_FILE)
    by_hand = subprocess.Popen([script], env=environment, stdout=subprocess.DEVNULL)
    try:
        assert wait_until(lambda: bool(procfs.listening_inodes(host.port)), 10)
        assert procfs.variable_of(by_hand.pid, "INFERENCE_RELEASE") == "one"
        assert procfs.variable_of(by_hand.pid, "http_proxy") is None
        assert procfs.variable_of(by_hand.pid, "PYTHONPATH") is None
    finally:
        by_hand.kill()
        by_hand.wait()


def test_a_disk_that_takes_nothing_leaves_the_service_alone(
    host: ReleasedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.cut_over(host.stage("one"))
    pid = host.run.main_pid
    host.stage("two")

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(journal, "enter", full)
    with pytest.raises(DeployError, match=r"cannot be written: .*No space left"):
        host.cut_over("two")
    assert host.run.main_pid == pid


def test_a_disk_that_fills_up_on_the_way_does_not_keep_the_old_release_from_serving(
    host: ReleasedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.cut_over(host.stage("one"))
    host.stage("two")
    enter = journal.enter

    def full_from_start_on(folder: ServiceFolder, state: str, **entry: object) -> None:
        if state not in ("drain", "stop"):
            raise OSError(errno.ENOSPC, "No space left on device")
        enter(folder, state, **entry)

    monkeypatch.setattr(journal, "enter", full_from_start_on)
    outcome = host.cut_over("two")
    assert (outcome.outcome, outcome.after) == ("restored", "one")
    assert host.state == "serving"


def test_a_stranger_on_another_address_of_the_port_is_refused_before_the_stop(host: ReleasedHost) -> None:
    host.cut_over(host.stage("one"))
    pid = host.run.main_pid
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.2", host.port))
        stranger.listen()
        with pytest.raises(DeployError, match="which is not this service"):
            host.cut_over(host.stage("two"))
    assert host.run.main_pid == pid


def test_a_process_that_dies_between_gate_and_commit_is_not_committed(
    host: ReleasedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.cut_over(host.stage("one"))
    commit = ProcessSupervisor.commit

    def die_then_commit(self: ProcessSupervisor, staged: StagedRelease) -> None:
        main = self.state().main_pid
        assert main is not None
        os.kill(main, signal.SIGKILL)
        assert wait_until(lambda: not self.state().running, 5)
        commit(self, staged)

    monkeypatch.setattr(ProcessSupervisor, "commit", die_then_commit)
    outcome = host.cut_over(host.stage("two"))
    assert (outcome.outcome, outcome.after) == ("restored", "one")
    assert host.state == "serving"


def test_a_commit_that_fails_half_way_keeps_the_way_back(host: ReleasedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    host.cut_over(host.stage("one"))
    host.cut_over(host.stage("two"))
    point = transaction.point_link
    failed: list[str] = []

    def current_fails_once(link: str, target: str) -> None:
        if link.endswith("current") and not failed:
            failed.append(link)
            raise OSError(errno.EIO, "Input/output error")
        point(link, target)

    monkeypatch.setattr(transaction, "point_link", current_fails_once)
    outcome = host.cut_over(host.stage("three"))
    assert (outcome.outcome, outcome.after) == ("restored", "two")
    assert host.resolve("@previous") == "one"


def test_rollback_after_a_cut_over_that_was_cut_off_goes_to_what_served_before_it(host: ReleasedHost) -> None:
    host.cut_over(host.stage("one"))
    host.cut_over(host.stage("two"))
    journal.enter(host.folder, "gate", to="three")
    assert host.resolve("@previous") == "two"


def test_a_process_that_is_still_loading_is_waited_for_and_not_restarted(host: ReleasedHost) -> None:
    host.cut_over(host.stage("one", "slow"))
    supervisor_for("process", SERVICE, host.folder).request_stop(5)
    loading = supervisor_for("process", SERVICE, host.folder)
    loading.start_committed(load_release(host.folder.release("one")))
    assert wait_until(lambda: host.run.release == "one", 10)
    pid = host.run.main_pid
    assert host.cut_over("one").outcome == "unchanged"
    assert host.run.main_pid == pid


def test_an_old_release_that_is_damaged_does_not_block_the_next(host: ReleasedHost) -> None:
    host.cut_over(host.stage("one"))
    Path(host.folder.release("one"), "release.json").unlink()
    assert host.cut_over(host.stage("two")).outcome == "committed"
    assert host.run.release == "two"


def test_a_release_that_was_changed_after_it_was_staged_is_refused(host: ReleasedHost) -> None:
    host.cut_over(host.stage("one"))
    pid = host.run.main_pid
    script = Path(host.folder.release(host.stage("two"))) / LAUNCH_FILE
    script.write_text(script.read_text().replace("code2sql", "impostor"))
    with pytest.raises(DeployError, match=r"launch\.sh was changed after it was staged"):
        host.cut_over("two")
    assert host.run.main_pid == pid


def test_a_current_that_was_removed_by_hand_is_mended_and_still_the_way_back(host: ReleasedHost) -> None:
    host.cut_over(host.stage("one"))
    os.unlink(host.folder.link("current"))
    assert host.state == "serving"
    outcome = host.cut_over(host.stage("two", "exit"))
    assert (outcome.outcome, outcome.before, outcome.after) == ("restored", "one", "one")
    assert host.folder.release_of("current") == "one"
    assert host.run.release == "one"


def test_a_gateway_is_told_before_the_stop_and_after_the_gate(host: ReleasedHost) -> None:
    host.cut_over(host.stage("one"))
    pid = host.run.main_pid
    said = Path(host.root, "gateway")
    say = [sys.executable, "-c", f"import sys; open({str(said)!r}, 'a').write(sys.argv[1] + ' ')"]
    host.stage("two")
    host.handover("two", gateway_drain=[*say, "drain"], gateway_restore=[*say, "restore"])
    assert host.cut_over("two").outcome == "committed"
    assert said.read_text() == "drain restore "
    host.stage("three", "exit")
    host.handover("three", gateway_drain=[*say, "drain"], gateway_restore=["/nowhere"])
    outcome = host.cut_over("three")
    assert outcome.outcome == "restored"
    assert "requests may not reach the service" in outcome.warning
    pid = host.run.main_pid
    host.handover("one", gateway_drain=["/nowhere"], gateway_restore=[*say, "back"])
    with pytest.raises(DeployError, match="the gateway's drain command"):
        host.cut_over("one")
    assert host.run.main_pid == pid
    assert said.read_text().endswith("back ")
    assert host.journal()[-1]["outcome"] == "refused"
    assert host.state == "serving"


def test_the_failure_says_its_kind_and_what_proves_it(host: ReleasedHost) -> None:
    outcome = host.cut_over(host.stage("bad", "exit"))
    assert outcome.failure["kind"] == "crash"


def test_a_current_that_is_removed_on_the_way_is_back_before_the_old_release_starts(
    host: ReleasedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.cut_over(host.stage("one"))
    host.stage("two", "exit")
    begin, named = ProcessSupervisor.start_candidate, []

    def look_then_start(self: ProcessSupervisor, staged: StagedRelease) -> None:
        named.append(host.folder.release_of("current"))
        begin(self, staged)

    def remove_then_start(self: ProcessSupervisor, staged: StagedRelease) -> None:
        os.unlink(host.folder.link("current"))
        begin(self, staged)

    monkeypatch.setattr(ProcessSupervisor, "start_candidate", remove_then_start)
    monkeypatch.setattr(ProcessSupervisor, "start_committed", look_then_start)
    outcome = host.cut_over("two")
    assert (outcome.outcome, named) == ("restored", ["one"])
    assert host.state == "serving"
