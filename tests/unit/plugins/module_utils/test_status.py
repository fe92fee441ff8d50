"""The state of a service, as a host tells it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils import status
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.gpus import Gpu, GpuProcess
from ansible_collections.deployer.sglang.plugins.module_utils.status import Asked, host_status, service_status
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import supervisor_for
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import stop
from tests.doubles.released_host import SERVICE, ReleasedHost

GIB = 2**30


def gpu(index: int, *processes: GpuProcess) -> Gpu:
    memory = (80 * GIB, 0, 70 * GIB, 10 * GIB)
    return Gpu(index, f"GPU-{index}", "H100", *memory, "9.0", False, 0, (), processes, f"0000:0{index}:00.0", index)


@pytest.fixture
def host(tmp_path: Path) -> Iterator[ReleasedHost]:
    """A host on which release `aaa` serves."""
    one = ReleasedHost(tmp_path)
    one.stage("aaa")
    one.cut_over("aaa")
    yield one
    stop(supervisor_for("process", SERVICE, one.folder), one.port, 2)


def seen(host: ReleasedHost) -> dict[str, Any]:
    return service_status(host.root, SERVICE, host.port)


def test_a_service_that_serves_is_told_whole(host: ReleasedHost) -> None:
    found = seen(host)
    assert (found["state"], found["detail"], found["drift"]) == ("serving", "", [])
    assert found["gate"] == {"passes": True, "detail": ""}
    unit = {"kind": "process", "name": "", "healthy": True, "state": "running", "restarts": None}
    assert found["unit"] == unit
    assert 0 <= found["uptime"] < 600
    began = time.mktime(time.strptime(found["since"], "%Y-%m-%dT%H:%M:%SZ")) - time.timezone
    assert abs(time.time() - found["uptime"] - began) < 5
    # The double has no metrics, as an SGLang without the option.
    assert found["load"]["running"] is None
    assert "enable_metrics: true" in found["load"]["note"]
    assert found["gpu_memory"] == []


def test_since_when_it_runs_does_not_change_with_the_clock(host: ReleasedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    before = seen(host)["uptime"]
    now = time.time()
    monkeypatch.setattr(status.time, "time", lambda: now + 86400)
    assert abs(seen(host)["uptime"] - before) < 60


def test_drift_is_told_beside_the_state(host: ReleasedHost) -> None:
    with open(f"{host.folder.release('aaa')}/unit.service", "a", encoding="utf-8") as stream:
        stream.write("#\n")
    os.unlink(host.folder.link("current"))
    found = seen(host)
    assert found["state"] == "serving"
    assert [one["what"] for one in found["drift"]] == ["files", "current"]
    assert all(one["detail"] and one["fix"] for one in found["drift"])


def test_a_service_that_hangs_is_failing_and_keeps_nobody_waiting(
    host: ReleasedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status, "PROBE_PATIENCE", 0.5)
    pid = seen(host)["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        (found,) = host_status(host.root, [{"name": SERVICE, "port": host.port}])
    finally:
        os.kill(pid, signal.SIGCONT)
    assert found["state"] == "failing"
    assert found["detail"].endswith("/health hangs: no answer within 0.5 s")
    assert found["gate"]["passes"] is False
    assert found["load"]["running"] is None


def test_a_host_that_hangs_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    never = threading.Event()
    monkeypatch.setattr(status, "service_status", lambda *given: never.wait())
    (found,) = host_status("/nowhere", [{"name": SERVICE, "port": 8001}], patience=0.2)
    never.set()
    assert (found["state"], found["port"]) == ("failing", 8001)
    assert "could not be told within 0.2 s" in found["detail"]


def test_one_service_that_cannot_be_read_does_not_take_the_others_along(
    host: ReleasedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = service_status

    def some(root: str, name: str, port: int, usage: Any, address: str) -> dict[str, Any]:
        if name == "broken":
            raise DeployError("systemctl show took longer than 90 s", "see systemctl status")
        return whole(root, name, port, usage, address)

    monkeypatch.setattr(status, "service_status", some)
    names = [{"name": "broken", "port": 1}, {"name": SERVICE, "port": host.port}]
    broken, good = host_status(host.root, names)
    assert broken["detail"] == "systemctl show took longer than 90 s. Fix: see systemctl status"
    assert (broken["state"], good["state"]) == ("failing", "serving")


def test_whatever_is_odd_about_one_service_the_others_are_told_of(
    host: ReleasedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = status.service_status

    def odd(root: str, service: str, *rest: Any) -> dict[str, Any]:
        if service == "odd":
            raise OverflowError("inf")
        return whole(root, service, *rest)

    monkeypatch.setattr(status, "service_status", odd)
    first, second = host_status(host.root, [{"name": "odd", "port": 1}, {"name": SERVICE, "port": host.port}])
    assert (first["state"], "OverflowError: inf" in first["detail"]) == ("failing", True)
    assert second["state"] == "serving"


def test_a_stranger_on_the_port_is_named(host: ReleasedHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status, "answers", lambda subject: False)
    monkeypatch.setattr(status, "foreign_listeners", lambda port, ours: "pid 7 of me: python")
    assert seen(host)["detail"].endswith(f"; port {host.port} is held by pid 7 of me: python")


def test_what_was_started_by_hand_gets_a_unit_when_it_is_replaced(
    host: ReleasedHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = seen(host)["pid"]
    monkeypatch.setattr(status, "read_marks", lambda folder: {"by": "hand", "pid": pid, "top_pid": pid})
    monkeypatch.setattr(status.drift, "process_drift", lambda *given: [1 / 0])
    found = seen(host)
    assert (found["unit"]["kind"], found["unit"]["healthy"], found["drift"]) == ("hand", True, [])


def test_memory_is_that_of_the_services_own_gpus() -> None:
    gpus = (gpu(0), gpu(6, GpuProcess(7, "", "", 50 * GIB), GpuProcess(8, "", "", 9 * GIB)), gpu(7))
    found = status._gpu_memory(("6", "GPU-7"), frozenset({7}), gpus)
    assert found == [
        {"gpu": "6", "uuid": "GPU-6", "total": 80 * GIB, "used": 70 * GIB, "service": 50 * GIB},
        {"gpu": "7", "uuid": "GPU-7", "total": 80 * GIB, "used": 70 * GIB, "service": 0},
    ]
    assert status._gpu_memory((), frozenset(), gpus) == []
    assert status._gpu_memory(("6",), frozenset(), None) is None
    assert status._gpu_memory(("6",), frozenset(), ()) is None


def test_gpus_are_read_once_for_all_services() -> None:
    calls = []

    def usage() -> tuple[Gpu, ...]:
        calls.append(1)
        return (gpu(0),)

    read = status._once(usage)
    assert read() == read() == (gpu(0),)
    assert calls == [1]


@pytest.mark.parametrize(
    ("shown", "healthy", "state"),
    [
        ("ActiveState=active\nSubState=running\nResult=success\nNRestarts=2", True, "active (running)"),
        ("ActiveState=failed\nSubState=failed\nResult=exit-code\nNRestarts=0", False, "failed (failed), exit-code"),
        ("ActiveState=deactivating\nSubState=stop-sigterm\nResult=success\n", False, "deactivating (stop-sigterm)"),
        ("", None, "systemd does not say"),
    ],
)
def test_a_unit_says_how_it_is(
    host: ReleasedHost, monkeypatch: pytest.MonkeyPatch, shown: str, healthy: bool | None, state: str
) -> None:
    monkeypatch.setattr(status, "systemctl", lambda *words: shown)
    host.stage("bbb", supervisor="systemd")
    release = status.load_release(host.folder.release("bbb")).release
    found, _ = status._unit(host.folder, release, status.RunState(None, frozenset()))
    assert (found["healthy"], found["state"], found["name"]) == (healthy, state, "inference-code2sql.service")


def test_what_is_found_out_beside_other_things_raises_where_it_is_asked_for() -> None:
    def fail() -> int:
        raise DeployError("no", "yes")

    asked = Asked(fail)
    with pytest.raises(DeployError):
        asked.answer(5)
    assert Asked(lambda: 3).answer(5) == 3


def test_where_metrics_are_read_is_told_for_a_service_that_was_deployed_and_for_one_that_was_not(
    host: ReleasedHost,
) -> None:
    served, absent = host_status(
        host.root, [{"name": SERVICE, "port": host.port}, {"name": "new", "port": 1}], address="gpu1"
    )
    assert served["metrics"]["target"] == "" and "enable_metrics: true" in served["metrics"]["problem"]
    assert absent["metrics"] == {"target": "", "problem": "nothing was deployed"}
