"""A package server for the tests of what is fetched, and retries that do not wait."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from deployer.environments import http_client
from deployer.environments.sources import PackageSources
from tests.doubles.package_server import PackageServer

NO_SOURCES = PackageSources(public_index=False)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[PackageServer]:
    """A package server; this machine's proxy and netrc do not count."""
    monkeypatch.setattr(http_client, "FIRST_PAUSE_S", 0.0)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("NETRC", "/dev/null")
    double = PackageServer()
    yield double
    double.close()


@pytest.fixture
def client(server: PackageServer) -> Iterator[httpx.Client]:
    """The client that the deployer opens."""
    with http_client.open_client(NO_SOURCES, 8) as opened:
        yield opened
