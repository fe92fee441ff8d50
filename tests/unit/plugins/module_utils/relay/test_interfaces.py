"""The name of an interface stands for its address."""

from __future__ import annotations

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.relay import interfaces
from ansible_collections.deployer.sglang.plugins.module_utils.relay.interfaces import address_of


def test_an_interface_is_its_address_and_all_else_stays() -> None:
    assert address_of("lo") == "127.0.0.1"
    for given in ("", "10.0.0.7", "fd00::7", "localhost"):
        assert address_of(given) == given


@pytest.mark.parametrize("given", ["none0", "../../etc", "a b"])
def test_what_is_neither_is_named_with_what_there_is(given: str) -> None:
    with pytest.raises(DeployError, match=r"no interface of this host, which has .*lo"):
        address_of(given)


def test_an_interface_without_an_address_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interfaces.os.path, "isdir", lambda path: True)
    with pytest.raises(DeployError, match="interface none0 has no IPv4 address"):
        address_of("none0")
