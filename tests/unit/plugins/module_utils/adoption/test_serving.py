"""Who serves a port, found in real process trees."""

from __future__ import annotations

import os
import socket
import subprocess

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import procfs
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.serving import find_server
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import wait_until
from tests.unit.plugins.module_utils.adoption.conftest import SERVICE, Bench, free_port


def test_a_server_is_read_field_by_field(bench: Bench) -> None:
    server = bench.start(
        ["nohup", *bench.command("--model-path", "/m/q")],
        {"CUDA_VISIBLE_DEVICES": "6,7", "ODD": "a\nb=c"},
        cwd=bench.path / "sglang",
    )
    assert server.argv == tuple(bench.command("--model-path", "/m/q"))
    assert server.environ["ODD"] == "a\nb=c"
    assert server.gpus == "6,7"
    assert server.cwd == str(bench.path / "sglang")
    assert server.program == bench.command()[0]
    assert (server.stdout.path, server.stderr.path) == (str(bench.log), str(bench.log))
    assert server.umask == 0o037
    assert server.limits.nofile[0] == "512"
    assert server.ignores_hangup
    assert server.user.uid == os.geteuid()
    assert server.engine_pid == server.top_pid == bench.started[0].pid
    assert server.address == "127.0.0.1"
    assert server.recognised.engine == "sglang"
    assert server.recognised.served_name == SERVICE
    assert not server.hidden


@pytest.mark.parametrize("way", ["uv", "script", "sh -c", "loop"])
def test_what_somebody_started_is_the_top(bench: Bench, way: str) -> None:
    script = bench.path / "start.sh"
    quoted = " ".join(bench.command())
    script.write_text(f"{quoted}\nexit 3\n" if way == "script" else f"while true; do {quoted}; sleep 9; done\n")
    argv = {
        "uv": [str(bench.path / "uv"), "run", *bench.command()],
        "script": ["bash", str(script)],
        "loop": ["bash", str(script)],
        "sh -c": ["sh", "-c", f"cd /; {quoted}; true"],
    }[way]
    server = bench.start(argv)
    assert server.top_pid == bench.started[0].pid
    assert server.engine_pid != server.top_pid
    assert {server.engine_pid, server.top_pid} <= server.family
    assert server.argv[-len(argv) :] == tuple(argv)  # the interpreter of `uv` stands before it
    assert server.recognised.engine == "sglang"


def test_children_that_left_belong_to_it_and_neighbours_do_not(bench: Bench) -> None:
    neighbour = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        script = bench.path / "start.sh"
        script.write_text(f"setsid --fork sleep 61.5 & setsid sleep 62.5 & wait %1; exec {' '.join(bench.command())}\n")
        server = bench.start(["bash", str(script)])
        sleeping = {" ".join(procfs.words_of(pid)) for pid in server.family} - {" ".join(server.argv)}
        # The one that left by a double fork and a session of its own is nobody's any more.
        assert sleeping == {"sleep 62.5"}
        assert neighbour.pid not in server.family
        assert os.getpid() not in server.family
    finally:
        neighbour.kill()
        neighbour.wait()


def test_a_script_that_starts_two_servers_is_neither(bench: Bench) -> None:
    """`start_all.sh` starts this service and another one: only what serves this port is found."""
    other = socket.socket()
    other.bind(("127.0.0.1", 0))
    port = other.getsockname()[1]
    other.close()
    script = bench.path / "start_all.sh"
    second = " ".join(bench.command()).replace(str(bench.port), str(port))
    script.write_text(f"{second} &\n{' '.join(bench.command())} &\nwait\n")
    bench.start(["bash", str(script)])
    assert wait_until(lambda: bool(procfs.listening_inodes(port)), 10)
    server, beside = find_server(bench.port), find_server(port)
    assert server is not None
    assert beside is not None
    assert server.top_pid == server.engine_pid
    assert not server.family & beside.family


def test_a_job_of_a_shell_is_found_without_the_shell(bench: Bench) -> None:
    server = bench.start(bench.command(), own_session=False, process_group=0)
    assert server.top_pid == bench.started[0].pid
    assert server.family == {server.top_pid}


def test_two_servers_on_one_port_are_named(bench: Bench) -> None:
    bench.start(bench.command())
    second = socket.socket(socket.AF_INET6)
    try:
        second.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        second.bind(("::1", bench.port))
    except OSError:
        pytest.skip("this machine has no IPv6")
    second.listen()
    with second, pytest.raises(DeployError, match="two servers") as found:
        find_server(bench.port)
    assert f"pid {os.getpid()}" in found.value.problem


def test_nobody_serves(bench: Bench) -> None:
    assert find_server(bench.port) is None


def test_what_is_written_elsewhere_is_said(bench: Bench) -> None:
    quoted = " ".join(bench.command())
    server = bench.start(["bash", "-c", f"{quoted} 2>/dev/null | cat; true"])
    assert server.stdout.path == str(bench.log)  # of what somebody started, which is the shell
    assert server.recognised.engine == "sglang"
    second = Bench(bench.path, free_port())
    words = " ".join(second.command())
    child = subprocess.Popen(["sh", "-c", f"exec {words}"], stdout=subprocess.PIPE, start_new_session=True)
    try:
        assert wait_until(lambda: bool(procfs.listening_inodes(second.port)), 20)
        found = find_server(second.port)
        assert found is not None
        assert (found.stdout.path, found.stdout.kind) == ("", "pipe")
    finally:
        child.kill()
        child.communicate()
