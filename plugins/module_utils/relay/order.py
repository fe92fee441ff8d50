"""What one relay process is asked to do: data that the controller makes and a host reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import Manifest

PORT = 18515  # TCP; a seed takes the next free one of SEED_PORTS, as it may share its machine with a receiver
SEED_PORTS = range(PORT + 1, PORT + 17)


@dataclass(frozen=True)
class Peer:
    """Where a model can be pulled from: the name that messages have, and address and TCP port."""

    name: str
    address: str
    port: int


@dataclass(frozen=True)
class Limits:
    """How fast, and how patient. Rates in bytes a second, times in seconds.

    Attributes:
        streams: files that are pulled at the same time, each over a connection of its own; never more than processors.
            Two are quickest, at 1.1 GB/s on 16 processors: more of them wait for each other in one interpreter.
        rate: the most that a host receives, and the most that it sends; 0 for no limit.
        floor: a source that gives less is left for the next one up the chain.
        window: over how long a rate is judged.
        stall: silence after which a source counts as dead; a live one speaks every second.
        start: how long a source may take to begin to listen.
        patience: how long no source at all may give anything before the transfer is given up.
        linger: how long a relay goes on serving after its last reader has gone, when nobody ends it.
    """

    streams: int = 2
    rate: int = 0
    floor: int = 1_000_000
    window: float = 10.0
    stall: float = 10.0
    start: float = 30.0
    patience: float = 90.0
    linger: float = 120.0


@dataclass(frozen=True)
class Wanted:
    """One model that a host is to receive: its folder's name there, and where to pull from, the nearest first."""

    name: str
    manifest: Manifest
    sources: tuple[Peer, ...]


@dataclass(frozen=True)
class Offer:
    """One model in a folder that is only served: path in the model -> path to read, and the state it was hashed in."""

    manifest: Manifest
    files: Mapping[str, str]
    states: Mapping[str, str]


@dataclass(frozen=True)
class RelayOrder:
    """All that one relay process has to know.

    Attributes:
        run: names the run; one relay of a run lives on a host.
        listen: address to bind.
        ports: the first free one of these is bound.
        token, certificate, key: of this run (`credentials`).
        root: the deployment's root folder on a host that receives; '' for a seed, which has nothing but offers.
        wanted: models to receive.
        offers: models to serve from elsewhere.
        watch: process id and start time of the process with which a seed on the controller ends; none for a host.
        folder: of the run on the controller, with its secrets; removed when that seed ends.
    """

    run: str
    listen: str
    ports: tuple[int, ...]
    token: str
    certificate: str
    key: str
    root: str = ""
    wanted: tuple[Wanted, ...] = ()
    offers: tuple[Offer, ...] = ()
    limits: Limits = field(default_factory=Limits)
    watch: tuple[int, int] = (0, 0)
    folder: str = ""

    def as_dict(self) -> dict[str, Any]:
        """The order as JSON holds it."""
        value = asdict(self)
        for one, given in zip(value["wanted"], self.wanted):
            one["manifest"] = given.manifest.as_dict()
        for one, offer in zip(value["offers"], self.offers):
            one["manifest"] = offer.manifest.as_dict()
        return value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> RelayOrder:
        """The order that `as_dict` gave.

        Raises:
            DeployError: a field is missing or of another kind.
        """
        try:
            wanted = tuple(
                Wanted(
                    str(one["name"]),
                    Manifest.from_dict(one["manifest"]),
                    tuple(Peer(str(p["name"]), str(p["address"]), int(p["port"])) for p in one["sources"]),
                )
                for one in value.get("wanted", ())
            )
            offers = tuple(
                Offer(Manifest.from_dict(one["manifest"]), dict(one["files"]), dict(one["states"]))
                for one in value.get("offers", ())
            )
            texts = {name: str(value[name]) for name in ("run", "listen", "token", "certificate", "key")}
            watch = value.get("watch") or (0, 0)
            return cls(
                **texts,
                ports=tuple(int(port) for port in value["ports"]),
                root=str(value.get("root") or ""),
                wanted=wanted,
                offers=offers,
                limits=Limits(**value.get("limits", {})),
                watch=(int(watch[0]), int(watch[1])),
                folder=str(value.get("folder") or ""),
            )
        except (KeyError, TypeError, ValueError, IndexError) as error:
            raise DeployError(f"not a relay's order: {error!r}", "run the deployment again") from None
