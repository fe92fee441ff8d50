"""The plan's figures beside those of the server that was started from it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tests.gpu_proof.start_log import StartLog

LIMIT = 0.03  # by which a figure of the plan may differ from the server's


@dataclass(frozen=True)
class Figure:
    """One figure.

    Attributes:
        name: what it is of.
        unit: of both numbers.
        planned: by the plan, before the server was started.
        measured: by the server, or by nvidia-smi.
        source: where the measured number was read.
    """

    name: str
    unit: str
    planned: float
    measured: float
    source: str

    @property
    def difference(self) -> float:
        """Of the plan's figure from the measured one, as a part of that."""
        return self.planned / self.measured - 1 if self.measured > 0 else float("inf")

    @property
    def within(self) -> bool:
        """Whether the plan is near enough."""
        return abs(self.difference) <= LIMIT

    def as_dict(self) -> dict[str, Any]:
        """With the difference, as JSON holds it."""
        difference = round(self.difference, 5) if math.isfinite(self.difference) else None
        return {**asdict(self), "difference": difference, "within": self.within}


def compare(service: Mapping[str, Any], log: StartLog, info: Mapping[str, Any], used: int) -> Sequence[Figure]:
    """The figures that can be read on both sides, of one GPU.

    Args:
        service: of the plan, as `plan --json` has it.
        log: what the server logged when it started.
        info: what it answers to /server_info.
        used: bytes in use on the GPU by nvidia-smi, while it serves.
    """
    memory = service["memory"]
    usage = _memory_usage(info)
    planned_use = memory["overhead"] + memory["weights"] + service["kv_tokens"] * service["kv_bytes_per_token"]
    return (
        Figure("weights", "bytes", memory["weights"], log.weights, "start log, Load weight end"),
        Figure("KV cache a token", "bytes", service["kv_bytes_per_token"], log.kv_per_token, "start log, KV Cache"),
        Figure("KV cache", "tokens", service["kv_tokens"], usage["token_capacity"], "/server_info"),
        Figure("memory fraction", "", memory["fraction"], info["mem_fraction_static"], "/server_info"),
        Figure(
            "free before loading",
            "bytes",
            memory["available"] - memory["overhead"],
            log.before,
            "start log, Load weight",
        ),
        Figure("GPU memory in use", "bytes", planned_use, used, "nvidia-smi, while it serves"),
    )


def _memory_usage(info: Mapping[str, Any]) -> Mapping[str, Any]:
    usage: Mapping[str, Any] = info["internal_states"][0]["memory_usage"]
    return usage
