"""How a benchmark ends: with its own exit code, or with why it did not come to its end."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import NoReturn

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from tests.benchmarks.ending import concluded


@pytest.fixture(autouse=True)
def _signals_as_they_were() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in handlers.items():
        signal.signal(number, handler)


def raising(error: BaseException) -> NoReturn:
    raise error


def test_it_ends_with_its_own_exit_code() -> None:
    assert concluded("bench-it", lambda: 1) == 1


@pytest.mark.parametrize(("error", "code"), [(DeployError("no room", "make some"), 2), (KeyboardInterrupt(), 130)])
def test_why_it_did_not_come_to_its_end_is_said(
    error: BaseException, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert concluded("bench-it", lambda: raising(error)) == code
    said = capsys.readouterr().err
    assert said.startswith("bench-it: ")
    assert ("no room" in said) == (code == 2)
