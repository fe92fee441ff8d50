"""Whether two servers answer alike, and why not as far as answers tell."""

from __future__ import annotations

from dataclasses import dataclass

from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import Server
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.parity import Pair, differing


@dataclass(frozen=True)
class Explanation:
    """Why answers differ, as far as answers tell.

    Args:
        id: stable, for programs.
        says: the cause, with what it was seen by.
        fix: the option that would remove the difference.
    """

    id: str
    says: str
    fix: str


@dataclass(frozen=True)
class Parity:
    """Whether two servers answer alike.

    Args:
        old, new: the servers.
        pairs: both answers to each prompt.
        explanations: of the differences, the most likely first.
        notes: what clients may meet and these prompts do not show.
        rendering_only: that prompts are rendered alike is enough; texts may differ.
    """

    old: Server
    new: Server
    pairs: tuple[Pair, ...]
    explanations: tuple[Explanation, ...] = ()
    notes: tuple[Explanation, ...] = ()
    rendering_only: bool = False

    @property
    def differing(self) -> tuple[Pair, ...]:
        """The prompts that are answered differently, in what is compared."""
        return differing(self.pairs, self.rendering_only)

    @property
    def exit_code(self) -> int:
        """0 all answers are the same, 1 some differ."""
        return 1 if self.differing else 0
