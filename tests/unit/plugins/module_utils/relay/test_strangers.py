"""Who is not of the run gets nothing, and keeps nobody from being served."""

from __future__ import annotations

import contextlib
import json
import os
import resource
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ansible_collections.deployer.sglang.plugins.module_utils.manifest import ManifestFile, identity
from ansible_collections.deployer.sglang.plugins.module_utils.relay import server as server_module
from ansible_collections.deployer.sglang.plugins.module_utils.relay import wire
from ansible_collections.deployer.sglang.plugins.module_utils.relay.credentials import client_context, server_context
from ansible_collections.deployer.sglang.plugins.module_utils.relay.files import WholeFile
from ansible_collections.deployer.sglang.plugins.module_utils.relay.rate import Throttle
from ansible_collections.deployer.sglang.plugins.module_utils.relay.server import RelayServer
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.credentials import new_certificate
from tests.doubles.relay_fleet import MB, Fleet, until

CONTENT = b"the weights" * 1000
TOKEN = "the run's token"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, credentials: tuple[str, str]) -> Iterator[RelayServer]:
    path = tmp_path_factory.mktemp("seed") / "f"
    path.write_bytes(CONTENT)
    files = {("d", "f"): WholeFile(ManifestFile("f", len(CONTENT), ""), str(path), identity(str(path)))}
    server = RelayServer("127.0.0.1", [0], server_context(*credentials), TOKEN, files, Throttle(0))
    server.start()
    yield server
    server.stop()


def ask(server: RelayServer, context: ssl.SSLContext, request: bytes) -> bytes:
    """All that a server answers to what somebody sends, until it closes or waits for more."""
    answer = b""
    with socket.create_connection(("127.0.0.1", server.port), 5) as plain, context.wrap_socket(plain) as secure:
        secure.sendall(request)
        secure.settimeout(0.3)
        with contextlib.suppress(OSError):
            while part := secure.recv(65536):
                answer += part
    return answer


def served(server: RelayServer, credentials: tuple[str, str]) -> bool:
    """True when a member of the run gets the file."""
    request = wire.request(TOKEN, wire.CONTENT, "d", "f")
    return ask(server, client_context(*credentials), request) == wire.frame(wire.DATA, CONTENT) + wire.frame(wire.END)


def insecure() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def test_a_member_is_served(server: RelayServer, credentials: tuple[str, str]) -> None:
    assert served(server, credentials)


def test_without_a_certificate(server: RelayServer) -> None:
    answer = b""
    with contextlib.suppress(OSError):  # refused in the handshake, or right after it
        answer = ask(server, insecure(), wire.request(TOKEN, wire.CONTENT, "d", "f"))
    assert answer == b""


def test_with_another_certificate_of_the_same_name(server: RelayServer) -> None:
    certificate, key = new_certificate()
    context = client_context(certificate, key)
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):  # which trusts this one no more than it is
        ask(server, context, b"")
    context.verify_mode = ssl.CERT_NONE
    answer = b""
    with contextlib.suppress(OSError):
        answer = ask(server, context, wire.request(TOKEN, wire.CONTENT, "d", "f"))
    assert answer == b""


def test_an_older_tls(server: RelayServer, credentials: tuple[str, str]) -> None:
    context = client_context(*credentials)
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(OSError):
        ask(server, context, b"")


@pytest.mark.parametrize("token", ["", "the run's toke", "the run's token ", "\ud800", None, 7, ["the run's token"]])
def test_with_another_token(server: RelayServer, credentials: tuple[str, str], token: object) -> None:
    request = wire.request(token, wire.CONTENT, "d", "f")  # type: ignore[arg-type]
    assert ask(server, client_context(*credentials), request) == b""


def test_the_token_is_asked_for_every_time(server: RelayServer, credentials: tuple[str, str]) -> None:
    with (
        socket.create_connection(("127.0.0.1", server.port), 5) as plain,
        client_context(*credentials).wrap_socket(plain) as secure,
    ):
        secure.sendall(wire.request(TOKEN, wire.ALIVE, "", ""))
        assert wire.read_header(secure) == (wire.END, 0)
        secure.sendall(wire.request("another", wire.CONTENT, "d", "f"))
        assert secure.recv(1) == b""


def test_without_tls(server: RelayServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), 5) as plain:
        plain.sendall(wire.request(TOKEN, wire.CONTENT, "d", "f"))
        answer = b""
        with contextlib.suppress(OSError):
            while part := plain.recv(65536):
                answer += part
    assert CONTENT[:11] not in answer
    assert len(answer) < 100  # a TLS alert


@pytest.mark.parametrize(
    ("path", "offset", "length"),
    [("g", 0, 0), ("../f", 0, 0), ("f", -1, 0), ("f", len(CONTENT) + 1, 0), ("f", 0, len(CONTENT) + 1), ("f", 1, -1)],
)
def test_what_is_not_served(
    server: RelayServer, credentials: tuple[str, str], path: str, offset: int, length: int
) -> None:
    answer = ask(server, client_context(*credentials), wire.request(TOKEN, wire.CONTENT, "d", path, offset, length))
    assert answer[0] == wire.FAILED
    assert b"the weights" not in answer


def test_strangers_who_hold_connections_do_not_lock_members_out(
    server: RelayServer, credentials: tuple[str, str]
) -> None:
    with contextlib.ExitStack() as held:
        for _ in range(server_module.MOST_STRANGERS + 50):
            held.enter_context(socket.create_connection(("127.0.0.1", server.port), 5))
        assert served(server, credentials)
        first = held.enter_context(socket.create_connection(("127.0.0.1", server.port), 5))
        for _ in range(server_module.MOST_STRANGERS):
            held.enter_context(socket.create_connection(("127.0.0.1", server.port), 5))
        first.settimeout(server_module.HANDSHAKE - 1)
        with contextlib.suppress(ConnectionError):
            assert first.recv(1) == b""  # who hesitated longest is sent away before its time is over
        assert served(server, credentials)


def test_who_hesitates_is_sent_away(
    server: RelayServer, credentials: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "HANDSHAKE", 0.3)
    monkeypatch.setattr(wire, "REQUEST_TIME", 0.3)
    with socket.create_connection(("127.0.0.1", server.port), 10) as plain:
        assert plain.recv(1) == b""
    with (
        socket.create_connection(("127.0.0.1", server.port), 10) as plain,
        client_context(*credentials).wrap_socket(plain) as secure,
        pytest.raises(OSError),
    ):
        while True:  # a byte at a time, each in time
            secure.sendall(b"{")
            secure.settimeout(0.05)
            with contextlib.suppress(socket.timeout):
                if not secure.recv(1):
                    raise ConnectionError
    assert served(server, credentials)


def test_members_wait_for_one_another_where_they_are_too_many(
    server: RelayServer, credentials: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MOST_READERS", 1)
    with (
        socket.create_connection(("127.0.0.1", server.port), 10) as plain,
        client_context(*credentials).wrap_socket(plain) as secure,
    ):
        secure.sendall(wire.request(TOKEN, wire.ALIVE, "", ""))
        assert wire.read_header(secure) == (wire.END, 0)
        assert ask(server, client_context(*credentials), wire.request(TOKEN, wire.ALIVE, "", "")) == b""
    until(lambda: served(server, credentials), "the place to become free")


def test_nothing_a_member_sends_ends_or_fills_the_server(server: RelayServer, credentials: tuple[str, str]) -> None:
    context = client_context(*credentials)

    @settings(max_examples=60, suppress_health_check=list(HealthCheck))
    @given(st.one_of(st.binary(max_size=300), odd_requests()))
    def send(content: bytes) -> None:
        with socket.create_connection(("127.0.0.1", server.port), 5) as plain, context.wrap_socket(plain) as secure:
            secure.sendall(content)

    send()
    for content in (b"[" * 16000 + b"\n", b"x" * 100_000, b"9" * 5000 + b"\n", b"\n", b"{}\n{}\n", b"null\n"):
        with contextlib.suppress(OSError):
            ask(server, context, content)
    assert served(server, credentials)
    until(lambda: not server._strangers and not server._readers, "connections to be let go")
    until(lambda: descriptors() <= 2, "descriptors to be closed")


def odd_requests() -> st.SearchStrategy[bytes]:
    """Requests of somebody who has the token and means no good."""
    odd = st.one_of(st.none(), st.integers(), st.text(max_size=20), st.lists(st.integers(), max_size=2), st.booleans())
    fields = {"token": st.just(TOKEN), **dict.fromkeys(("ask", "artifact", "path", "offset", "length"), odd)}
    return st.fixed_dictionaries({}, optional=fields).map(lambda value: json.dumps(value).encode() + b"\n")


def descriptors() -> int:
    """Sockets that this process has open, besides what listens."""
    found = 0
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found += os.readlink(f"/proc/self/fd/{name}").startswith("socket:")
    return found


def test_a_connection_that_breaks_before_it_is_accepted_ends_nothing(
    server: RelayServer, credentials: tuple[str, str]
) -> None:
    for _ in range(20):
        with socket.create_connection(("127.0.0.1", server.port), 5) as plain:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # RST
    assert served(server, credentials)


def test_running_out_of_descriptors_or_threads_ends_nothing(
    server: RelayServer, credentials: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:

        def no_thread(*_: object, **__: object) -> None:
            raise RuntimeError("can't start new thread")

        patched.setattr(threading.Thread, "start", no_thread)
        with socket.create_connection(("127.0.0.1", server.port), 5) as plain, contextlib.suppress(ConnectionError):
            assert plain.recv(1) == b""
    assert served(server, credentials)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    plain = socket.create_connection(("127.0.0.1", server.port), 5)
    with contextlib.closing(plain):
        until(lambda: server._strangers, "it to be accepted")
    with contextlib.closing(socket.socket()) as late:
        resource.setrlimit(resource.RLIMIT_NOFILE, (late.fileno() + 1, hard))
        try:
            late.connect(("127.0.0.1", server.port))  # accept() fails now, over and over
            late.settimeout(0.5)
            with contextlib.suppress(OSError):
                late.recv(1)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert served(server, credentials)


def test_a_fleet_goes_on_under_a_flood(fleet: Fleet) -> None:
    model = fleet.model(size=3 * MB)
    seed = fleet.seed(model, limits={"rate": 3 * MB})
    with contextlib.ExitStack() as held:
        for _ in range(server_module.MOST_STRANGERS + 10):
            held.enter_context(socket.create_connection((seed.peer.address, seed.peer.port), 5))
        host = fleet.host("h0", [model], [seed])
        for _ in range(server_module.MOST_STRANGERS + 10):
            held.enter_context(socket.create_connection((seed.peer.address, seed.peer.port), 5))
        host.until("landed")
        assert host.has(model)
