"""Whether two servers answer alike: pure functions over what both have answered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import (
    Answers,
    Measurement,
    Probes,
    Reply,
    Server,
)
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.prompts import Messages, has_system

TOKENS, FINISH, TEXT, REASONING, REFUSAL = "prompt tokens", "finish reason", "text", "reasoning", "refusal"


@dataclass(frozen=True)
class Pair:
    """Both answers to one prompt.

    Args:
        messages: of the prompt.
        max_tokens: that an answer may have.
        old, new: the answers.
    """

    messages: Messages
    max_tokens: int
    old: Reply
    new: Reply

    @property
    def differences(self) -> tuple[str, ...]:
        """What differs: TOKENS, FINISH, TEXT, REASONING, or REFUSAL alone."""
        if self.old.error or self.new.error:
            return (REFUSAL,) if bool(self.old.error) != bool(self.new.error) else ()
        compared = {
            TOKENS: (self.old.prompt_tokens, self.new.prompt_tokens),
            FINISH: (self.old.finish_reason, self.new.finish_reason),
            TEXT: (self.old.text, self.new.text),
            REASONING: (self.old.reasoning, self.new.reasoning),
        }
        return tuple(name for name, (old, new) in compared.items() if old != new)

    @property
    def more(self) -> int | None:
        """By how many tokens the new server's prompt is longer; None where one of them does not say."""
        if self.old.prompt_tokens is None or self.new.prompt_tokens is None:
            return None
        return self.new.prompt_tokens - self.old.prompt_tokens

    @property
    def has_system(self) -> bool:
        """Whether the client sends a system message of its own."""
        return has_system(self.messages)

    @property
    def alike(self) -> int:
        """How many characters of the texts are the same from their beginning."""
        pairs = zip(self.old.text, self.new.text)
        shortest = min(len(self.old.text), len(self.new.text))
        return next((at for at, (old, new) in enumerate(pairs) if old != new), shortest)


@dataclass(frozen=True)
class Evidence:
    """What explanations are made from.

    Args:
        old, new: the servers.
        pairs: both answers to each prompt.
        old_probes, new_probes: what else was asked.
    """

    old: Server
    new: Server
    pairs: Sequence[Pair]
    old_probes: Probes
    new_probes: Probes


def differing(pairs: Iterable[Pair], rendering_only: bool) -> tuple[Pair, ...]:
    """The prompts that are answered differently.

    Args:
        pairs: both answers to each prompt.
        rendering_only: that prompts are rendered alike is enough; texts may differ.
    """
    counts = {TOKENS, REFUSAL} if rendering_only else {TOKENS, FINISH, TEXT, REASONING, REFUSAL}
    return tuple(one for one in pairs if counts & set(one.differences))


def evidence(old: Measurement, new: Measurement) -> Evidence:
    """The answers of two measurements side by side.

    Raises:
        DeployError: one was not asked, or they were not asked the same.
    """
    first, second = _answers(old), _answers(new)
    if (first.prompts, first.max_tokens) != (second.prompts, second.max_tokens):
        problem = f"{old.server.url} and {new.server.url} were asked different prompts"
        raise DeployError(problem, "measure both with the same --prompts and --max-tokens")
    pairs = tuple(
        Pair(messages, first.max_tokens, one, other)
        for messages, one, other in zip(first.prompts.messages, first.replies, second.replies)
    )
    return Evidence(old.server, new.server, pairs, first.probes, second.probes)


def _answers(measurement: Measurement) -> Answers:
    if measurement.answers is None:
        raise DeployError(f"of {measurement.server.url} no answers were measured", "measure it again with --parity")
    if len(measurement.answers.replies) != len(measurement.answers.prompts.messages):
        raise DeployError(f"the measurement of {measurement.server.url} is incomplete", "measure it again")
    return measurement.answers
