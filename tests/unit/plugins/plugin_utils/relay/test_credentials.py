"""A run's certificate and token."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.relay.credentials import (
    client_context,
    same_token,
    server_context,
)
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay import credentials
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.credentials import new_certificate, new_token


def shake_hands(server: tuple[str, str], client: tuple[str, str]) -> str | None:
    """The version of TLS that two who have these certificates agree on."""
    one, other = socket.socketpair()
    problems = []

    def serve() -> None:
        try:
            with server_context(*server).wrap_socket(one, server_side=True) as secure:
                secure.sendall(b"!")
        except OSError as error:
            problems.append(error)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        other.settimeout(5)
        with client_context(*client).wrap_socket(other) as secure:
            assert secure.recv(1) == b"!"
            return secure.version()
    finally:
        other.close()
        thread.join()
        one.close()


def test_members_of_a_run_speak_tls_1_3() -> None:
    run = new_certificate()
    assert shake_hands(run, run) == "TLSv1.3"


def test_runs_do_not_mix() -> None:
    with pytest.raises(OSError):
        shake_hands(new_certificate(), new_certificate())


@pytest.mark.parametrize("days", [-4000, 4000])
def test_a_host_with_a_wrong_clock_takes_part(monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    monkeypatch.setattr(credentials, "CLOCKS_DIFFER", datetime.timedelta(days=days))
    monkeypatch.setattr(credentials, "LIFETIME", datetime.timedelta(days=7 - days))
    run = new_certificate()
    assert shake_hands(run, run) == "TLSv1.3"


def test_a_key_of_another_run_is_refused() -> None:
    certificate, _ = new_certificate()
    with pytest.raises(ssl.SSLError, match="KEY_VALUES_MISMATCH"):
        server_context(certificate, new_certificate()[1])


def test_tokens() -> None:
    token = new_token()
    assert token != new_token()
    assert len(token) >= 40
    assert same_token(token, token)
    for other in ("", token[:-1], token + "x", None, 1, "\ud800", [token]):
        assert not same_token(other, token)
