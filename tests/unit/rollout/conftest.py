"""Fleets of this machine, with nothing left running after them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.doubles.local_fleet import LocalFleet, make_environment

MakeFleet = Callable[..., LocalFleet]


@pytest.fixture(scope="session")
def prefix(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in's environment."""
    return make_environment(tmp_path_factory.mktemp("environment") / "double")


@pytest.fixture
def make_fleet(tmp_path: Path, prefix: Path) -> Iterator[MakeFleet]:
    """Makes a fleet of hosts by their names."""
    fleets: list[LocalFleet] = []

    def make(*hosts: str, services: tuple[str, ...] = ()) -> LocalFleet:
        folder = tmp_path / f"fleet-{len(fleets)}"
        folder.mkdir()
        fleets.append(LocalFleet(folder, prefix, hosts, services))
        return fleets[-1]

    yield make
    for fleet in fleets:
        fleet.end()
