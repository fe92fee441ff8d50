"""Relays that run, as they have written it down."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.procfs import boot_id, read_process
from ansible_collections.deployer.sglang.plugins.module_utils.relay import records
from ansible_collections.deployer.sglang.plugins.module_utils.relay.records import close, make_way
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setattr(records, "ASKED_WITHIN", 1.0)
    (tmp_path / "incoming").mkdir()
    return Store(str(tmp_path))


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """Stands for a relay."""
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]) as one:
        yield one
        one.kill()


def record(process: subprocess.Popen[bytes], **changes: Any) -> str:
    itself = read_process(process.pid)
    start_time = itself.start_time if itself else 0
    value = {"pid": process.pid, "start_time": start_time, "boot": boot_id(), "run": "a", "state": "receiving"}
    return json.dumps({**value, **changes})


def ended(process: subprocess.Popen[bytes]) -> bool:
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        return False
    return True


def test_a_relay_that_nobody_asks_makes_way(store: Store, process: subprocess.Popen[bytes]) -> None:
    Path(store.relay).write_text(record(process))
    threading.Thread(target=process.wait, daemon=True).start()  # a zombie counts as ended, and is reaped
    make_way(store, "b")
    assert ended(process)


def test_a_relay_that_somebody_waits_for_stays(store: Store, process: subprocess.Popen[bytes]) -> None:
    Path(store.relay).write_text(record(process))
    done = threading.Event()

    def ask() -> None:
        while not done.wait(0.1):
            Path(store.relay_asked).touch()

    threading.Thread(target=ask, daemon=True).start()
    try:
        with pytest.raises(DeployError, match="another run brings weights to this host"):
            make_way(store, "b")
    finally:
        done.set()
    assert process.poll() is None


@pytest.mark.parametrize("changes", [{"boot": "another"}, {"start_time": 1}, {"pid": None}])
def test_a_record_of_another_process_ends_nothing(
    store: Store, process: subprocess.Popen[bytes], changes: dict[str, Any]
) -> None:
    Path(store.relay).write_text(record(process, state="landed", **changes))
    make_way(store)
    assert not close(store, "a")
    assert process.poll() is None


@pytest.mark.parametrize("text", ["", "[1]", "{", "\udcff"])
def test_a_damaged_record_is_none_and_is_removed(store: Store, text: str) -> None:
    Path(store.relay).write_bytes(text.encode(errors="surrogateescape"))
    make_way(store)
    assert not close(store, "a")
    assert not os.path.exists(store.relay)


def test_closing_leaves_what_others_run(store: Store, process: subprocess.Popen[bytes]) -> None:
    Path(store.relay).write_text(record(process, run="b"))
    Path(store.seed("b")).write_text(record(process))
    assert not close(store, "a")
    assert os.path.exists(store.relay) and os.path.exists(store.seed("b"))
    assert process.poll() is None
