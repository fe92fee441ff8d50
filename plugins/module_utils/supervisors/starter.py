"""Starts what is committed of a service where nothing else does so: from cron's @reboot, or a container's entry point.

A program of its own, in the service's folder as `start`: it needs nothing of this package, and neither Ansible nor the
controller. What it starts is what a deployment would have started, and deployments know it as theirs.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import sys

LOCK = "lock"  # of a cut-over, which starts the service itself
PID_FILE = "pid.json"
LOG = "logs/service.log"
ROTATION = "log_rotation.py"


def main() -> int:
    """Start it, unless it runs or a cut-over is under way; the exit code."""
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    with open(LOCK, "a", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return 0
        boot = _read("/proc/sys/kernel/random/boot_id").strip()
        if not _runs(boot):
            _start(boot)
    return 0


def _start(boot: str) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
    log = os.open(LOG, flags, 0o640)
    launch = os.path.join(os.getcwd(), "current", "launch.sh")
    release = os.path.basename(os.path.realpath("current"))
    service = subprocess.Popen([launch], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
    started = _start_time(service.pid)
    record = {"boot_id": boot, "pid": service.pid, "release": release, "start_time": started}
    partial = PID_FILE + ".part"
    with open(partial, "w", encoding="utf-8") as stream:
        json.dump(record, stream)
    os.replace(partial, PID_FILE)
    with contextlib.suppress(OSError):  # without it the log grows, and the service is none the worse
        subprocess.Popen(
            [
                sys.executable,
                "-I",
                "-S",
                os.path.abspath(ROTATION),
                os.path.abspath(LOG),
                str(service.pid),
                str(started),
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env={},
            start_new_session=True,
        )
    # Not waited for: both outlive this program.
    service.returncode = 0


def _runs(boot: str) -> bool:
    try:
        known = json.loads(_read(PID_FILE))
        return bool(known["boot_id"] == boot and _start_time(known["pid"]) == known["start_time"])
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _start_time(pid: int) -> int:
    """In clock ticks since boot; 0 where it has ended."""
    try:
        fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if fields[0] in "ZX" else int(fields[19])


def _read(path: str) -> str:
    with open(path, encoding="utf-8") as stream:
        return stream.read()


if __name__ == "__main__":
    sys.exit(main())
