"""What this controller has computed and can compute again, kept between runs and shared by the processes of one."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.files import (
    canonical_json,
    exclusive_lock,
    read_json,
    write_file,
)
from ansible_collections.deployer.sglang.plugins.module_utils.procfs import start_time_of


def cache_folder() -> Path:
    """Where the cache lies: `$XDG_CACHE_HOME/sglang-deployer`, by default below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "sglang-deployer"


class CacheUnusable(DeployError):
    """There is no place to keep anything."""


@contextmanager
def cache_file(kind: str, name: str) -> Iterator[str]:
    """The path of one cached value, locked: Ansible runs one process a host, and all of them ask for the same.

    Args:
        kind: folder of the cache.
        name: what the value is of; any text.
    """
    path = cache_path(kind, name)
    with contextlib.ExitStack() as stack:
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            stack.enter_context(exclusive_lock(f"{path}.lock"))
        except OSError as error:  # a home that is not there, or is not ours
            raise CacheUnusable(f"{path}: {error}", "set XDG_CACHE_HOME to a folder of this user") from None
        yield path


def cache_path(kind: str, name: str) -> str:
    """Where one value is kept."""
    return str(cache_folder() / kind / f"{hashlib.sha256(name.encode()).hexdigest()[:32]}.json")


def cached(kind: str, name: str, state: str, compute: Callable[[], Any]) -> Any:
    """A value that is computed once for each state of what it is of.

    Args:
        kind: folder of the cache.
        name: what the value is of.
        state: changes whenever the value could; the value of another state is replaced.
        compute: gives the value, as JSON can hold it. What it raises is not kept.
    """
    try:
        with cache_file(kind, name) as path:
            known = read_cache(path)
            if known.get("state") == state and "value" in known:
                return known["value"]
            value = compute()
            write_file(path, canonical_json({"state": state, "value": value}), 0o600)
            return value
    except CacheUnusable:
        return compute()


def once_a_run(name: str, compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What one of the processes of a run of Ansible computes for all of them: they are children of one process.

    Args:
        name: what is computed; any text.
        compute: gives the value, as JSON can hold it. One that has `failed`, and what it raises, is not kept.
    """
    state = f"{os.getppid()} {start_time_of(os.getppid())}"
    with cache_file("runs", name) as path:
        known = read_cache(path)
        if known.get("state") == state and isinstance(known.get("value"), dict):
            return dict(known["value"])
        value = compute()
        if not value.get("failed") and not value.get("unreachable"):
            write_file(path, canonical_json({"state": state, "value": value}), 0o600)
        return value


def read_cache(path: str) -> dict[str, Any]:
    """What is kept at `path`; empty where nothing is, or what is there is damaged."""
    try:
        known = read_json(path)
    except (DeployError, OSError):
        known = None
    return known if isinstance(known, dict) else {}
