"""The program that starts a committed service where nothing else does, and what deployments make of that."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.cutover.outcome import COMMITTED
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors import supervisor_for
from ansible_collections.deployer.sglang.plugins.module_utils.supervisors.base import stop, wait_until
from tests.doubles.released_host import SERVICE, ReleasedHost


@pytest.fixture
def host(tmp_path: Path) -> Iterator[ReleasedHost]:
    """A host on which a release was committed, and has ended as in a power cut."""
    host = ReleasedHost(tmp_path)
    host.stage("one")
    assert host.bring("one").outcome == COMMITTED
    for pid in host.run.pids:
        os.kill(pid, signal.SIGKILL)
    assert wait_until(lambda: not host.run.running, 20)
    yield host
    stop(supervisor_for("process", SERVICE, host.folder), host.port, 5)


def start(host: ReleasedHost) -> None:
    """As cron does: another folder, hardly any environment variables."""
    program = os.path.join(host.folder.path, "start")
    subprocess.run([program], cwd="/", env={"PATH": os.defpath}, check=True, timeout=30)


def test_what_was_committed_serves_again_and_is_known_as_deployed(host: ReleasedHost) -> None:
    start(host)
    assert wait_until(lambda: host.state == "serving", 30)
    before = host.run
    start(host)
    assert host.run == before
    host.stage("two")
    assert host.bring("two").outcome == COMMITTED
    assert not host.run.pids & before.pids


def test_a_cut_over_that_is_under_way_is_left_to_start_it(host: ReleasedHost) -> None:
    with open(host.folder.lock, "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        start(host)
        assert not host.run.running


def test_its_log_goes_on_and_is_kept_bounded(host: ReleasedHost) -> None:
    start(host)
    assert wait_until(lambda: host.state == "serving", 30)
    log = Path(host.folder.logs, "service.log")
    assert log.read_text().count("The server is fired up") == 2
    assert log.stat().st_mode & 0o777 == 0o640
    rotation = os.path.join(host.folder.path, "log_rotation.py")
    listed = subprocess.run(["ps", "-ww", "-eo", "args="], capture_output=True, text=True, check=True).stdout
    assert f"{rotation} {log} {host.run.main_pid}" in listed
