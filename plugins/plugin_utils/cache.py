"""What this controller has computed and can compute again, kept between runs and shared by the processes of one."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import (
    exclusive_lock,
    pretty_json,
    read_json,
    write_file,
)


def cache_folder() -> Path:
    """Where the cache lies: `$XDG_CACHE_HOME/sglang-deployer`, by default below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "sglang-deployer"


@contextmanager
def cache_file(kind: str, name: str) -> Iterator[str]:
    """The path of one cached value, locked: Ansible runs one process a host, and all of them ask for the same.

    Args:
        kind: folder of the cache.
        name: what the value is of; any text.
    """
    store = cache_folder() / kind
    store.mkdir(parents=True, exist_ok=True)
    path = str(store / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json")
    with exclusive_lock(f"{path}.lock"):
        yield path


def cached(kind: str, name: str, state: str, compute: Callable[[], Any]) -> Any:
    """A value that is computed once for each state of what it is of.

    Args:
        kind: folder of the cache.
        name: what the value is of.
        state: changes whenever the value could; the value of another state is replaced.
        compute: gives the value, as JSON can hold it. What it raises is not kept.
    """
    with cache_file(kind, name) as path:
        try:
            known = read_json(path)
        except DeployError:
            known = None  # damaged: compute it again
        if isinstance(known, dict) and known.get("state") == state and "value" in known:
            return known["value"]
        value = compute()
        write_file(path, pretty_json({"state": state, "value": value}), 0o600)
        return value
