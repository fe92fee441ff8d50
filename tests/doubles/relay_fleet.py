"""Hosts of a relay's run on one machine: real processes, each with an address of its own in 127.0.0.0/8."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import signal
import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.manifest import Manifest, build_manifest
from ansible_collections.deployer.sglang.plugins.module_utils.procfs import runs, start_time_of
from ansible_collections.deployer.sglang.plugins.module_utils.relay.background import Say, detached
from ansible_collections.deployer.sglang.plugins.module_utils.relay.job import run_relay
from ansible_collections.deployer.sglang.plugins.module_utils.relay.offers import offer_of
from ansible_collections.deployer.sglang.plugins.module_utils.relay.order import Limits, Peer, RelayOrder, Wanted
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import MODEL

PATIENCE = 60.0  # seconds after which a test gives up waiting
MB = 1024 * 1024


def until(true: Callable[[], Any], what: str) -> Any:
    """Wait for something to become true, and return it."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        value = true()
        if value:
            return value
        time.sleep(0.02)
    raise AssertionError(f"waited in vain for {what}")


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that no two blocks of are alike."""
    return random.Random(seed).randbytes(size)


def free_port(address: str) -> int:
    """A TCP port that nobody listens on."""
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        probe.bind((address, 0))
        return int(probe.getsockname()[1])


@dataclass(frozen=True)
class Model:
    """A model's folder at its source."""

    name: str
    folder: Path
    manifest: Manifest

    @property
    def size(self) -> int:
        return self.manifest.size


@dataclass
class Relay:
    """A relay's process."""

    peer: Peer
    pid: int
    start_time: int
    root: Path = field(default_factory=Path)

    @property
    def alive(self) -> bool:
        return runs(self.pid, self.start_time)

    def report(self) -> dict[str, Any]:
        """What it said of itself last."""
        value: dict[str, Any] = json.loads(Path(Store(str(self.root)).relay).read_text())
        return value

    def until(self, state: str) -> dict[str, Any]:
        """Wait until it is in a state, and return its report."""

        def ended() -> bool:
            return self.report()["state"] in (state, "landed", "failed")

        until(ended, f"{self.peer.name} to be {state}")
        report = self.report()
        assert report["state"] == state, report
        return report

    def until_received(self, count: int) -> dict[str, Any]:
        """Wait until it has received so many bytes."""
        until(lambda: self.report()["received"] >= count, f"{self.peer.name} to receive {count} bytes")
        return self.report()

    def send(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a power cut would."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
            os.kill(self.pid, signal.SIGCONT)
        until(lambda: not self.alive, "a killed process to end")

    def folder(self, model: Model) -> Path:
        """Where a model is when it has landed."""
        return Path(Store(str(self.root)).model(model.name, model.manifest.digest))

    def arriving(self, model: Model) -> Path:
        """Where it is before."""
        return Path(Store(str(self.root)).incoming(model.manifest.digest))

    def has(self, model: Model) -> bool:
        """True when every byte of a model is in its place, and nothing is left where it arrived."""
        folder = self.folder(model)
        return not self.arriving(model).exists() and all(
            hashlib.sha256((folder / one.path).read_bytes()).hexdigest() == one.sha256 for one in model.manifest.files
        )


class Fleet:
    """Starts relays of one run, and ends them.

    Args:
        base: a folder for all that they have.
        credentials: certificate and key, PEM.
    """

    def __init__(self, base: Path, credentials: tuple[str, str]) -> None:
        self.base = base
        self.token = "the run's token"
        self.credentials = credentials
        self.relays: list[Relay] = []
        self.limits = Limits(streams=2, start=3.0, patience=8.0, stall=5.0, window=0.5)
        self.start: Callable[[RelayOrder], dict[str, Any]] = fork

    def model(self, name: str = "model", files: dict[str, bytes] | None = None, size: int = 0) -> Model:
        """Make a model at its source: of `files`, or of one file of `size` bytes."""
        folder = self.base / "source" / name
        for path, content in (files or {"model.safetensors": noise(size)}).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        return Model(name, folder, build_manifest(str(folder)))

    def order(self, address: str, port: int, **more: Any) -> RelayOrder:
        certificate, key = self.credentials
        limits = replace(self.limits, **more.pop("limits", {}))
        return RelayOrder("run", address, (port,), self.token, certificate, key, limits=limits, **more)

    def seed(self, *models: Model, limits: dict[str, Any] | None = None, watch: bool = True) -> Relay:
        """Start what serves the models' folders."""
        offers = tuple(offer_of(str(one.folder), one.manifest, MODEL) for one in models)
        order = self.order(
            "127.0.0.1",
            free_port("127.0.0.1"),
            offers=offers,
            limits=limits or {},
            watch=(os.getpid(), start_time_of(os.getpid())) if watch else (0, 0),
        )
        return self._started("seed", order)

    def host(
        self,
        name: str,
        models: Sequence[Model],
        sources: Sequence[Relay | Peer],
        limits: dict[str, Any] | None = None,
        address: str = "",
        port: int = 0,
    ) -> Relay:
        """Start what receives models, the nearest source first."""
        peers = tuple(one.peer if isinstance(one, Relay) else one for one in sources)
        address = address or f"127.0.0.{len(self.relays) + 2}"
        order = self.order(
            address,
            port or free_port(address),
            root=str(self.base / name),
            wanted=tuple(Wanted(one.name, one.manifest, peers) for one in models),
            limits=limits or {},
        )
        return self._started(name, RelayOrder.from_dict(order.as_dict()))

    def close(self) -> None:
        for one in self.relays:
            one.kill()

    def _started(self, name: str, order: RelayOrder) -> Relay:
        answer = self.start(order)
        peer = Peer(name, str(answer["address"]), int(answer["port"]))
        relay = Relay(peer, int(answer["pid"]), int(answer["start_time"]), Path(order.root))
        self.relays.append(relay)
        return relay


def fork(order: RelayOrder) -> dict[str, Any]:
    """Run a relay as a module on a host does."""

    def work(say: Say) -> None:
        run_relay(order, say)

    return detached(work)
