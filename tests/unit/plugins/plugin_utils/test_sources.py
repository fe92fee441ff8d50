"""Paths on the controller."""

from __future__ import annotations

import pytest

from ansible_collections.deployer.sglang.plugins.plugin_utils.sources import controller_path


def test_a_relative_path_is_one_beside_the_inventory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    assert controller_path("environments/sglang", "/srv/inventory") == "/srv/inventory/environments/sglang"
    assert controller_path("../x", "/srv/inventory") == "/srv/x"
    assert controller_path("~/models", "/srv/inventory") == "/home/me/models"
    assert controller_path("/data", "/srv/inventory") == "/data"
