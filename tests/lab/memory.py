"""Too little memory for a process of a lab host: the kernel ends it, not a signal of ours.

Lab hosts have no memory controller of their own where the machine's is one of control groups v1. A group is made on the
machine then, and the process is moved into it from outside.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.host import LabHost

V1 = Path("/sys/fs/cgroup/memory")
LIMIT = 64 * 2**20  # bytes
PATIENCE = 30  # seconds for the process to start, and to be ended


@contextmanager
def short_of_memory(host: LabHost, unit: str) -> Iterator[None]:
    """While the block runs, what `unit` of the host starts gets `LIMIT` bytes, or what `confine` names."""
    if not V1.is_dir():
        rules = f"/run/systemd/system/{unit}.d"
        host.ssh(
            f"sudo mkdir -p {rules} && printf '[Service]\\nMemoryMax={LIMIT}\\n' | sudo tee {rules}/memory.conf"
            " && sudo systemctl daemon-reload",
            check=True,
        )
        yield
        return
    group = V1 / f"{host.network.namespace}-short"
    group.mkdir()
    try:
        (group / "memory.limit_in_bytes").write_text(str(LIMIT))
        yield
    finally:
        _until(lambda: not (group / "cgroup.procs").read_text())
        group.rmdir()


def confine(host: LabHost, fault: str) -> None:
    """Put the double with that fault under the limit, once it is there."""
    if V1.is_dir():
        group = V1 / f"{host.network.namespace}-short"
        _until(lambda: any(_move(pid, group) for pid in doubles_of(host, fault)))


def doubles_of(host: LabHost, fault: str) -> list[int]:
    """The servers of a host that run with that fault, by this machine's own pids."""
    network = os.stat(f"/run/netns/{host.network.namespace}").st_ino
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if os.stat(entry / "ns" / "net").st_ino != network:
                continue
            words = (entry / "cmdline").read_bytes().split(b"\0")
            # Not the process that only reads the options before they are staged.
            if b"sglang.launch_server" in words and fault.encode() in words:
                found.append(int(entry.name))
    return found


def _move(pid: int, group: Path) -> bool:
    try:
        (group / "cgroup.procs").write_text(str(pid))
    except ProcessLookupError:
        return False
    return True


def _until(met: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not met():
        assert time.monotonic() < deadline
        time.sleep(0.05)
