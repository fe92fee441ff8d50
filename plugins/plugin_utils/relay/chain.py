"""Who pulls from whom."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ansible_collections.deployer.sglang.plugins.module_utils.relay.order import Peer


@dataclass(frozen=True)
class Member:
    """A host that receives.

    Attributes:
        peer: its name in the inventory, and where it serves.
        missing: model's folder name by digest, for the models that it misses.
        rack: hosts of one rack stand beside each other in the chain; '' is a rack as well.
    """

    peer: Peer
    missing: Mapping[str, str]
    rack: str = ""


def chained(members: Sequence[Member], first_rack: str = "") -> list[Member]:
    """The hosts in the order in which they pull: rack by rack, the seed's first, in the inventory's order otherwise.

    Args:
        members: in the inventory's order.
        first_rack: where the seed stands.
    """
    racks = list(dict.fromkeys([first_rack, *(one.rack for one in members)]))
    return sorted(members, key=lambda one: racks.index(one.rack))


def sources_of(chain: Sequence[Member], name: str, digest: str, seed: Peer) -> tuple[Peer, ...]:
    """Where a host pulls a model from: whoever receives it too and stands before the host, the nearest first; the seed.

    Args:
        chain: as `chained` gives it.
        name: of the host.
        digest: of the model.
        seed: who has all of it.
    """
    before = []
    for one in chain:
        if one.peer.name == name:
            break
        if digest in one.missing:
            before.append(one.peer)
    return (*reversed(before), seed)
