"""A scenario's platforms become hosts, or a message that names the platform and the key."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.deployer.sglang.molecule.resources.module_utils.labhosts.platforms import (
    Platform,
    assign_addresses,
    explicit_number,
    parse_platforms,
)
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError


def test_a_name_is_enough() -> None:
    assert parse_platforms([{"name": "gpu1"}]) == (Platform("gpu1"),)


@pytest.mark.parametrize(
    ("described", "named"),
    [
        ([], "platforms"),
        ([{"groups": ["gpu-nodes"]}], r"platforms\[0\]\.name"),
        ([{"name": "GPU 1"}], r"platforms\[0\]\.name"),
        ([{"name": "gpu1"}, {"name": "gpu1"}], "platforms"),
        ([{"name": "gpu1", "group": "gpu-nodes"}], r"platforms\[0\] \(gpu1\): unknown key group"),
        ([{"name": "gpu1", "base": "buster"}], r"\(gpu1\)\.base"),
        ([{"name": "gpu1", "address": "10.97.1"}], r"\(gpu1\)\.address"),
        ([{"name": "gpu1", "address": "10.96.1.11"}], r"\(gpu1\)\.address"),
        ([{"name": "gpu1", "address": "10.97.1.1"}], r"\(gpu1\)\.address"),
        ([{"name": "gpu1", "binds": ["/srv/models:/tmp/models"]}], r"\(gpu1\)\.binds"),
        ([{"name": "gpu1", "binds": ["/srv/models:/opt/models:rw"]}], r"\(gpu1\)\.binds"),
        ([{"name": "gpu1", "binds": ["/srv/models:/optional"]}], r"\(gpu1\)\.binds"),
    ],
)
def test_a_mistake_is_named(described: list[dict[str, Any]], named: str) -> None:
    with pytest.raises(DeployError, match=named):
        parse_platforms(described)


def test_binds_may_be_read_only() -> None:
    binds = ("/srv/models:/opt/models:ro", "/srv/cache:/srv")
    assert parse_platforms([{"name": "gpu1", "binds": list(binds)}])[0].binds == binds


def test_addresses_are_the_lowest_that_nobody_asked_for() -> None:
    platforms = [Platform("a"), Platform("b", address="10.97.7.11"), Platform("c")]
    assert assign_addresses(platforms, 7) == {"a": "10.97.7.12", "b": "10.97.7.11", "c": "10.97.7.13"}


def test_an_address_is_given_once() -> None:
    with pytest.raises(DeployError, match="same address"):
        assign_addresses([Platform("a", address="10.97.7.11"), Platform("b", address="10.97.7.11")], 7)


def test_a_network_has_room_for_244_hosts() -> None:
    platforms = [Platform(f"gpu{number}") for number in range(244)]
    assert len(set(assign_addresses(platforms, 7).values())) == 244
    with pytest.raises(DeployError, match="too many"):
        assign_addresses([*platforms, Platform("more")], 7)


def test_explicit_addresses_decide_on_the_network() -> None:
    assert explicit_number([Platform("a"), Platform("b", address="10.97.7.11")]) == 7
    assert explicit_number([Platform("a")]) is None
    with pytest.raises(DeployError, match=r"10\.97\.N\.0/24"):
        explicit_number([Platform("a", address="10.97.8.11"), Platform("b", address="10.97.7.11")])
