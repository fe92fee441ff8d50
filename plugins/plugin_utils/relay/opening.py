"""Opens a run: its secrets, its chain, its seeds, and what every host of it is told."""

from __future__ import annotations

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
from ansible_collections.deployer.sglang.plugins.module_utils.procfs import read_process
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
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.seed import start_seed

CONTROLLER = "the controller"
PREFIX = "sglang-deployer-relay-"
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
    limits = checked_limits(limits)
    receiving = {host: result for host, result in results.items() if _missing(result)}
    members = [member(host, result, port) for host, result in receiving.items()]
    certificate, key = new_certificate()
    secret = {"run": secrets.token_hex(6), "token": new_token(), "certificate": certificate, "key": key}
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_memory()))
    try:
        (folder / "orders").mkdir()
        origins = {one["digest"]: one for result in receiving.values() for one in _missing(result)}
        manifests = {digest: recall_manifest(digest) for digest in origins}
        watch = _ansible()
        seeds = {}
        local = {digest: one for digest, one in origins.items() if not one["origin"]["host"]}
        if local:
            address = controller or controller_address(receiving)
            offers = tuple(_offer(manifests[digest], one) for digest, one in local.items())
            order = RelayOrder(
                **secret, listen=address, ports=tuple(SEED_PORTS), offers=offers, limits=limits, watch=watch
            )
            started = start_seed(order)
            _write(folder / "seed.json", started)
            seeds = {digest: Peer(CONTROLLER, address, int(started["port"])) for digest in local}
        hosts = {}
        for digest, one in origins.items():
            host = one["origin"]["host"]
            if host:
                seeds[digest] = Peer(f"the seed on {host}", one["origin"]["address"], PORT + 1)
                hosts.setdefault(host, []).append(digest)
        for host, digests in hosts.items():
            order = RelayOrder(**secret, listen=seeds[digests[0]].address, ports=(PORT + 1,), limits=limits)
            # What it offers, it finds out by itself: the folders are there.
            folders = [{"manifest": manifests[digest].as_dict(), **origins[digest]["origin"]} for digest in digests]
            _write(folder / "orders" / f"seed-{_file(host)}", {"order": order.as_dict(), "folders": folders})
        chain = chained(members)
        for one in chain:
            wanted = tuple(
                Wanted(name, manifests[digest], sources_of(chain, one.peer.name, digest, seeds[digest]))
                for digest, name in one.missing.items()
            )
            root = str(receiving[one.peer.name]["root"])
            order = RelayOrder(
                **secret, listen=one.peer.address, ports=(port,), root=root, wanted=wanted, limits=limits
            )
            _write(folder / "orders" / _file(one.peer.name), {"order": order.as_dict()})
    except BaseException:
        close_run(str(folder))
        raise
    return {"folder": str(folder), "hosts": [one.peer.name for one in chain], "seeds": sorted(hosts)}


def order_for(folder: str, host: str, seed: bool = False) -> dict[str, Any]:
    """What a host is told, as arguments of the module: `order`, and for a seed the `folders` that it offers.

    Raises:
        DeployError: the run is over.
    """
    value = read_json(str(Path(folder, "orders", ("seed-" if seed else "") + _file(host))))
    if not isinstance(value, dict):
        raise DeployError("the transfer was closed", "run again: it resumes")
    return value


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
    return [one for one in result.get("models", ()) if one.get("missing")]


def _offer(manifest: Manifest, model: Mapping[str, Any]) -> Offer:
    origin = model["origin"]
    return offer_of(origin["folder"], manifest, model_rules(origin["exclude"], origin["include"]))


def _memory() -> str | None:
    """A folder for secrets that is not on a disk; None where this controller has none."""
    return MEMORY if os.access(MEMORY, os.W_OK | os.X_OK) else None


def _ansible() -> tuple[int, int]:
    """The process that Ansible's workers are children of: the seed ends with it, however it ends."""
    process = read_process(os.getppid())
    return (process.pid, process.start_time) if process else (0, 0)


def _file(host: str) -> str:
    return f"{host.encode().hex()}.json"


def _write(path: Path, value: Any) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        json.dump(value, stream)
