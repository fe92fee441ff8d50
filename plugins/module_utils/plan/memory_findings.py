"""Whether weights and KV cache fit, and for how many requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import ModelFacts
from ansible_collections.deployer.sglang.plugins.module_utils.plan.findings import Finding, finding
from ansible_collections.deployer.sglang.plugins.module_utils.plan.memory import kv_cost, loaded_bytes
from ansible_collections.deployer.sglang.plugins.module_utils.plan.model import fitting_sizes
from ansible_collections.deployer.sglang.plugins.module_utils.plan.parallelism import Parallelism
from ansible_collections.deployer.sglang.plugins.module_utils.plan.pool import (
    GIB,
    Pool,
    is_fraction,
    size_pool,
    whole_number,
)

# Tokens of KV cache a running request below which SGLang spends its time taking requests back (sglang issue 26248): a
# short chat with its answer. A rule of thumb.
FEW_TOKENS = 1024
FP8_CAPABILITY = (8, 0)  # `get_min_capability` of SGLang's layers/quantization/fp8.py


@dataclass(frozen=True)
class Sizing:
    """A model on a group of GPUs, to be sized as it is and with changes. Bytes.

    Attributes:
        model: its folder.
        parallelism: of the service.
        options: its options, canonical.
        version: of SGLang.
        total: memory of the smallest GPU of the group.
        available: free of the fullest one.
        capability: the lowest compute capability of the group, such as (9, 0); () where it is not known.
        host_gpus: how many GPUs the host has.
    """

    model: ModelFacts
    parallelism: Parallelism
    options: Mapping[str, Any]
    version: str
    total: int
    available: int
    capability: tuple[int, ...] = ()
    host_gpus: int = 1

    def pool(self) -> Pool:
        """What comes of it."""
        kept = (whole_number(self.options.get("cpu_offload_gb")) or 0) * GIB
        weights = max(0, loaded_bytes(self.model, self.parallelism, self.options) - kept)
        cost = kv_cost(self.model.config, self.parallelism, self.options)
        config = self.model.config
        return size_pool(
            self.total, self.available, weights, cost, config, self.parallelism, self.options, self.version
        )

    def fits(self, tokens: int) -> bool:
        """Whether the KV cache holds so many tokens."""
        return self.pool().tokens >= tokens

    def with_options(self, **changes: Any) -> Sizing:
        """The same with other options; None takes one away."""
        options = {**self.options, **changes}
        return replace(self, options={key: value for key, value in options.items() if value is not None})


def pool_findings(where: str, sizing: Sizing, pool: Pool, context: int) -> Iterator[Finding]:
    """Findings about the memory of an SGLang service.

    Args:
        where: key of the service.
        sizing: what was sized.
        pool: what came of it.
        context: the longest request in tokens.
    """
    options = sizing.options
    wanted = whole_number(options.get("max_total_tokens"))
    if wanted is not None and wanted <= 0:  # SGLang takes the smaller of it and what fits, and ends
        yield finding(
            "option-value",
            f"{where}.options.max_total_tokens",
            f"{wanted} leaves no KV cache at all",
            "remove it: the pool then takes what memory there is",
        )
    yield from _fraction_findings(f"{where}.options.mem_fraction_static", sizing, pool)
    if pool.tokens <= 0:
        usable = (pool.available - pool.overhead) * pool.fraction
        yield finding(
            "does-not-fit",
            f"{where}.gpus",
            f"the weights take {pool.weights / GIB:.1f} GiB of each GPU, {max(0.0, usable) / GIB:.1f} GiB are usable "
            f"({pool.available / GIB:.1f} free, mem_fraction_static {pool.fraction:g}): "
            f"{(pool.weights - usable) / GIB:.1f} GiB are missing",
            _ways(sizing, 1) or "take GPUs with more memory",
        )
        return
    if pool.tokens < context and not pool.capped:
        ways = _ways(sizing, context)
        yield finding(
            "kv-pool-small",
            f"{where}.gpus",
            f"{pool.tokens:,} tokens of KV cache fit and a single request may have {context:,}",
            f"set context_length: {pool.tokens // 1024 * 1024 or pool.tokens}" + (f"; {ways}" if ways else ""),
        )
    if pool.capped:
        fits = sizing.with_options(max_total_tokens=None).pool().tokens
        yield finding(
            "kv-pool-capped",
            f"{where}.options.max_total_tokens",
            f"{pool.tokens:,} tokens for all requests together, and {fits:,} fit: it is a setting for debugging",
            "remove it: the pool then takes what memory there is",
        )


def _fraction_findings(key: str, sizing: Sizing, pool: Pool) -> Iterator[Finding]:
    """A fraction that is none, or that leaves less than half of what SGLang itself would leave."""
    given = sizing.options.get("mem_fraction_static")
    if given is None:
        return
    own = sizing.with_options(mem_fraction_static=None).pool().fraction
    if not is_fraction(given):
        yield finding(
            "option-value", key, f"{given!r} is no fraction between 0 and 1", f"remove it: SGLang takes {own:g}"
        )
    elif 1 - pool.fraction < (1 - own) / 2:
        rest, usual = ((1 - fraction) * pool.total / GIB for fraction in (pool.fraction, own))
        yield finding(
            "memory-fraction-high",
            key,
            f"{pool.fraction:g} leaves {rest:.1f} GiB for activations and CUDA graphs, SGLang itself {usual:.1f}",
            f"remove it: SGLang takes {own:g}; or make chunked_prefill_size smaller as well",
        )


def sharing_findings(
    where: str, tokens: int | None, requests: int, fits: int | None, options: Mapping[str, Any]
) -> Iterator[Finding]:
    """A KV cache that too many requests share.

    Args:
        where: key of the service.
        tokens: capacity of the pool; None where it is not known.
        requests: how many may run at once.
        fits: capacity without max_total_tokens; None where it is not known.
        options: of the service, canonical.
    """
    if not tokens or whole_number(options.get("max_running_requests")) is None or tokens // requests >= FEW_TOKENS:
        return
    remedy = f"set max_running_requests: {max(1, tokens // FEW_TOKENS)}"
    if options.get("max_total_tokens") is not None:
        more = f", {fits:,} tokens fit then" if fits else ""
        remedy = f"remove max_total_tokens (the pool is sized by memory{more}), or {remedy}"
    yield finding(
        "kv-pool-shared",
        f"{where}.options.max_running_requests",
        f"{tokens:,} tokens of KV cache for {requests} requests at once are {tokens // requests} each: "
        "longer ones are taken back and computed again",
        remedy,
    )


def _ways(sizing: Sizing, tokens: int) -> str:
    """The changes with which so many tokens fit on GPUs of the same kind, for people; '' where none is known."""
    ways = []
    config, parallelism, options = sizing.model.config, sizing.parallelism, sizing.options
    sizes = (
        size for size in fitting_sizes(config, parallelism, options) if parallelism.tensor < size <= sizing.host_gpus
    )
    more = next((n for n in sizes if replace(sizing, parallelism=replace(parallelism, tensor=n)).fits(tokens)), None)
    if more:
        ways.append(f"tensor_parallel_size: {more}")
    unquantised = not config.quantization and "quantization" not in options
    if unquantised and sizing.capability >= FP8_CAPABILITY and sizing.with_options(quantization="fp8").fits(tokens):
        ways.append("quantization: fp8")
    if "kv_cache_dtype" not in options and tokens > 1 and sizing.with_options(kv_cache_dtype="fp8_e5m2").fits(tokens):
        ways.append("kv_cache_dtype: fp8_e5m2")
    if "mem_fraction_static" in options:
        if sizing.with_options(mem_fraction_static=None).fits(tokens):
            ways.append("no mem_fraction_static")
    elif sizing.with_options(chunked_prefill_size=2048).fits(tokens):
        ways.append("chunked_prefill_size: 2048, which leaves less for activations,")
    return " or ".join(ways) + " would do" if ways else ""
