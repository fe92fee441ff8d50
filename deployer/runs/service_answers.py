"""What a host says of its services, taken only where it makes sense: one odd host must not hide the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TEXTS = ("service", "state")
NUMBERS = ("uptime",)
LOADS = ("running", "queued", "tokens_per_second", "kv_usage")


def services_of(value: Any) -> tuple[Mapping[str, Any], ...]:
    """The services of an answer of the module `status`.

    Args:
        value: what the answer has as `services`.

    Raises:
        ValueError: it is something else.
    """
    if not isinstance(value, list):
        raise ValueError("services are no list")
    for one in value:
        if not isinstance(one, Mapping) or not all(isinstance(one.get(key), str) for key in TEXTS):
            raise ValueError("a service has no name or no state")
        load, drift, gpus = one.get("load") or {}, one.get("drift") or [], one.get("gpu_memory") or []
        if not isinstance(load, Mapping) or not isinstance(drift, list) or not isinstance(gpus, list):
            raise ValueError(f"load, drift or gpu_memory of {one['service']} is of another kind")
        numbers = [*(one.get(key) for key in NUMBERS), *(load.get(key) for key in LOADS)]
        if not all(number is None or isinstance(number, (int, float)) for number in numbers):
            raise ValueError(f"something of {one['service']} is no number")
        if not all(isinstance(found, Mapping) and "what" in found for found in drift):
            raise ValueError(f"drift of {one['service']} is of another kind")
        if not all(isinstance(gpu, Mapping) and isinstance(gpu.get("total"), int) for gpu in gpus):
            raise ValueError(f"gpu_memory of {one['service']} is of another kind")
    return tuple(value)
