"""Doing things again where that may help, and several at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import TypeVar

from ansible_collections.deployer.sglang.plugins.module_utils.weights.fetch_child.problems import Problem

Item = TypeVar("Item")
Result = TypeVar("Result")


ATTEMPTS = 5  # failures in a row, with nothing gained between them
FIRST_PAUSE_S = 0.5  # doubled with every failure
CONNECTIONS = 8


def patiently(work: Callable[[], Result], gained: Callable[[], int] = lambda: 0) -> Result:
    """Do `work`, again after failures that may pass, until it failed too often with nothing gained between.

    Args:
        work: raises Problem.
        gained: grows with what the attempts brought.
    """
    failures, most = 0, gained()
    while True:
        try:
            return work()
        except Problem as problem:
            now = gained()
            failures, most = (failures + 1, most) if now <= most else (1, now)
            if not problem.passing:
                raise
            if failures >= ATTEMPTS:
                raise Problem(problem.problem, problem.fix) from None
            time.sleep(FIRST_PAUSE_S * 2 ** (failures - 1))


def at_once(work: Callable[[Item], Result], items: Sequence[Item], threads: int = CONNECTIONS) -> list[Result]:
    """`work` for all items, several at once.

    The first failure ends it: what else runs is not waited for, as a connection may be silent for long.
    """
    pool = ThreadPoolExecutor(threads)
    started = [pool.submit(work, item) for item in items]
    done, _ = wait(started, return_when=FIRST_EXCEPTION)
    pool.shutdown(wait=False, cancel_futures=True)
    for one in done:
        one.result()
    return [one.result() for one in started]
