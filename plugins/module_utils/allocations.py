"""A checkpoint's tensors as SGLang allocates them: one tensor for what it fuses, and how many layers have each."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.safetensors import Tensor

# What its layer classes make of the tensors of a checkpoint (`stacked_params_mapping` and `expert_params_mapping` of
# sglang/srt/models/*.py, 0.5.15): one matrix for query, key and value, one for gate and up, and of the experts of a
# layer two.
FUSED = (
    (re.compile(r"\.(?:q_proj|k_proj|v_proj)\."), ".qkv_proj."),
    (re.compile(r"\.(?:gate_proj|up_proj|w1|w3)\."), ".gate_up_proj."),
    (re.compile(r"\.experts\.[0-9]{1,9}\."), ".experts."),
)
MOST_KINDS = 1000  # DeepSeek-V3 has fewer than a hundred
_LAYER = re.compile(r"((?:^|\.)(?:layers|h|blocks)\.)[0-9]{1,9}\.")


@dataclass(frozen=True)
class Allocation:
    """A tensor of the engine, the same in so many layers.

    Attributes:
        parts: part of the weights -> dtype -> bytes of the checkpoint that go into it (as `ModelFacts.parts`).
        count: how many there are.
    """

    parts: Mapping[str, Mapping[str, int]]
    count: int

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Allocation:
        """What `dataclasses.asdict` gave."""
        return cls(**value)


def allocations_of(tensors: Mapping[str, Tensor], part: Callable[[str, Tensor], str]) -> tuple[Allocation, ...]:
    """The tensors that an engine allocates for those of a checkpoint, in the order in which they first appear.

    Args:
        tensors: by the checkpoint's name.
        part: which part of the weights a tensor belongs to.
    Returns:
        As few as the layers are alike; none where the names number layers or experts in a way that is not known here.
    """
    made: dict[str, dict[tuple[str, str], int]] = {}
    for name, tensor in tensors.items():
        fused = name
        for pattern, replacement in FUSED:
            fused = pattern.sub(replacement, fused)
        inside = made.setdefault(fused, {})
        key = (part(name, tensor), tensor.dtype)
        inside[key] = inside.get(key, 0) + tensor.size
    kinds = Counter((_LAYER.sub(r"\1*.", name), tuple(sorted(inside.items()))) for name, inside in made.items())
    if len(kinds) > MOST_KINDS:
        return ()
    return tuple(Allocation(_parts(dict(inside)), count) for (_, inside), count in kinds.items())


def _parts(inside: Mapping[tuple[str, str], int]) -> dict[str, dict[str, int]]:
    parts: dict[str, dict[str, int]] = {}
    for (part, dtype), size in inside.items():
        parts.setdefault(part, {})[dtype] = size
    return parts
