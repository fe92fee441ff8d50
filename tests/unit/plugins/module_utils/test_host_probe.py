"""A host's facts, read on this machine with a root folder made for it."""

from __future__ import annotations

import dataclasses
import getpass
import json
import os
import platform
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import host_probe, procfs
from ansible_collections.deployer.sglang.plugins.module_utils.adoption.adopt import Adoptable
from ansible_collections.deployer.sglang.plugins.module_utils.environments.facts import RECORD
from ansible_collections.deployer.sglang.plugins.module_utils.files import write_file
from ansible_collections.deployer.sglang.plugins.module_utils.host_facts import HostFacts, Listener, Running
from ansible_collections.deployer.sglang.plugins.module_utils.host_probe import read_host
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import (
    Manifest,
    ManifestFile,
    listing_digest,
)
from ansible_collections.deployer.sglang.plugins.module_utils.release import (
    LAUNCH_FILE,
    RELEASE_FILE,
    Artifact,
    Release,
    StagedRelease,
    files_of,
)
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import supervisor_for
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import stop, wait_until
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import MANIFEST_FILE
from tests.doubles.hosts import gpu_facts
from tests.doubles.nvidia_smi import Process

SERVICE = "code2sql"
RELEASE = "0123456789ab"
LISTEN = "import socket, time; s = socket.create_server(('127.0.0.1', {port})); time.sleep(600)"


@pytest.fixture(autouse=True)
def no_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_probe, "read_gpus", lambda: gpu_facts(0))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server


def stage(root: Path, port: int, **changes: Any) -> StagedRelease:
    """A release that is current, and whose process only listens on its port."""
    folder = Store(str(root)).service(SERVICE)
    values: dict[str, Any] = {
        "service": SERVICE,
        "engine": "sglang",
        "argv": (sys.executable, "-m", "sglang.launch_server"),
        "variables": {},
        "environment": Artifact("sglang", "e" * 64, sys.prefix),
        "model": Artifact("qwen3", "d" * 64, f"{root}/artifacts/models/qwen3-dddddddddddd"),
        "served_name": "code2sql",
        "gpus": ("6", "7"),
        "host": "127.0.0.1",
        "port": port,
        "supervisor": "process",
        "user": getpass.getuser(),
        "root": str(root),
        "working_directory": folder.state,
        "stop_timeout": 2,
        **changes,
    }
    launch = f'#!/bin/sh\nexec {sys.executable} -c "{LISTEN.format(port=port)}"\n'
    staged = StagedRelease(RELEASE, Release(**values), launch, "")
    os.makedirs(folder.release(RELEASE))
    os.makedirs(folder.state)
    for name, text in files_of(staged).items():
        write_file(os.path.join(folder.release(RELEASE), name), text, 0o755 if name == LAUNCH_FILE else 0o644)
    os.symlink(f"releases/{RELEASE}", folder.link("current"))
    return staged


@pytest.fixture
def deployed(tmp_path: Path) -> Iterator[int]:
    """The port of a service whose process runs; its store is `tmp_path`."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    staged = stage(tmp_path, port)
    supervisor = supervisor_for("process", SERVICE, Store(str(tmp_path)).service(SERVICE))
    supervisor.start_candidate(staged)
    try:
        assert wait_until(lambda: port in procfs.listening_ports(), 30)
        yield port
    finally:
        stop(supervisor, port, 0)


def test_this_machine_is_read_and_survives_json(tmp_path: Path) -> None:
    facts = read_host(str(tmp_path / "not" / "there"), [], [])
    assert HostFacts.from_dict(json.loads(json.dumps(facts.as_dict()))) == facts
    assert (facts.python, facts.system, facts.uid) == (platform.python_version(), "Linux", os.geteuid())
    assert (facts.root_folder, facts.root_writable) == (str(tmp_path), True)
    assert (facts.models, facts.built, facts.services, facts.environments) == ({}, (), {}, {})
    assert facts.name == socket.gethostname()
    assert min(facts.disk_free, facts.memory, facts.nr_open) > 0
    assert 0 < facts.ephemeral[0] < facts.ephemeral[1] <= 65535
    assert list(tmp_path.iterdir()) == [], "reading changes nothing"


def test_a_listener_is_named_with_pid_and_command(listener: socket.socket, tmp_path: Path) -> None:
    port = listener.getsockname()[1]
    (found,) = [one for one in read_host(str(tmp_path), [], []).listeners if one.port == port]
    assert found.who.startswith(f"pid {os.getpid()} of {getpass.getuser()}: ")
    assert "python" in found.who or "pytest" in found.who
    assert found.service == ""


def test_a_listener_whose_process_cannot_be_seen_is_somebodys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(procfs, "listening_ports", lambda: {80: set()})
    assert read_host(str(tmp_path), [], []).listeners == (Listener(80, "a process of another user"),)


def test_a_deployed_services_process_is_its_own(deployed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = next(iter(procfs.listening_ports()[deployed]))
    on_gpu = gpu_facts(1, processes=[Process(0, pid, 1000), Process(0, os.getpid(), 10)])
    monkeypatch.setattr(host_probe, "read_gpus", lambda: on_gpu)
    facts = read_host(str(tmp_path), [SERVICE, "never-deployed"], [])
    assert facts.services == {
        SERVICE: Running(RELEASE, "sglang", "code2sql", "qwen3-dddddddddddd", deployed, ("6", "7"), True)
    }
    assert [one for one in facts.listeners if one.port == deployed] == [
        Listener(deployed, f"service {SERVICE}", SERVICE)
    ]
    assert [process.service for process in facts.gpus.gpus[0].processes] == [SERVICE, ""]
    (stranger,) = [one for one in read_host(str(tmp_path), [], []).listeners if one.port == deployed]
    assert (stranger.service, f"pid {pid} of" in stranger.who) == ("", True), "of a service that is not described"


def test_a_service_that_was_stopped_is_deployed_and_does_not_run(tmp_path: Path) -> None:
    stage(tmp_path, 8001)
    assert read_host(str(tmp_path), [SERVICE], []).services[SERVICE].runs is False


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (RELEASE_FILE, b""),
        (RELEASE_FILE, b"[]"),
        (RELEASE_FILE, b'{"id": "0123456789ab"}'),
        (RELEASE_FILE, b"\xff"),
        (LAUNCH_FILE, b"\xff"),
        (LAUNCH_FILE, None),
        ("../../pid.json", b"["),
        ("../../pid.json", b"[1]"),
        ("../../pid.json", b'{"pid": 1}'),
        ("../../pid.json", b'"x"'),
    ],
)
def test_a_damaged_release_counts_as_none(tmp_path: Path, name: str, content: bytes | None) -> None:
    stage(tmp_path, 8001)
    path = Path(Store(str(tmp_path)).service(SERVICE).release(RELEASE), name)
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)
    assert read_host(str(tmp_path), [SERVICE], []).services == {}


def test_models_and_environments_that_are_there_are_told_from_unfinished_ones(tmp_path: Path) -> None:
    models, environments = tmp_path / "artifacts" / "models", tmp_path / "artifacts" / "environments"
    manifest = Manifest((ManifestFile("config.json", 2, "a" * 64), ManifestFile("model.safetensors", 9, "b" * 64)))
    for name, text in {
        "qwen3-aaaaaaaaaaaa": json.dumps(manifest.as_dict()),
        "empty": '{"files": []}',
        "list": "[]",
        "cut": '{"files": [',
        "unsized": '{"files": [{"path": "x"}]}',
        "endless": '{"files": [{"path": "x", "size": Infinity}]}',
        "word": '{"files": "ab"}',
    }.items():
        (models / name).mkdir(parents=True)
        (models / name / MANIFEST_FILE).write_text(text)
    (models / "unfinished").mkdir()
    (environments / "sglang-eeeeeeeeeeee").mkdir(parents=True)
    (environments / "sglang-eeeeeeeeeeee" / RECORD).write_text("{}")
    (environments / "sglang-ffffffffffff").mkdir()
    facts = read_host(str(tmp_path), [], [{"name": "gone", "prefix": str(tmp_path / "gone"), "engines": ["sglang"]}])
    digest = listing_digest([("model.safetensors", 9), ("config.json", 2)])
    assert facts.models == {"qwen3-aaaaaaaaaaaa": digest}
    assert facts.built == ("sglang-eeeeeeeeeeee",)
    assert facts.environments["gone"].problem[0]


@pytest.mark.parametrize(("text", "glibc"), [("glibc 2.36", "2.36"), ("musl 1.2", ""), (None, "")])
def test_only_glibc_has_a_glibc_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str | None, glibc: str
) -> None:
    monkeypatch.setattr(os, "confstr", lambda name: text)
    assert read_host(str(tmp_path), [], []).glibc == glibc


def test_a_name_that_does_not_resolve_has_no_address(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    assert read_host(str(tmp_path), [], []).address == ""


@pytest.mark.parametrize(("rotated", "said"), [(False, True), (True, False)])
def test_a_log_of_what_was_started_by_hand_is_told_where_nothing_rotates_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rotated: bool, said: bool
) -> None:
    log = tmp_path / "code2sql_8001.log"
    log.write_text("")
    found = Adoptable("llamafactory", "pid 9 of me", frozenset({9}), log=str(log), automatic=True)
    monkeypatch.setattr(host_probe, "look", lambda *_: found)
    monkeypatch.setattr(host_probe.logrotate, "rotates", lambda _: rotated)
    listener = host_probe._adoptable(Listener(8001, "pid 9 of me"), {}, [8001])
    assert (listener.adopts, listener.log) == ("llamafactory", str(log) if said else "")
    monkeypatch.setattr(host_probe, "look", lambda *_: dataclasses.replace(found, log="a pipe"))
    assert host_probe._adoptable(Listener(8001, "pid 9 of me"), {}, [8001]).log == ""
