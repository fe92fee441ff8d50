"""What ansible-playbook is run in, and what ends it."""

from __future__ import annotations

import importlib.metadata
import os
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.runs import runner
from deployer.runs.problems import of_run
from deployer.runs.runner import Invocation, Run, environment, run_playbook


def test_host_keys_are_checked_whatever_the_folder(tmp_path: Path) -> None:
    chosen = environment({}, tmp_path)
    assert chosen["ANSIBLE_HOST_KEY_CHECKING"] == "True"
    assert "StrictHostKeyChecking=yes" in chosen["ANSIBLE_SSH_EXTRA_ARGS"]
    assert chosen["ANSIBLE_PIPELINING"] == "True"


def test_the_users_own_settings_win(tmp_path: Path) -> None:
    (tmp_path / "ansible.cfg").write_text("[defaults]\n")
    chosen = environment({"ANSIBLE_FORKS": "7", "ANSIBLE_SSH_EXTRA_ARGS": "-o Port=22"}, tmp_path)
    assert "ANSIBLE_PIPELINING" not in chosen
    assert environment({"ANSIBLE_FORKS": "7"}, tmp_path / "elsewhere")["ANSIBLE_FORKS"] == "7"
    assert chosen["ANSIBLE_SSH_EXTRA_ARGS"] == "-o Port=22 -o StrictHostKeyChecking=yes"
    name = "ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED"
    assert (chosen[name], environment({name: "False"}, tmp_path)[name]) == ("True", "False")


def test_host_key_checking_cannot_be_left_out_by_accident(tmp_path: Path) -> None:
    assert environment({"ANSIBLE_HOST_KEY_CHECKING": "False"}, tmp_path)["ANSIBLE_HOST_KEY_CHECKING"] == "True"


def test_ansible_is_the_one_beside_this_python(tmp_path: Path) -> None:
    first = environment({"PATH": "/usr/bin"}, tmp_path)["PATH"].split(":")[0]
    assert Path(first) == Path(sys.executable).parent


def playbook(folder: Path, invocation: Invocation | None = None) -> Run:
    """A run that meets no host: it needs Ansible, and nothing else."""
    (folder / "hosts.yml").write_text("all: {hosts: {}}\n")
    return run_playbook("status", invocation or Invocation([str(folder / "hosts.yml")]), lambda event: None)


def test_a_home_that_cannot_be_written_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ANSIBLE_HOME", raising=False)
    monkeypatch.setenv("HOME", "/proc")  # not even root writes there
    run = playbook(tmp_path)
    assert run.status == 0 and "skipping: no hosts matched" in run.output


def test_what_ansible_lacks_on_the_controller_is_said_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "2.17.3")
    with pytest.raises(DeployError, match=r"ansible-core 2\.17\.3 is too old.*Fix: install it.*>=2\.18"):
        playbook(tmp_path)
    monkeypatch.setattr(runner, "_search_path", lambda current: str(tmp_path))
    with pytest.raises(DeployError, match=r"there is no ansible-playbook on the controller\. Fix: install it"):
        playbook(tmp_path)
    monkeypatch.setitem(sys.modules, "ansible_runner", None)
    with pytest.raises(DeployError, match=r"ansible-runner cannot be imported.*Fix: install it"):
        playbook(tmp_path)


def test_a_full_disk_is_said_with_its_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(**_: object) -> None:
        raise OSError(28, "No space left on device", "/tmp/x")

    monkeypatch.setattr(runner, "_ansible_runner", lambda: full)
    with pytest.raises(DeployError, match=r"/tmp/x: Ansible cannot be run: no space is left\. Fix: make room"):
        playbook(tmp_path)


@pytest.mark.parametrize("limit", ["h1,nope", "all:!nope"])
def test_a_limit_of_which_a_part_matches_nothing_ends_the_run_before_any_task(tmp_path: Path, limit: str) -> None:
    """Ansible itself warns, and goes on with other hosts than were meant."""
    path = tmp_path / "hosts.yml"
    path.write_text("all: {children: {gpu-nodes: {hosts: {h1: {ansible_connection: local}}}}}\n")
    kinds: list[str] = []
    run = run_playbook("status", Invocation([str(path)], limit), lambda event: kinds.append(str(event.get("event"))))
    assert run.status != 0 and "runner_on_start" not in kinds
    assert of_run(run.output, run.status, limit).line().startswith(f"-l {limit}: nope matches no host")


PROGRAM = """
import signal, sys
from deployer.runs.runner import Invocation, run_playbook
before = signal.getsignal(signal.SIGINT)
def on_event(event):
    print(event.get("event"), flush=True)
try:
    run_playbook("status", Invocation([sys.argv[1]]), on_event)
except KeyboardInterrupt:
    print("INTERRUPTED", signal.getsignal(signal.SIGINT) is before)
"""


def test_ctrl_c_ends_a_run_and_what_was_minded_before_is_minded_again(tmp_path: Path) -> None:
    """A host that is asked over a connection that never answers: only Ctrl-C ends that."""
    (tmp_path / "ssh").write_text("#!/bin/sh\nexec sleep 600\n")
    (tmp_path / "ssh").chmod(0o755)
    (tmp_path / "hosts.yml").write_text(
        textwrap.dedent(f"""
        all:
          children:
            gpu-nodes:
              hosts: {{h1: {{ansible_ssh_executable: {tmp_path}/ssh, ansible_timeout: 600}}}}
        """)
    )
    child = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "hosts.yml")], cwd=tmp_path, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    for line in child.stdout:
        if line.strip() == "runner_on_start":
            break
    os.kill(child.pid, signal.SIGINT)
    said = child.stdout.read()
    assert child.wait(60) == 0 and "INTERRUPTED True" in said


def test_an_answer_that_makes_no_sense_is_the_failure_of_its_host() -> None:
    taken: list[dict[str, object]] = []

    def on_event(event: dict[str, object]) -> None:
        if event["event"] == "runner_on_ok":
            raise TypeError("'int' object is not iterable")
        taken.append(event)

    runner._taken(
        on_event, {"event": "runner_on_ok", "event_data": {"host": "gpu1", "task": "t", "res": {"would_run": 5}}}
    )
    (failed,) = taken
    assert failed["event"] == "runner_on_failed"
    data = failed["event_data"]
    assert isinstance(data, dict) and data["host"] == "gpu1" and "makes no sense (TypeError" in data["res"]["msg"]
    with pytest.raises(TypeError):  # of no host: a defect
        runner._taken(on_event, {"event": "runner_on_ok", "event_data": {}})
