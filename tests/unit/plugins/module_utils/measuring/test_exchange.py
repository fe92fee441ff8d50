"""An exchange with a server that does not keep to anything."""

from __future__ import annotations

import math
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.exchange import Client, parsed

HEAD = b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"
Serve = Callable[[Callable[[socket.socket, bytes], None]], str]


@pytest.fixture
def over() -> Iterator[threading.Event]:
    """That the test is over."""
    event = threading.Event()
    yield event
    event.set()


@pytest.fixture
def serve(over: threading.Event) -> Iterator[Serve]:
    """Serves a request by a function that is given the connection and what was sent; gives the URL."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        threads = []

        def start(answer: Callable[[socket.socket, bytes], None]) -> str:
            def run() -> None:
                with suppress(OSError):
                    while not over.is_set():
                        connection, _ = listening.accept()
                        with connection, suppress(OSError):
                            answer(connection, _request(connection))

            threads.append(threading.Thread(target=run, daemon=True))
            threads[-1].start()
            return f"http://127.0.0.1:{listening.getsockname()[1]}/v1/models"

        yield start
        over.set()
        listening.shutdown(socket.SHUT_RDWR)
        for thread in threads:
            thread.join()


def _request(connection: socket.socket) -> bytes:
    text = b""
    while b"\r\n\r\n" not in text:
        text += connection.recv(65536)
    length = next((int(line.split()[1]) for line in text.split(b"\r\n") if line.startswith(b"Content-Length:")), 0)
    while len(text.partition(b"\r\n\r\n")[2]) < length:
        text += connection.recv(65536)
    return text


@pytest.mark.parametrize("begins", [True, False])
def test_an_answer_that_goes_on_and_on_is_given_up(serve: Serve, over: threading.Event, begins: bool) -> None:
    def trickle(connection: socket.socket, asked: bytes) -> None:
        if begins:
            connection.sendall(HEAD)
            while not over.wait(0.01):
                connection.sendall(b" ")
        over.wait()

    url = serve(trickle)
    with pytest.raises(DeployError, match=f"{url} has not answered in full in 0.2 s"):
        Client().exchange(url, 0.2)


def test_an_answer_without_end_is_given_up_before_it_fills_the_memory(serve: Serve) -> None:
    def endless(connection: socket.socket, asked: bytes) -> None:
        connection.sendall(HEAD)
        while True:
            connection.sendall(b" " * 2**20)

    url = serve(endless)
    with pytest.raises(DeployError, match=f"{url} answers with more than 16 MiB"):
        Client().exchange(url, 600)


def test_what_is_posted_and_answered_arrives_whole_and_no_proxy_sees_it(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    url = serve(lambda connection, asked: connection.sendall(HEAD.replace(b"200", b"201") + asked))
    posted = Client("k1").exchange(url, 600, {"a": 1})
    assert posted.status == 201 and posted.text.startswith("POST /v1/models HTTP/1.1")
    assert posted.text.endswith('{"a":1}') and "Authorization: Bearer k1" in posted.text
    assert "k1" not in repr(Client("k1"))
    got = Client().exchange(url, 600)
    assert got.text.startswith("GET /v1/models") and "Authorization" not in got.text


def test_a_redirection_is_an_answer_and_no_key_follows_it(serve: Serve) -> None:
    away = HEAD.replace(b"200 OK", b"302 Found\r\nLocation: http://127.0.0.1:9/")
    assert Client("k1").exchange(serve(lambda connection, asked: connection.sendall(away)), 600).status == 302


@pytest.mark.parametrize("said", [b"", b"no HTTP\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort"])
def test_a_server_that_breaks_off_or_speaks_no_http_is_named(serve: Serve, said: bytes) -> None:
    url = serve(lambda connection, asked: connection.sendall(said))
    with pytest.raises(DeployError, match=f"{url} does not answer: ."):
        Client().exchange(url, 600)


def test_json_is_parsed_to_what_can_be_written() -> None:
    assert parsed(rb'{"\ud800": ["a\udfffb", "\ud83d\ude00", 1, null]}') == {"?": ["a?b", "😀", 1, None]}
    assert parsed(b"[1, " + b"9" * 100_000 + b"]") == [1, math.inf]


@pytest.mark.parametrize("content", [b"[" * 200_000, b"", b"<html>"])
def test_what_is_no_json_or_nested_too_deep_is_refused(content: bytes) -> None:
    with pytest.raises(ValueError, match=r"nested too deep|Expecting value"):
        parsed(content)
