"""Doubles that several folders of tests share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.doubles.hub_models import running_hub
from tests.doubles.hub_server import HubServer


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the controller keeps between runs is the test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubServer]:
    """Both hubs and a web server, with nothing of the user's own settings for them."""
    with running_hub(tmp_path, monkeypatch) as server:
        yield server
