"""What /proc tells of processes and sockets, tried on processes made for it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import procfs
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import wait_until


def test_a_process_is_known_by_pid_and_start_time() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
    found = procfs.read_process(child.pid)
    assert found is not None
    assert (found.session, found.group) == (child.pid, child.pid)
    assert procfs.lives(found)
    assert not procfs.lives(procfs.Process(found.pid, 0, 0, "S", found.start_time + 1))
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not procfs.lives(found), "a zombie does not live"
    child.wait()
    assert procfs.read_process(child.pid) is None


def test_a_command_name_with_brackets_does_not_confuse(tmp_path: Path) -> None:
    script = tmp_path / "a) S 1 (b"
    script.symlink_to(sys.executable)
    child = subprocess.Popen([script, "-c", "input()"], stdin=subprocess.PIPE)
    found = procfs.read_process(child.pid)
    assert found is not None
    assert found.group == os.getpgid(child.pid)
    child.kill()
    child.wait()


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_listeners_are_found_whatever_their_address(family: socket.AddressFamily, address: str) -> None:
    with socket.socket(family) as listener:
        try:
            listener.bind((address, 0))
        except OSError:
            pytest.skip(f"this machine has no {address}")
        listener.listen()
        port = listener.getsockname()[1]
        inodes = procfs.listening_inodes(port)
        assert procfs.holders(inodes, [os.getpid()]) == {os.getpid()}
        assert procfs.foreign_listeners(port, [os.getpid()]) == ""
        assert f"pid {os.getpid()}" in procfs.foreign_listeners(port, [])
    assert not procfs.listening_inodes(port)


def test_a_variable_is_read_and_an_unreadable_process_has_none() -> None:
    environment = {"INFERENCE_RELEASE": "abc", "OTHER_INFERENCE_RELEASE": "x"}
    child = subprocess.Popen(["/bin/sleep", "60"], env=environment)
    try:
        assert wait_until(lambda: procfs.variable_of(child.pid, "INFERENCE_RELEASE") == "abc", 10)
        assert procfs.variable_of(child.pid, "MISSING") is None
    finally:
        child.kill()
        child.wait()
    assert procfs.variable_of(child.pid, "INFERENCE_RELEASE") is None


def test_no_control_group_holds_no_process() -> None:
    assert procfs.cgroup_pids("") == set()
    assert procfs.cgroup_pids("/") == set()
    assert procfs.cgroup_pids("/no.slice/such.service") == set()


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["python", "-m", "llamafactory.cli", "api"], "python -m llamafactory.cli"),
        (["vllm serve m --api-key sk-1 --port 1"], "vllm serve m"),  # a title that was rewritten is one word
        (["ttyd", "-c", "admin:hunter2"], "ttyd"),
        (["server", "--api-key=sk-1"], "server"),
        (["a\x1b]52;c;aGk=\x07", "b\u202ec"], "a?]52;c;aGk=? b?c"),
        ([], ""),
    ],
)
def test_a_command_is_shown_without_what_may_be_secret_or_reach_a_terminal(words: list[str], shown: str) -> None:
    assert procfs.short_command(words) == shown
