"""Which relays run on this host, as they have written it down, and ending them."""

from __future__ import annotations

import contextlib
import os
import time
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import read_json
from ansible_collections.deployer.sglang.plugins.module_utils.procfs import boot_id
from ansible_collections.deployer.sglang.plugins.module_utils.relay.background import end
from ansible_collections.deployer.sglang.plugins.module_utils.store import Store

RECEIVING = ("receiving", "landing")
ASKED_WITHIN = 8.0  # seconds; a controller that waits asks every five at most


def make_way(store: Store, run: str = "") -> None:
    """End the relay that an earlier run left receiving on this host; what it has received stays.

    Args:
        store: of the host.
        run: that wants to receive; '' for a transfer that is no relay.
    Raises:
        DeployError: somebody waits for the other.
    """
    record = _recorded(store.relay)
    if record.get("state") in RECEIVING and record.get("run") != run and _is_asked_for(store):
        raise DeployError("another run brings weights to this host", "wait until it has ended, or end it")
    _end(record)


def close(store: Store, run: str) -> bool:
    """End what serves on this host for a run, and forget it.

    Args:
        store: of the host.
        run: that is over; what others run stays.
    Returns:
        True when something ran.
    """
    ended = False
    receiver = _recorded(store.relay)
    if receiver.get("run") in (run, None):
        ended = _end(receiver)
        _remove(store.relay)
        _remove(store.relay_asked)
    ended = _end(_recorded(store.seed(run))) or ended
    _remove(store.seed(run))
    return ended


def asked_at(store: Store) -> float:
    """When somebody asked last how far the relay is, in seconds since the epoch; 0 for never."""
    with contextlib.suppress(OSError):
        return os.stat(store.relay_asked).st_mtime
    return 0.0


def _is_asked_for(store: Store) -> bool:
    first, deadline = asked_at(store), time.monotonic() + ASKED_WITHIN
    while asked_at(store) == first and time.monotonic() < deadline:
        time.sleep(0.5)
    return asked_at(store) != first


def _recorded(path: str) -> dict[str, Any]:
    """What a relay has written of itself; nothing where that is damaged, or of another boot."""
    try:
        record = read_json(path)
    except (DeployError, OSError, UnicodeDecodeError):
        return {}
    return record if isinstance(record, dict) and record.get("boot") == boot_id() else {}


def _end(record: dict[str, Any]) -> bool:
    return end(int(record.get("pid") or 0), int(record.get("start_time") or 0))


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
