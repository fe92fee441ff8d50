"""How a benchmark ends that has booted hosts: by a deadline or a signal, and in every case with everything removed."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError


@contextmanager
def deadline(minutes: int, fix: str) -> Iterator[None]:
    """Raise DeployError in the block when it takes longer; not while it is being cleaned up after."""

    def give_up(number: int, frame: FrameType | None) -> NoReturn:
        raise DeployError(f"The benchmark was not done after {minutes} minutes", fix)

    signal.signal(signal.SIGALRM, give_up)
    signal.alarm(minutes * 60)
    try:
        yield
    finally:
        signal.alarm(0)


def end_like_an_interrupted_run() -> None:
    """From now on, whatever asks this process to end is a Ctrl-C."""

    def terminate(number: int, frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, terminate)


def concluded(name: str, benchmark: Callable[[], int]) -> int:
    """Run a benchmark that boots hosts, and say on standard error why it did not come to its end.

    Args:
        name: of its `make` target.
        benchmark: measures, reports, and returns the exit code.
    Returns:
        Its exit code; 2 where something could not be measured, 130 after Ctrl-C.
    """
    end_like_an_interrupted_run()
    try:
        return benchmark()
    except (DeployError, AssertionError, subprocess.SubprocessError) as error:
        print(f"{name}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"{name}: interrupted; the hosts and what was sent are gone", file=sys.stderr)
        return 130
