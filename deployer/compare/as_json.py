"""A comparison as programs read it: objects, lists, strings and numbers, "max" for all requests at once."""

from __future__ import annotations

from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.measuring import measurement
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import Load, Measurement
from deployer.compare.judging import LoadComparison, verdict
from deployer.compare.parity import Parity

SCHEMA = 1
MAX = "max"


def comparison_as_json(
    old: Measurement, new: Measurement, parity: Parity | None, load: LoadComparison | None, exit_code: int
) -> dict[str, Any]:
    """All of a comparison.

    Args:
        old, new: the measurements.
        parity, load: what they come to; None where it was not measured.
        exit_code: of the command.
    """
    return {
        "schema": SCHEMA,
        "exit_code": exit_code,
        "old": {"measured": old.time, **plain(old.server)},
        "new": {"measured": new.time, **plain(new.server)},
        "parity": _parity(parity) if parity else None,
        "load": _load(load) if load else None,
    }


def plain(value: Any) -> Any:
    """A dataclass, and all that is in it, as JSON has it."""
    return measurement.plain(value, MAX)


def _parity(parity: Parity) -> dict[str, Any]:
    return {
        "same": not parity.differing,
        "rendering_only": parity.rendering_only,
        "prompts": [
            {**plain(pair), "differences": list(pair.differences), "prompt_tokens_more": pair.more}
            for pair in parity.pairs
        ],
        "explanations": plain(parity.explanations),
        "notes": plain(parity.notes),
    }


def _load(load: LoadComparison) -> dict[str, Any]:
    return {
        "settings": plain(load.old_load.settings),
        "prompts": {"name": load.old_load.prompts.name, "sha256": load.old_load.prompts.sha256},
        "old": {**_made_by(load.old_load), "rates": plain(load.old_figures)},
        "new": {**_made_by(load.new_load), "rates": plain(load.new_figures)},
        "judgements": [{**plain(one), "factor": one.factor} for one in load.judgements],
        "verdict": plain(verdict(load)),
        "misses": list(load.misses),
    }


def _made_by(load: Load) -> dict[str, str]:
    return {"generator": load.generator, "client": load.client, "tokenizer": load.tokenizer}
