"""How a service's processes share its GPUs, as its options say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError


@dataclass(frozen=True)
class Parallelism:
    """Degrees of parallelism, each at least 1.

    Attributes:
        tensor: GPUs that share every layer.
        pipeline: stages that share the layers out.
        data: replicas of the whole.
        attention_data: groups inside the tensor-parallel group that each do attention by themselves (DP attention).
        context: groups inside the tensor-parallel group that share long prompts out.
        expert: groups that share the experts out, inside the tensor-parallel group.
        dense: GPUs that share the dense feed-forward layers of a mixture of experts.
        nodes: hosts that the whole spans.
    """

    tensor: int = 1
    pipeline: int = 1
    data: int = 1
    attention_data: int = 1
    context: int = 1
    expert: int = 1
    dense: int = 0
    nodes: int = 1

    @property
    def gpus(self) -> int:
        """GPUs that it needs on one host (SGLang's compute_world_size, divided by its nodes)."""
        return max(1, self.tensor * self.pipeline * self.data // self.nodes)

    @property
    def attention(self) -> int:
        """GPUs that share the attention heads."""
        return max(1, self.tensor // (self.attention_data * self.context))

    @property
    def impossible(self) -> str:
        """Why the degrees do not go together, '' where they do (SGLang's parallel_hook.py, as assertions)."""
        if self.tensor % (self.attention_data * self.context):
            groups = self.attention_data * self.context
            return f"tensor parallelism {self.tensor} is no multiple of {groups} attention groups"
        if self.expert > self.tensor or self.tensor % self.expert:
            return f"tensor parallelism {self.tensor} is no multiple of expert parallelism {self.expert}"
        if self.tensor * self.pipeline % self.nodes:
            return f"{self.tensor * self.pipeline} GPUs cannot be spread over {self.nodes} nodes"
        return ""


def parallelism_of(engine: str, options: Mapping[str, Any]) -> Parallelism:
    """The parallelism that canonical options ask for; LLaMA-Factory has none that is set by an option.

    Data parallelism multiplies, unless it is that of attention, which shares the tensor-parallel group (SGLang's
    ServerArgs: `--enable-dp-attention`, since 0.5.23 `--attention-data-parallel-size`).

    Raises:
        DeployError: a degree is not a whole number from 1 to 1024.
    """
    if engine != "sglang":
        return Parallelism()
    data = _degree(options, "data_parallel_size")
    attention_data = _degree(options, "attention_data_parallel_size")
    if options.get("enable_dp_attention") is True and attention_data == 1:
        data, attention_data = 1, data
    tensor = _degree(options, "tensor_parallel_size")
    # These backends spread the experts over the whole group, whatever is asked for (`_a2a_ep_size` in 0.5.23's
    # arg_groups/overrides.py, `enable_ep_moe` in 0.4.9's server_args.py).
    spread = str(options.get("moe_a2a_backend", "none")) not in ("none", "None")
    spread = spread or any(options.get(name) is True for name in ("enable_ep_moe", "enable_deepep_moe"))
    return Parallelism(
        tensor=tensor,
        pipeline=_degree(options, "pipeline_parallel_size"),
        data=data,
        attention_data=attention_data,
        context=_degree(options, "attention_context_parallel_size"),
        expert=tensor if spread else _degree(options, "expert_parallel_size"),
        dense=_degree(options, "moe_dense_tp_size") if options.get("moe_dense_tp_size") is not None else 0,
        nodes=_degree(options, "nnodes"),
    )


def _degree(options: Mapping[str, Any], name: str) -> int:
    value = options.get(name, 1)
    number = int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value) else value
    if isinstance(number, bool) or not isinstance(number, int) or not 1 <= number <= 1024:
        raise DeployError(f"options.{name} is {value!r}", "give a whole number from 1 to 1024")
    return number
