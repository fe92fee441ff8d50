"""What SGLang's start log says of a GPU's memory. Its GB are 2^30 bytes, to two places."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError

GB = 2**30
_SIZE = r"(-?[0-9]+(?:\.[0-9]+)?) GB"
_TOKENS = r"max_total_num_tokens=([0-9]+), .*max_running_requests=([0-9]+), .*available_[cg]pu_mem=" + _SIZE


@dataclass(frozen=True)
class StartLog:
    """Bytes, of the rank that takes the most, apart from `tokens` and `requests`.

    Attributes:
        before: free before the weights were loaded.
        weights: that loading them took.
        kv: of the KV cache.
        graphs: that capturing the CUDA graphs took.
        left: free when it began to serve.
        tokens: capacity of the KV cache.
        requests: that may run at once.
    """

    before: int
    weights: int
    kv: int
    graphs: int
    left: int
    tokens: int
    requests: int

    @property
    def kv_per_token(self) -> float:
        """Bytes of KV cache a token."""
        return self.kv / self.tokens


def read_start_log(text: str) -> StartLog:
    """The figures of a log.

    Raises:
        DeployError: the log has no line with one of them.
    """
    before = min(_sizes(text, rf"Load weight begin\. avail mem={_SIZE}"))
    weights = max(_sizes(text, rf"Load weight end\..*mem usage={_SIZE}"))
    keys = _sizes(text, rf"KV Cache is allocated\..*K size: {_SIZE}")
    values = _sizes(text, rf"KV Cache is allocated\..*V size: {_SIZE}")
    ranks = max(1, len(re.findall(r"Load weight begin\.", text)))
    graphs = sum(_sizes(text, rf"Capture .* end\..*mem usage={_SIZE}", optional=True)) // ranks
    served = re.search(_TOKENS, text)
    if served is None:
        raise _missing("max_total_num_tokens")
    tokens, requests = int(served.group(1)), int(served.group(2))
    kv = sum(max(sizes) for sizes in (keys, values))
    return StartLog(before, weights, kv, graphs, _bytes(served.group(3)), tokens, requests)


def _sizes(text: str, pattern: str, optional: bool = False) -> list[int]:
    found = [_bytes(size) for size in re.findall(pattern, text)]
    if not found and not optional:
        raise _missing(pattern.partition(r"\.")[0])
    return found


def _bytes(size: str) -> int:
    return int(float(size) * GB)


def _missing(what: str) -> DeployError:
    return DeployError(
        f"the start log has no line with {what!r}", "read it: SGLang words it otherwise, or has not started"
    )
