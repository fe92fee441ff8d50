"""Who keeps a server alive, told from control groups and the processes above it."""

from __future__ import annotations

import dataclasses
import os
import subprocess

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import procfs
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.family import is_starter, runs_script
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.supervision import (
    HAND,
    REFUSED,
    UNIT,
    is_restarter,
    placed,
    supervision_of,
)
from tests.unit.plugins.module_utils.adoption.conftest import Bench

SHELL = "/user.slice/user-1000.slice"


@pytest.mark.parametrize(
    ("group", "kind"),
    [
        (f"{SHELL}/session-3.scope", HAND),
        (f"{SHELL}/user@1000.service/init.scope", HAND),
        (f"{SHELL}/user@1000.service/tmux-spawn-1.scope", HAND),
        (f"{SHELL}/user@1000.service/app.slice/app-gnome-terminal-1.scope", HAND),
        (f"{SHELL}/user@1000.service", HAND),
        (f"{SHELL}/user@1000.service/app.slice/llm.service", REFUSED),
        ("/system.slice/ssh.service", HAND),
        ("/system.slice/sshd@3-1.2.3.4.service", HAND),
        ("/system.slice/cron.service", HAND),
        ("/system.slice/llm.service", UNIT),
        ("/system.slice/system-llm.slice/llm@1.service/inner", UNIT),
        ("/init.scope", HAND),
        ("/", HAND),
    ],
)
def test_the_control_group_tells(bench: Bench, group: str, kind: str) -> None:
    server = bench.start(bench.command())
    shown = {"MainPID": str(server.top_pid), "Type": "simple", "UnitFileState": "enabled", "Transient": "no"}
    found = placed([group], server, [1], lambda unit: shown)
    assert found.kind == kind
    assert bool(found.problem) == bool(found.fix) == (kind == REFUSED)
    if kind == UNIT:
        assert found.unit in ("llm.service", "llm@1.service")
        assert found.enabled == "enabled"


def test_a_unit_that_is_for_something_else_is_not_taken_over(bench: Bench) -> None:
    server = bench.start(bench.command())
    shown = {"MainPID": "1", "Type": "simple", "Transient": "no"}
    found = placed(["/system.slice/jupyterhub.service"], server, [1], lambda unit: shown)
    assert found.kind == REFUSED
    assert "jupyterhub.service" in found.problem
    transient = placed(["/system.slice/run-u1.service"], server, [1], lambda unit: {"Transient": "yes"})
    assert transient.kind == REFUSED


def test_what_is_started_from_here_is_by_hand(bench: Bench) -> None:
    assert supervision_of(bench.start(bench.command())).kind == HAND


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes namespaces")
@pytest.mark.parametrize("options", [["--mount"], ["--pid", "--fork"]])
def test_a_namespace_of_its_own_is_refused(bench: Bench, options: list[str]) -> None:
    if subprocess.run(["unshare", *options, "true"], check=False).returncode:
        pytest.skip("this machine makes no namespaces")
    found = supervision_of(bench.start(["unshare", *options, *bench.command()]))
    assert found.kind == REFUSED
    assert "namespace" in found.problem


def test_a_container_is_known_by_its_listener(bench: Bench) -> None:
    proxy = bench.path / "docker-proxy"
    proxy.symlink_to(os.path.realpath(bench.command()[0]))
    found = supervision_of(bench.start([str(proxy), *bench.command()[1:]]))
    assert found.kind == REFUSED
    assert "docker stop" in found.fix


def test_what_would_start_it_again_is_refused(bench: Bench) -> None:
    supervisor = bench.path / "supervisord"
    supervisor.write_text((bench.path / "uv").read_text())
    supervisor.chmod(0o755)
    server = bench.start([str(supervisor), "run", *bench.command()])
    found = supervision_of(dataclasses.replace(server, top_pid=server.engine_pid))
    assert found.kind == REFUSED
    assert "start it again" in found.problem
    assert supervision_of(server).kind == REFUSED


@pytest.mark.parametrize(
    ("name", "words", "known"),
    [
        ("supervisord", ["/usr/bin/python3", "/usr/bin/supervisord", "-n"], True),
        ("PM2 v5.3.0: God", ["PM2 v5.3.0: God Daemon (/home/mia/.pm2)"], True),
        ("runsv", ["runsv", "llm"], True),
        ("python3", ["python3", "-m", "supervisely"], False),
        ("godot", ["godot"], False),
        ("bash", ["bash", "start.sh"], False),
    ],
)
def test_restarters_are_known_by_name(name: str, words: list[str], known: bool) -> None:
    assert is_restarter(name, words) == known


@pytest.mark.parametrize(
    ("command", "script"),
    [
        ("bash start.sh", True),
        ("bash -e start.sh", True),
        ("bash -o pipefail start.sh", True),
        ("sh -c x", True),
        ("bash -lc x", True),
        ("bash", False),
        ("-bash", False),
        ("bash -l", False),
        ("bash -i", False),
        ("bash --rcfile x", False),
        ("bash --login -i", False),
        ("bash -s", False),
    ],
)
def test_a_shell_that_runs_a_script_is_told_from_one_that_waits(command: str, script: bool) -> None:
    assert runs_script(command.split()) == script


def test_the_first_process_only_starts_others() -> None:
    assert is_starter(1)
    assert not is_starter(os.getpid())
    assert procfs.ancestors_of(os.getpid())[0] == os.getppid()
