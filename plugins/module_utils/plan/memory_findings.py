"""Whether weights and KV cache fit, and for how many requests."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.model_facts import ModelFacts
from ansible_collections.deployer.sglang.plugins.module_utils.plan.findings import Finding, finding
from ansible_collections.deployer.sglang.plugins.module_utils.plan.memory import kv_cost, weight_bytes
from ansible_collections.deployer.sglang.plugins.module_utils.plan.model import split_findings
from ansible_collections.deployer.sglang.plugins.module_utils.plan.parallelism import Parallelism
from ansible_collections.deployer.sglang.plugins.module_utils.plan.pool import GIB, Pool, size_pool, whole_number

# Tokens of KV cache a running request below which SGLang spends its time taking requests back (sglang issue 26248): a
# short chat with its answer. A rule of thumb.
FEW_TOKENS = 1024


def pool_findings(
    where: str,
    pool: Pool,
    model: ModelFacts,
    context: int,
    parallelism: Parallelism,
    options: Mapping[str, Any],
    version: str,
    most: int,
) -> Iterator[Finding]:
    """Findings about the memory of an SGLang service.

    Args:
        where: key of the service.
        pool: as `size_pool` has it.
        model: the model's folder.
        context: the longest request in tokens.
        parallelism: of the service.
        options: its options, canonical.
        version: of SGLang.
        most: GPUs that the host has.
    """
    wanted = whole_number(options.get("max_total_tokens"))
    if wanted is not None and wanted <= 0:  # SGLang takes the smaller of it and what fits, and ends
        yield finding(
            "option-value",
            f"{where}.options.max_total_tokens",
            f"{wanted} leaves no KV cache at all",
            "remove it: the pool then takes what memory there is",
        )
    if pool.tokens <= 0:
        usable = (pool.available - pool.overhead) * pool.fraction
        yield finding(
            "does-not-fit",
            f"{where}.gpus",
            f"the weights take {pool.weights / GIB:.1f} GiB of each GPU and {usable / GIB:.1f} GiB are usable "
            f"({pool.available / GIB:.1f} free, mem_fraction_static {pool.fraction:g}): "
            f"{(pool.weights - usable) / GIB:.1f} GiB are missing",
            _what_would_fit(pool, model, parallelism, options, version, most) or "take GPUs with more memory",
        )
        return
    if pool.tokens < context and not pool.capped:
        yield finding(
            "kv-pool-small",
            f"{where}.gpus",
            f"{pool.tokens:,} tokens of KV cache fit and a single request may have {context:,}",
            f"set context_length: {pool.tokens // 1024 * 1024 or pool.tokens}, "
            + ("" if "kv_cache_dtype" in options else "kv_cache_dtype: fp8_e5m2, ")
            + "or give it more GPUs",
        )
    if pool.capped:
        fits = int(pool.kv / max(1.0, kv_cost(model.config, parallelism, options).per_token()))
        yield finding(
            "kv-pool-capped",
            f"{where}.options.max_total_tokens",
            f"{pool.tokens:,} tokens for all requests together, and {fits:,} fit: it is a setting for debugging",
            "remove it: the pool then takes what memory there is",
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


def _what_would_fit(
    pool: Pool, model: ModelFacts, parallelism: Parallelism, options: Mapping[str, Any], version: str, most: int
) -> str:
    """The changes that make it fit on GPUs of the same kind, for people; '' when none of those known does."""
    ways = []
    for tensor in (2, 4, 8, 16):
        more = replace(parallelism, tensor=tensor)
        splits = parallelism.tensor < tensor <= most and not list(split_findings("", model.config, more, options))
        if splits and _fits(pool, model, more, options, version):
            ways.append(f"tensor_parallel_size: {tensor}")
            break
    smaller = {**options, "quantization": "fp8"}
    unquantised = not model.config.quantization and "quantization" not in options
    if unquantised and _fits(pool, model, parallelism, smaller, version):
        ways.append("quantization: fp8")
    given = options.get("mem_fraction_static")
    if given is not None:
        without = {key: value for key, value in options.items() if key != "mem_fraction_static"}
        if _fits(pool, model, parallelism, without, version):
            ways.append("no mem_fraction_static")
    return " or ".join(ways) + " would fit" if ways else ""


def _fits(pool: Pool, model: ModelFacts, parallelism: Parallelism, options: Mapping[str, Any], version: str) -> bool:
    weights = weight_bytes(model, parallelism, options)
    cost = kv_cost(model.config, parallelism, options)
    sized = size_pool(pool.total, pool.available, weights, cost, model.config, parallelism, options, version)
    return sized.tokens > 0
