"""An exchange with a server that does not keep to anything."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import httpx
import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.compare.exchange import exchange, parsed

URL = "http://gpu1:8001/v1/models"


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """That the test is over."""
    event = threading.Event()
    yield event
    event.set()


@pytest.mark.parametrize("begins", [True, False])
def test_an_answer_that_goes_on_and_on_is_given_up(over: threading.Event, begins: bool) -> None:
    def trickle() -> Iterator[bytes]:
        while not over.wait(0.01):
            yield b" "

    def answer(request: httpx.Request) -> httpx.Response:
        if not begins:
            over.wait()
        return httpx.Response(200, content=trickle())

    late = pytest.raises(DeployError, match=f"{URL} has not answered in full in 0.2 s")
    with httpx.Client(transport=httpx.MockTransport(answer)) as http, late:
        exchange(http, URL, 0.2)


def test_an_answer_without_end_is_given_up_before_it_fills_the_memory() -> None:
    endless = (b" " * 2**20 for _ in itertools.count())
    transport = httpx.MockTransport(lambda request: httpx.Response(200, content=endless))
    too_much = pytest.raises(DeployError, match=f"{URL} answers with more than 16 MiB")
    with httpx.Client(transport=transport) as http, too_much:
        exchange(http, URL, 600)


def test_what_is_posted_and_answered_arrives_whole() -> None:
    echo = httpx.MockTransport(lambda request: httpx.Response(201, content=request.method.encode() + request.content))
    with httpx.Client(transport=echo) as http:
        assert exchange(http, URL, 600, {"a": 1}).text == 'POST{"a":1}'
        assert (exchange(http, URL, 600).text, exchange(http, URL, 600).status_code) == ("GET", 201)


def test_json_is_parsed_to_what_can_be_written() -> None:
    assert parsed(rb'{"\ud800": ["a\udfffb", "\ud83d\ude00", 1, null]}') == {"?": ["a?b", "😀", 1, None]}


@pytest.mark.parametrize("content", [b"[" * 200_000, b"", b"<html>"])
def test_what_is_no_json_or_nested_too_deep_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"nested too deep|Expecting value"):
        parsed(content)
