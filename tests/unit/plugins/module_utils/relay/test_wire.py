"""Requests and frames: what is sent is read, and nothing else is taken for one."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.relay import wire


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, other = socket.socketpair()
    with one, other:
        other.settimeout(5)
        yield one, other


@given(st.text(), st.text(max_size=1000), st.integers(0), st.integers(0))
def test_a_request_is_read_as_it_was_sent(token: str, path: str, offset: int, length: int) -> None:
    one, other = socket.socketpair()
    with one, other:
        one.sendall(wire.request(token, wire.CONTENT, "d", path, offset, length))
        read = wire.read_request(other)
    assert read == {
        "token": token, "ask": "content", "artifact": "d", "path": path, "offset": offset, "length": length
    }  # fmt: skip


@given(st.binary(max_size=200), st.booleans())
def test_whatever_comes_is_a_request_or_refused(content: bytes, line: bool) -> None:
    one, other = socket.socketpair()
    with one, other:
        one.sendall(content + (b"\n" if line else b""))
        one.shutdown(socket.SHUT_WR)
        try:
            read = wire.read_request(other)
        except ValueError:
            return
    assert read is None or isinstance(read, dict)


@given(st.binary(max_size=200))
def test_whatever_comes_is_a_frame_or_refused(content: bytes) -> None:
    one, other = socket.socketpair()
    with one, other:
        one.sendall(content)
        one.shutdown(socket.SHUT_WR)
        try:
            kind, length = wire.read_header(other)
            assert 0 <= kind <= wire.END
            assert 0 <= length <= wire.FRAME
            assert len(wire.read_content(other, length)) == length
        except (ValueError, wire.Closed):
            return


def test_a_request_in_pieces(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    request = wire.request("t", wire.BLOCKS, "d", "p")
    one.sendall(request[:5])
    one.sendall(request[5:])
    assert (wire.read_request(other) or {})["ask"] == wire.BLOCKS


@pytest.mark.parametrize("content", [b"{" * 20000, b"[" * 16000 + b"\n", b"1" * 5000 + b"\n", b"{}\n{}\n", b"{"])
def test_what_is_no_request(ends: tuple[socket.socket, socket.socket], content: bytes) -> None:
    one, other = ends
    one.sendall(content)
    one.shutdown(socket.SHUT_WR)
    with pytest.raises(ValueError):
        wire.read_request(other)


def test_no_more_requests(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    one.close()
    assert wire.read_request(other) is None


def test_frames(ends: tuple[socket.socket, socket.socket]) -> None:
    one, other = ends
    one.sendall(wire.frame(wire.DATA, b"content") + wire.frame(wire.END))
    assert wire.read_header(other) == (wire.DATA, 7)
    assert wire.read_content(other, 7) == b"content"
    assert wire.read_header(other) == (wire.END, 0)
