"""Measures what serves a service's port, on the host that it runs on."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils import probes, procfs
from ansible_collections.deployer.sglang.plugins.module_utils.cutover.targets import committed, releases
from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.measuring import asking, load_child
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.environment import Environment
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.exchange import Client
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.load import check, put_under_load
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import (
    LoadSettings,
    Measurement,
    Server,
    now,
    plain,
)
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.prompts import Prompts
from ansible_collections.deployer.sglang.plugins.module_utils.release import RELEASE_FILE, Release, load_release
from ansible_collections.deployer.sglang.plugins.module_utils.store import ServiceFolder, Store

SGLANG = "sglang"


@dataclass(frozen=True)
class Order:
    """What is to be measured.

    Args:
        prompts: that are asked.
        max_tokens: that each answer may have.
        ask: ask for answers; False for a load alone.
        load: the load; None for none.
        key: that servers want; '' for none.
        patience: seconds for one answer.
    """

    prompts: Prompts
    max_tokens: int
    ask: bool = True
    load: LoadSettings | None = None
    key: str = field(default="", repr=False)
    patience: float = asking.PATIENCE


def measure_services(
    root: str, services: Sequence[Mapping[str, Any]], address: str, order: Order
) -> list[dict[str, Any]]:
    """What serves the ports of services, measured one after the other: they may share what they run on.

    Args:
        root: the deployment's root folder.
        services: each with `name` and `port`.
        address: the host's own, as people know it.
        order: what is to be measured.

    Raises:
        DeployError: the load is beyond bounds.
    """
    if order.load is not None:
        check(order.load)
    found = []
    for one in services:
        measurement, problem, fix = None, "", ""
        try:
            measurement = plain(measure_service(root, one["name"], one["port"], address, order))
        except DeployError as error:
            problem, fix = error.problem, error.fix
        except OSError as error:
            problem, fix = str(error), "see the host's disk and limits"
        found.append({"service": one["name"], "measurement": measurement, "problem": problem, "fix": fix})
    return found


def measure_service(root: str, service: str, port: int, address: str, order: Order) -> Measurement:
    """What serves a port, measured.

    Args:
        root: the deployment's root folder.
        service: the service's name.
        port: that it is described with.
        address: the host's own, as people know it.
        order: what is to be measured.

    Raises:
        DeployError: nothing serves there, it does not answer, or no load can be made.
    """
    folder = Store(root).service(service)
    maker = maker_of(folder) if order.load is not None else None
    http = Client(asking.usable_key(order.key))
    server = by_name(asking.identify(http, url_of(port), about=hardware()), _served_name(folder))
    return measured(server, shown_url(address, port), http, order, maker)


def measured(
    server: Server,
    shown: str,
    http: Client,
    order: Order,
    maker: Release | None,
    say: asking.Say = lambda text: None,
    watch: Callable[[], None] = lambda: None,
) -> Measurement:
    """A server's answers, and what it does under load.

    Args:
        server: who, by the URL that this host reaches it by.
        shown: the URL by which people know it.
        http: asks.
        order: what is to be measured.
        maker: the release whose environment makes the load; None where none is to be made.
        say: told how far it is.
        watch: called again and again during the load; what it raises ends it.

    Raises:
        DeployError: it does not answer, or no load can be made.
    """
    answers = asking.ask(http, server, order.prompts, order.max_tokens, say, order.patience) if order.ask else None
    load = None
    if order.load is not None and maker is not None:
        environment = Environment.of(maker)
        load = put_under_load(server, order.prompts, order.load, environment, maker.model.path, http.key, say, watch)
    return Measurement(dataclasses.replace(server, url=shown), now(), answers, load)


def maker_of(folder: ServiceFolder) -> Release:
    """The release whose environment makes a load: what serves where that is SGLang, else what was staged last.

    Raises:
        DeployError: no release of SGLang is staged.
    """
    current = committed(folder, None)
    newest = sorted(releases(folder), key=lambda one: os.stat(os.path.join(folder.release(one), RELEASE_FILE)).st_mtime)
    for one in (current, *reversed(newest)):
        try:
            release = load_release(folder.release(one)).release if one else None
        except DeployError:
            continue
        if release is not None and release.engine == SGLANG and not release.adopted:
            return release
    raise DeployError(
        f"a load is made by SGLang's own benchmark, and no release of SGLang is staged in {folder.path}",
        "stage the service with engine: sglang first, as a rollout does before it cuts over",
    )


def url_of(port: int) -> str:
    """The URL by which this host reaches what listens on a port.

    Raises:
        DeployError: nothing does.
    """
    addresses = procfs.listening_addresses(port)
    if not addresses:
        raise DeployError(f"nothing listens on port {port}", "start the service; deployer status says what it is at")
    anywhere = [one for one in addresses if one in probes.ANY_ADDRESS]
    return probes.base_url((anywhere or addresses)[0], port)


def shown_url(address: str, port: int) -> str:
    """The URL by which people know a server of this host."""
    return f"http://{f'[{address}]' if ':' in address else address}:{port}"


def hardware() -> str:
    """What this host computes with."""
    return ", ".join(load_child.gpus()) or f"CPU, {os.cpu_count()} processors"


def by_name(server: Server, name: str) -> Server:
    """The server by the name that its release serves a model under, where it lists that."""
    return dataclasses.replace(server, model=name) if name in server.models else server


def _served_name(folder: ServiceFolder) -> str:
    current = committed(folder, None)
    try:
        return load_release(folder.release(current)).release.served_name if current else ""
    except DeployError:
        return ""
