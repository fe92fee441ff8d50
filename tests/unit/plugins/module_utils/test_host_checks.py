"""Checks of a host: each says what it saw, and a failed one what to do."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import host_checks
from ansible_collections.deployer.sglang.plugins.module_utils.host_checks import (
    check_disk,
    check_gpus,
    check_host,
    check_host_name,
    check_platform,
    check_port,
    check_python,
    check_root,
    check_supervisor,
)


def test_an_old_python_is_refused() -> None:
    assert check_python((3, 9, 2)).ok
    assert not check_python((3, 8, 20)).ok
    assert "ansible_python_interpreter" in check_python((3, 8, 20)).fix


def test_locks_and_bundles_are_made_for_one_platform() -> None:
    assert check_platform("Linux", "x86_64").ok
    assert not check_platform("Linux", "aarch64").ok


@pytest.mark.parametrize(
    ("kind", "uid", "systemd", "ok", "fix"),
    [
        ("systemd", 0, True, True, ""),
        ("systemd", 1000, True, False, "ansible_become"),
        ("systemd", 0, False, False, "inference_supervisor: process"),
        ("process", 1000, False, True, ""),
    ],
)
def test_a_supervisor_needs_what_it_needs(kind: str, uid: int, systemd: bool, ok: bool, fix: str) -> None:
    check = check_supervisor(kind, uid, systemd)
    assert check.ok is ok
    assert fix in check.fix


def test_a_root_that_is_not_there_yet_is_looked_for_above(tmp_path: Path) -> None:
    assert check_root(str(tmp_path / "a" / "b")).ok
    assert check_disk(str(tmp_path / "a" / "b"), 0).ok
    assert not check_disk(str(tmp_path), 1e9).ok


def test_a_host_name_that_does_not_resolve_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert check_host_name("localhost").ok

    def unknown(*_: object) -> None:
        raise socket.gaierror(-2, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    check = check_host_name("gpu1")
    assert not check.ok
    assert check.fix == "add '127.0.1.1 gpu1' to /etc/hosts"


def test_who_holds_a_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
        assert check_port(str(tmp_path), "process", "code2sql", port).ok
        listener.listen()
        check = check_port(str(tmp_path), "process", "code2sql", port)
        assert not check.ok
        assert f"pid {os.getpid()} of" in check.detail


def test_all_checks_have_ids_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_checks.socket, "gethostname", lambda: "localhost")
    ids = [check.id for check in check_host(str(tmp_path), "process", 0, [], [("a", 1), ("b", 2)])]
    assert len(ids) == len(set(ids)) == 9


def test_gpus_that_are_not_there_are_named() -> None:
    listing = (
        "GPU 0: NVIDIA H200 (UUID: GPU-11111111-2222-3333-4444-555555555555)\n"
        "GPU 10: NVIDIA H200 (UUID: GPU-66666666-2222-3333-4444-555555555555)\n"
    )
    assert check_gpus(["0", "10", "GPU-11111111-2222-3333-4444-555555555555"], listing).ok
    assert check_gpus([], "").ok
    assert "1 not there" in check_gpus(["0", "1"], listing).detail
    assert "6, 7 not there; nvidia-smi -L lists none" in check_gpus(["6", "7"], "").detail
