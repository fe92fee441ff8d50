"""Ctrl-C is counted, and said once in words by a thread of its own."""

from __future__ import annotations

import os
import select
import signal
import threading

from deployer.runs.interrupts import Interrupts


def test_ctrl_c_is_counted_and_the_old_handler_comes_back() -> None:
    before = signal.getsignal(signal.SIGINT)
    said: list[int] = []
    with Interrupts(said.append) as interrupts:
        assert not interrupts.requested
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.requested and not interrupts.at_once
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.at_once and not interrupts.no_more
        os.kill(os.getpid(), signal.SIGINT)
        assert interrupts.no_more
    assert signal.getsignal(signal.SIGINT) == before
    assert said == [1, 2]


def test_a_request_to_end_counts_as_two() -> None:
    said: list[int] = []
    with Interrupts(said.append) as interrupts:
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupts.at_once
        assert select.select([interrupts.descriptor], [], [], 0)[0]
    assert said == [2]


def test_what_is_said_may_wait_for_what_was_interrupted() -> None:
    lock = threading.Lock()

    def say(count: int) -> None:
        with lock:
            said.append(count)

    said: list[int] = []
    with Interrupts(say), lock:
        os.kill(os.getpid(), signal.SIGINT)
        assert said == []
    assert said == [1]


def test_outside_of_the_main_thread_nothing_is_counted() -> None:
    before = signal.getsignal(signal.SIGINT)
    seen: list[bool] = []

    def run() -> None:
        with Interrupts() as interrupts:
            seen.append(interrupts.requested or signal.getsignal(signal.SIGINT) != before)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen == [False]


def test_a_terminal_that_is_gone_counts_as_a_request_to_end_unless_that_is_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # whatever the tests themselves were started with
    try:
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            assert interrupts.at_once
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        with Interrupts() as interrupts:
            os.kill(os.getpid(), signal.SIGHUP)
            assert not interrupts.requested
    finally:
        signal.signal(signal.SIGHUP, before)
