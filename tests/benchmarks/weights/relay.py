"""The relay: the collection's own way of sending weights."""

from __future__ import annotations

import contextlib
import io
import json
import shlex
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.manifest import build_manifest
from ansible_collections.deployer.sglang.plugins.module_utils.relay import background
from ansible_collections.deployer.sglang.plugins.module_utils.relay.offers import offer_of
from ansible_collections.deployer.sglang.plugins.module_utils.relay.order import (
    PORT,
    SEED_PORTS,
    Peer,
    RelayOrder,
    Wanted,
)
from ansible_collections.deployer.sglang.plugins.module_utils.weights.rules import MODEL
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.credentials import new_certificate, new_token
from ansible_collections.deployer.sglang.plugins.plugin_utils.relay.seed import PROGRAM, start_seed
from tests.benchmarks.weights.hosts import REPOSITORY, ROOT, Fleet
from tests.benchmarks.weights.timing import Timing
from tests.lab.transfer import Transfer

CHECKOUT = "/opt/checkout"  # on the hosts: this checkout, read-only
BIND = f"{REPOSITORY}:{CHECKOUT}:ro"
HOP_TIMEOUT = 300  # seconds


def relay(fleet: Fleet, hosts: Sequence[str]) -> Timing:
    """Send `fleet.source` to `hosts` by the role `model`, to a place that `fleet.wipe` empties.

    The times are the relays' own: from the first that begins to receive until the last model is verified, synced to the
    disk and in its place. What Ansible needs before and after is not in them, nor is what rsync's caller needs.

    Args:
        fleet: booted; the links may be shaped or not.
        hosts: names, in the order of the chain.
    Raises:
        DeployError: a host did not get it.
    """
    with contextlib.redirect_stdout(io.StringIO()):  # Ansible's own lines are shown where it failed
        run = Transfer(fleet.lab, fleet.folder / "relay", str(fleet.source)).run("-l", ",".join(hosts))
    received = run.received()
    if run.status != 0 or set(received) != set(hosts):
        raise DeployError(f"the relay ended with {run.status}", "see what Ansible said", run.output)
    fleet.require_copies(hosts, f"{ROOT}/artifacts/models")
    return Timing(
        {host: float(one["started"]) for host, one in received.items()},
        {host: float(one["landed"]) for host, one in received.items()},
    )


def relay_hop(fleet: Fleet, hosts: Sequence[str]) -> Timing:
    """Send `fleet.source` to one host by the relay alone: in a transfer of seconds, Ansible's tasks would be measured.

    Args:
        fleet: booted with `BIND`.
        hosts: one name.
    Raises:
        DeployError: the host did not get it.
    """
    (name,) = hosts
    host = fleet.lab.hosts[name]
    certificate, key = new_certificate()
    secret = {"run": "hop", "token": new_token(), "certificate": certificate, "key": key}
    manifest = build_manifest(str(fleet.source))
    offers = (offer_of(str(fleet.source), manifest, MODEL),)
    seed = start_seed(RelayOrder(**secret, listen=fleet.controller, ports=tuple(SEED_PORTS), offers=offers))
    started: dict[str, Any] = {}
    try:
        source = Peer("seed", fleet.controller, int(seed["port"]))
        wanted = (Wanted("m", manifest, (source,)),)
        order = RelayOrder(**secret, listen=host.address, ports=(PORT,), root=ROOT, wanted=wanted)
        command = [*fleet.lab.ssh_args, host.address, f"sudo python3 -I -c {shlex.quote(PROGRAM)} {CHECKOUT}"]
        done = subprocess.run(command, input=json.dumps(order.as_dict()), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise DeployError("the relay did not start", detail=done.stderr)
        started = json.loads(done.stdout)
        report = _landed(host.disk.upper / f"{ROOT.lstrip('/')}/incoming/relay.json")
    finally:
        if started:
            host.ssh(f"sudo kill {started['pid']}")
        background.end(int(seed["pid"]), int(seed["start_time"]))
    fleet.require_copies(hosts, f"{ROOT}/artifacts/models")
    return Timing({name: float(report["started"])}, {name: float(report["landed"])})


def _landed(report: Path) -> dict[str, Any]:
    """What the relay says of itself in the end, read from the host's disk: asking over SSH takes a processor's time."""
    deadline = time.monotonic() + HOP_TIMEOUT
    while time.monotonic() < deadline:
        with contextlib.suppress(FileNotFoundError, ValueError):
            value: dict[str, Any] = json.loads(report.read_text())
            if value["state"] == "landed":
                return value
            if value["state"] == "failed":
                raise DeployError(str(value["error"]))
        time.sleep(0.05)
    raise DeployError(f"the relay was not done after {HOP_TIMEOUT} s")
