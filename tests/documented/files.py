"""The descriptions that a page shows, as a lab without GPUs can carry them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

GPUS_ONLY = ("tensor_parallel_size", "mem_fraction_static")
SERVICES = "inference_services"


def merged(base: Any, change: Any) -> Any:
    """What a page's change comes to: mappings by key, lists of things that have a name by that, all else as it says."""
    if isinstance(base, Mapping) and isinstance(change, Mapping):
        return {**base, **{key: merged(base[key], new) if key in base else new for key, new in change.items()}}
    if _named(base) and _named(change):
        old = {one["name"]: one for one in base}
        new = {one["name"]: merged(old.get(one["name"], {}), one) for one in change}
        return [*(new.pop(name, one) for name, one in old.items()), *new.values()]
    return change


def _named(value: Any) -> bool:
    return (
        isinstance(value, Sequence) and bool(value) and all(isinstance(one, Mapping) and "name" in one for one in value)
    )


def without_gpus(description: Mapping[str, Any], service: Mapping[str, Any]) -> dict[str, Any]:
    """The same for hosts without GPUs.

    Args:
        description: variables of hosts, with `inference_services` or without.
        service: what every service says there, beside what it says itself; `options` and other mappings are merged.
    """
    if SERVICES not in description:
        return {**description}
    return {**description, SERVICES: [_without_gpus(one, service) for one in description[SERVICES]]}


def _without_gpus(one: Mapping[str, Any], service: Mapping[str, Any]) -> dict[str, Any]:
    options = {key: value for key, value in one.get("options", {}).items() if key not in GPUS_ONLY}
    changed: dict[str, Any] = merged({**one, "gpus": [], "options": options}, service)
    return changed
