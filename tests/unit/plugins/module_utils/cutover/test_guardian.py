"""The guardian and its child are real processes."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.cutover.guardian import guarded
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError


def never(how: str) -> dict[str, Any]:
    raise AssertionError(how)


def mended(how: str) -> dict[str, Any]:
    return {"mended": how}


def test_what_the_child_returns_is_returned() -> None:
    large = {"log": "x" * 1_000_000, "pid": 0}
    answer = guarded(lambda: {**large, "pid": os.getpid()}, never)
    assert answer["log"] == large["log"]
    assert answer["pid"] != os.getpid()


def test_what_the_child_refuses_is_refused() -> None:
    def refuse() -> dict[str, Any]:
        raise DeployError("the port is taken", "end that process", "by pid 7")

    with pytest.raises(DeployError) as caught:
        guarded(refuse, never)
    assert (caught.value.problem, caught.value.fix, caught.value.detail) == (
        "the port is taken",
        "end that process",
        "by pid 7",
    )


def test_a_full_disk_is_said_with_what_to_do() -> None:
    def full() -> dict[str, Any]:
        raise OSError(28, "No space left on device", "/opt/inference/x")

    with pytest.raises(DeployError, match=r"No space left on device: '/opt/inference/x'. Fix: see the disk"):
        guarded(full, never)


def test_a_child_that_is_killed_is_mended() -> None:
    def killed() -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGKILL)
        return {}

    assert guarded(killed, mended) == {"mended": "its process was killed by signal 9"}


def test_a_child_that_breaks_down_is_mended() -> None:
    def broken() -> dict[str, Any]:
        raise ZeroDivisionError

    assert guarded(broken, mended) == {"mended": "its process ended with 0 and without an answer"}


def test_the_child_goes_on_when_the_guardian_is_killed_with_its_group(tmp_path: Path) -> None:
    done = tmp_path / "done"
    guardian = os.fork()
    if guardian == 0:
        os.setsid()

        def work() -> dict[str, Any]:
            (tmp_path / "began").touch()
            while not (tmp_path / "killed").exists():
                time.sleep(0.01)
            done.touch()
            return {}

        guarded(work, never)
        os._exit(0)
    wait_for(tmp_path / "began")
    os.killpg(guardian, signal.SIGKILL)
    os.waitpid(guardian, 0)
    (tmp_path / "killed").touch()
    wait_for(done)


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.01)
