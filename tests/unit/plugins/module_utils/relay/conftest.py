"""What tests of the relay share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.relay import job, puller, receiver, wire
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.credentials import new_certificate
from tests.doubles.relay_fleet import Fleet, Relay
from tests.doubles.tcp_proxy import Proxy


@pytest.fixture(scope="session")
def credentials() -> tuple[str, str]:
    """The run's certificate and key."""
    return new_certificate()


@pytest.fixture(autouse=True)
def lively(monkeypatch: pytest.MonkeyPatch) -> None:
    """Relays, which are forked, speak and look around more often than in earnest."""
    monkeypatch.setattr(wire, "HEARTBEAT", 0.1)
    monkeypatch.setattr(receiver, "REPORT_EVERY", 0.05)
    monkeypatch.setattr(job, "LOOK_EVERY", 0.05)
    monkeypatch.setattr(puller, "RETRY", 0.05)


@pytest.fixture
def fleet(tmp_path: Path, credentials: tuple[str, str]) -> Iterator[Fleet]:
    """Hosts of one run."""
    fleet = Fleet(tmp_path, credentials)
    yield fleet
    fleet.close()


@pytest.fixture
def link() -> Iterator[Callable[..., Proxy]]:
    """A proxy before a relay; arguments as `Proxy`."""
    made: list[Proxy] = []

    def make(relay: Relay, **how: Any) -> Proxy:
        made.append(Proxy(relay.peer.address, relay.peer.port, **how))
        return made[-1]

    yield make
    for one in made:
        one.close()
