"""Opens a run: its secrets, its chain, its seeds, and what every host of it is told."""

from __future__ import annotations

import ipaddress
import json
import os
import secrets
import shutil
import socket
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import read_json
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import Manifest
from ansible_collections.deployer.sglang.plugins.module_utils.procfs import runs, start_time_of
from ansible_collections.deployer.sglang.plugins.module_utils.relay import background
from ansible_collections.deployer.sglang.plugins.module_utils.relay.offers import offer_of
from ansible_collections.deployer.sglang.plugins.module_utils.relay.order import (
    PORT,
    SEED_PORTS,
    Limits,
    Offer,
    Peer,
    RelayOrder,
    Wanted,
)
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import model_rules
from ansible_collections.deployer.sglang.plugins.plugin_utils.manifests import recall_manifest
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.chain import Member, chained, sources_of
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.credentials import new_certificate, new_token
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.progress import host_file
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.seed import start_seed

CONTROLLER = "the controller"
PREFIX = "sglang-deployer-relay-"
OWNER = "owner.json"  # the process that a run ends with
SEED = "the seed on "  # before the name of a host
MEMORY = "/dev/shm"


def open_run(
    results: Mapping[str, Mapping[str, Any]], limits: Mapping[str, Any], controller: str, port: int
) -> dict[str, Any]:
    """Prepare the transfer of what hosts miss, and start the seed on the controller where one is needed.

    Args:
        results: of the module `model` by host, in the inventory's order.
        limits: fields of `Limits`.
        controller: the address that hosts reach this controller at; '' for the one that they are reached from.
        port: that every host serves on.
    Returns:
        `folder` of the run, which holds its secrets; `hosts` that receive, in the chain's order; `seeds`, the hosts on
        which a seed has to be started.
    Raises:
        DeployError: a setting is wrong, or the seed cannot listen.
    """
    receiving = {host: result for host, result in results.items() if _missing(result)}
    members = [member(host, result, port) for host, result in receiving.items()]
    refuse_ambiguous(members)
    run = _Run(checked_limits(limits), port)
    try:
        missing = {one["digest"]: one for result in receiving.values() for one in _missing(result)}
        here = {digest: one for digest, one in missing.items() if not one["origin"]["host"]}
        if here:
            run.seed_here(here, controller or controller_address(receiving))
        run.seed_on_hosts({digest: one for digest, one in missing.items() if digest not in here})
        chain = chained(members)
        for one in chain:
            run.tell(one, chain, str(receiving[one.peer.name]["root"]))
    except BaseException:
        close_run(str(run.folder))
        raise
    return {
        "folder": str(run.folder),
        "id": run.id,
        "hosts": [one.peer.name for one in chain],
        "seeds": run.seeding_hosts,
    }


class _Run:
    """A run that is being opened: its folder, its secrets, and who has which model.

    Args:
        limits: of the transfer.
        port: that every host serves on.
    """

    def __init__(self, limits: Limits, port: int) -> None:
        sweep()
        self.folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_memory()))
        (self.folder / "orders").mkdir()
        self._watch = _ansible()
        _write(self.folder / OWNER, list(self._watch))
        self.seeding_hosts: list[str] = []
        self._limits = limits
        self._port = port
        self._seeds: dict[str, Peer] = {}
        certificate, key = new_certificate()
        self.id = secrets.token_hex(6)
        self._secret = {"run": self.id, "token": new_token(), "certificate": certificate, "key": key}

    def seed_here(self, models: Mapping[str, Mapping[str, Any]], address: str) -> None:
        """Start to serve the controller's folders, by digest."""
        offers = tuple(_offer(recall_manifest(digest), one) for digest, one in models.items())
        started = start_seed(
            self._order(address, tuple(SEED_PORTS), offers=offers, watch=self._watch, folder=str(self.folder))
        )
        _write(self.folder / "seed.json", started)
        self._seeds.update(dict.fromkeys(models, Peer(CONTROLLER, address, int(started["port"]))))

    def seed_on_hosts(self, models: Mapping[str, Mapping[str, Any]]) -> None:
        """Write down what hosts are to serve; what is in their folders, they find out by themselves."""
        for digest, one in models.items():
            self._seeds[digest] = Peer(f"{SEED}{one['origin']['host']}", one["origin"]["address"], PORT + 1)
        self.seeding_hosts = sorted({one["origin"]["host"] for one in models.values()})
        for host in self.seeding_hosts:
            served = {digest: one["origin"] for digest, one in models.items() if one["origin"]["host"] == host}
            folders = [{"manifest": recall_manifest(digest).as_dict(), **origin} for digest, origin in served.items()]
            order = self._order(self._seeds[next(iter(served))].address, tuple(SEED_PORTS))
            _write(self.folder / "orders" / f"seed-{host_file(host)}", {"order": order.as_dict(), "folders": folders})

    def tell(self, one: Member, chain: Sequence[Member], root: str) -> None:
        """Write down what a host receives, and from whom."""
        wanted = tuple(
            Wanted(name, recall_manifest(digest), sources_of(chain, one.peer.name, digest, self._seeds[digest]))
            for digest, name in one.missing.items()
        )
        order = self._order(one.peer.address, (self._port,), root=root, wanted=wanted)
        _write(self.folder / "orders" / host_file(one.peer.name), {"order": order.as_dict()})

    def _order(self, address: str, ports: tuple[int, ...], **more: Any) -> RelayOrder:
        return RelayOrder(**self._secret, listen=address, ports=ports, limits=self._limits, **more)


def sweep() -> None:
    """Forget runs whose Ansible has ended without closing them."""
    for folder in Path(_memory() or tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            pid, start_time = json.loads((folder / OWNER).read_text(encoding="utf-8"))
            if not runs(int(pid), int(start_time)):
                close_run(str(folder))
        except (OSError, ValueError, TypeError):  # another user's, or just being made
            continue


def order_for(folder: str, host: str, seed: bool = False) -> dict[str, Any]:
    """What a host is told, as arguments of the module: `order`, and for a seed the `folders` that it offers.

    Raises:
        DeployError: the run is over.
    """
    value = read_json(str(Path(folder, "orders", ("seed-" if seed else "") + host_file(host))))
    if not isinstance(value, dict):
        raise DeployError("the transfer was closed", "run again: it resumes")
    for wanted in value["order"]["wanted"]:
        for source in wanted["sources"]:
            if source["name"].startswith(SEED):
                port = read_json(str(Path(folder, "ports", host_file(source["name"].removeprefix(SEED)))))
                source["port"] = port or source["port"]
    return value


def remember_port(folder: str, host: str, port: int) -> None:
    """Keep the port that a seed on a host has taken."""
    Path(folder, "ports").mkdir(exist_ok=True)
    _write(Path(folder, "ports", host_file(host)), port)


def close_run(folder: str) -> None:
    """End the seed on the controller, and forget the run's secrets; a run that is over is no error."""
    if not os.path.basename(folder).startswith(PREFIX):
        return
    seed = read_json(os.path.join(folder, "seed.json"))
    if isinstance(seed, dict):
        background.end(int(seed["pid"]), int(seed["start_time"]))
    shutil.rmtree(folder, ignore_errors=True)


def checked_limits(given: Mapping[str, Any]) -> Limits:
    """The settings of a transfer.

    Raises:
        DeployError: naming the variable.
    """
    values: dict[str, Any] = {}
    for name, low, high in (("streams", 1, 64), ("rate", 0, 10**12), ("floor", 0, 10**12), ("patience", 1, 86400)):
        if given.get(name) is None:
            continue
        try:
            number = int(given[name])
        except (TypeError, ValueError):
            number = -1
        if not low <= number <= high:
            raise DeployError(f"model_relay_{name} is {given[name]!r}", f"give a whole number from {low} to {high}")
        values[name] = number
    return Limits(**values)


def member(host: str, result: Mapping[str, Any], port: int) -> Member:
    """A host as a part of the chain; arguments as `open_run`."""
    relay = result["relay"]
    missing = {one["digest"]: one["name"] for one in _missing(result)}
    return Member(Peer(host, str(relay["address"]), port), missing, str(relay.get("rack") or ""))


def refuse_ambiguous(members: Sequence[Member]) -> None:
    """Refuse addresses at which a host would meet itself, or another than it means.

    Raises:
        DeployError: naming host and setting.
    """
    seen: dict[tuple[str, int], str] = {}
    for one in members:
        peer = one.peer
        try:
            everywhere = ipaddress.ip_address(peer.address).is_unspecified
        except ValueError:  # a name
            everywhere = not peer.address
        if everywhere:
            raise DeployError(
                f"{peer.name}: {peer.address or 'no address'} is not one at which other hosts reach it",
                "set model_relay_address of the host to its address, or to the name of its interface",
            )
        other = seen.setdefault((peer.address, peer.port), peer.name)
        if other != peer.name:
            raise DeployError(
                f"{other} and {peer.name} would both serve at {peer.address} port {peer.port}",
                "set model_relay_address of each host to an address of its own",
            )


def controller_address(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The address that the hosts are reached from, which they can reach in turn where nothing translates addresses.

    Raises:
        DeployError: it is not one of this machine's, or hosts see different ones.
    """
    seen: Sequence[str] = list(dict.fromkeys(str(result["relay"]["controller"]) for result in results.values()))
    fix = (
        "set model_relay_controller_address to the address at which hosts reach this controller, "
        "or model_transport: rsync, which needs SSH alone"
    )
    if len(seen) > 1:
        raise DeployError(f"hosts see this controller at several addresses: {', '.join(seen)}", fix)
    try:
        family = socket.getaddrinfo(seen[0], 0, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((seen[0], 0))
    except OSError:
        raise DeployError(
            f"hosts see this controller at {seen[0]}, which is not an address of its own (a jump host, or NAT)", fix
        ) from None
    return seen[0]


def _missing(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [one for one in result.get("models", ()) if one.get("missing")] if result.get("relay") else []


def _offer(manifest: Manifest, model: Mapping[str, Any]) -> Offer:
    origin = model["origin"]
    return offer_of(origin["folder"], manifest, model_rules(origin["exclude"], origin["include"]))


def _memory() -> str | None:
    """A folder for secrets that is not on a disk; None where this controller has none."""
    return MEMORY if os.access(MEMORY, os.W_OK | os.X_OK) else None


def _ansible() -> tuple[int, int]:
    """The process that Ansible's workers are children of: the seed ends with it, however it ends."""
    return os.getppid(), start_time_of(os.getppid())


def _write(path: Path, value: Any) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(value, stream)
