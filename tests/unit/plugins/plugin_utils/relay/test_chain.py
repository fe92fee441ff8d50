"""Who pulls from whom."""

from __future__ import annotations

from ansible_collections.deployer.sglang.plugins.module_utils.relay.order import Peer
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.chain import Member, chained, sources_of

SEED = Peer("seed", "192.0.2.100", 1)


def member(name: str, rack: str = "", missing: tuple[str, ...] = ("d",)) -> Member:
    return Member(Peer(name, f"address of {name}", 1), dict.fromkeys(missing, "model"), rack)


def names(members: list[Member]) -> list[str]:
    return [one.peer.name for one in members]


def test_without_racks_the_inventorys_order_is_kept() -> None:
    assert names(chained([member("b"), member("a"), member("c")])) == ["b", "a", "c"]


def test_racks_stand_together_and_the_seeds_comes_first() -> None:
    members = [member("a1", "a"), member("b1", "b"), member("a2", "a"), member("c1", "c"), member("b2", "b")]
    assert names(chained(members)) == ["a1", "a2", "b1", "b2", "c1"]
    assert names(chained(members, first_rack="b")) == ["b1", "b2", "a1", "a2", "c1"]


def test_sources_are_those_before_a_host_the_nearest_first_and_the_seed() -> None:
    chain = [member("a"), member("b"), member("c")]
    assert [one.name for one in sources_of(chain, "c", "d", SEED)] == ["b", "a", "seed"]
    assert sources_of(chain, "a", "d", SEED) == (SEED,)


def test_who_does_not_receive_a_model_does_not_pass_it_on() -> None:
    chain = [member("a"), member("b", missing=("e",)), member("c", missing=("d", "e"))]
    assert [one.name for one in sources_of(chain, "c", "d", SEED)] == ["a", "seed"]
    assert [one.name for one in sources_of(chain, "c", "e", SEED)] == ["b", "seed"]
