"""Processes that go on after the module, or the command, that started them has ended."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.procfs import boot_id, runs, start_time_of

Say = Callable[[dict[str, Any]], None]
STOP_TIME = 10.0  # seconds from SIGTERM to SIGKILL


def detached(work: Callable[[Say], None]) -> dict[str, Any]:
    """Run `work` in a process of its own, in a session of its own, and return what it says first.

    Args:
        work: gets a function that takes what the caller is to hear; what it raises before that, the caller raises.
    Returns:
        What was said, with the `pid` and `start_time` of the process.
    Raises:
        DeployError: of `work`.
    """
    reader, writer = os.pipe()
    middle = os.fork()
    if middle == 0:
        _become_detached(work, reader, writer)
    os.close(writer)
    with os.fdopen(reader, encoding="utf-8") as stream:
        text = stream.read()
    os.waitpid(middle, 0)
    answer: dict[str, Any] = json.loads(text) if text else {"problem": "the relay ended at once", "fix": "run again"}
    if "problem" in answer:
        raise DeployError(answer["problem"], answer.get("fix", ""), answer.get("detail", ""))
    return answer


def this_process() -> dict[str, Any]:
    """What tells this process from every other, for `end` and for who reads it after another boot."""
    return {"pid": os.getpid(), "start_time": start_time_of(os.getpid()), "boot": boot_id()}


def end(pid: int, start_time: int) -> bool:
    """End a process that `detached` started: by SIGTERM, and by SIGKILL where that does not help.

    Args:
        pid: its id.
        start_time: its start, by which another process with the same id is told apart.
    Returns:
        True when there was one to end.
    """
    if pid <= 1 or not runs(pid, start_time):
        return False
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not runs(pid, start_time):  # its id may be another's by now
            break
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return True
        deadline = time.monotonic() + STOP_TIME
        while runs(pid, start_time) and time.monotonic() < deadline:
            time.sleep(0.05)
    return True


def _become_detached(work: Callable[[Say], None], reader: int, writer: int) -> None:
    """The child's part; does not return."""
    status = 1
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        nothing = os.open(os.devnull, os.O_RDWR)
        for descriptor in (0, 1, 2):
            os.dup2(nothing, descriptor)
        # Whoever started this waits for the end of what it inherited, a connection of sudo or of ssh among it.
        for name in os.listdir("/proc/self/fd"):
            if int(name) > 2 and int(name) != writer:
                _close(int(name))
        os.chdir("/")
        os.umask(0o022)
        _work(work, writer)
        status = 0
    except BaseException:  # os._exit follows: nothing of the starter's may run here again
        status = 1
    finally:
        os._exit(status)


def _work(work: Callable[[Say], None], writer: int) -> None:
    heard = False

    def say(value: dict[str, Any]) -> None:
        nonlocal heard
        if not heard:
            heard = True
            os.write(writer, json.dumps({**this_process(), **value}).encode())
            os.close(writer)

    try:
        work(say)
    except DeployError as error:
        say({"problem": error.problem, "fix": error.fix, "detail": error.detail})
    except OSError as error:
        say({"problem": str(error), "fix": "see the disk and the network of this machine"})
    except BaseException:
        say({"problem": f"the relay failed: {sys.exc_info()[1]!r}", "fix": "run again; report it when it comes again"})
        raise


def _close(descriptor: int) -> None:
    try:
        os.close(descriptor)
    except OSError:  # the one that listed the folder
        return
