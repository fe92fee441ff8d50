"""Servers that speak the OpenAI API: what one answers and how fast, measured, and two measurements compared."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.measuring import asking, load, parity
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import (
    LoadSettings,
    Measurement,
    now,
)
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.prompts import Prompts, built_in
from deployer.compare import judging
from deployer.compare.client import api_key, client
from deployer.compare.explanations import explanations, notes
from deployer.compare.judging import LoadComparison
from deployer.compare.maker import Maker
from deployer.compare.parity import Parity
from deployer.compare.prompt_file import read_prompts
from deployer.compare.record import load_file, save
from deployer.wording import printable

MAX_TOKENS = 64  # of an answer that is asked for parity

Say = Callable[[str], None]


@dataclass(frozen=True)
class LoadBy:
    """A load, and what makes it.

    Args:
        maker: an environment that has SGLang, whose serving benchmark is used, here or on a host.
        tokenizer: folder of the model, where the load is made; its tokenizer counts tokens.
        settings: rates, requests, bounds.
    """

    maker: Maker
    tokenizer: str
    settings: LoadSettings = field(default_factory=LoadSettings)


@dataclass(frozen=True)
class Comparison:
    """Two servers compared.

    Args:
        old, new: what was measured of each.
        parity: whether they answer alike; None where that was not measured of both.
        load: how they do under load; None where that was not measured of both.
    """

    old: Measurement
    new: Measurement
    parity: Parity | None
    load: LoadComparison | None

    @property
    def exit_code(self) -> int:
        """0 the same answers, and as fast as was asked for; 1 not; 2 a load could not be measured."""
        return max(one.exit_code for one in (self.parity, self.load) if one is not None)

    @property
    def as_json(self) -> dict[str, Any]:
        """For programs, with all answers and figures."""
        from deployer.compare.as_json import comparison_as_json

        return comparison_as_json(self.old, self.new, self.parity, self.load, self.exit_code)


def measure(
    url: str,
    *,
    model: str = "",
    prompts: Prompts | None = None,
    max_tokens: int = MAX_TOKENS,
    ask: bool = True,
    put_under: LoadBy | None = None,
    about: str = "",
    say: Say = lambda text: None,
) -> Measurement:
    """Measure one server: its answers at temperature 0, and what it does under load.

    A key that it wants is taken from the environment variable OPENAI_API_KEY.

    Args:
        url: of the server, such as http://gpu1:8001.
        model: the name to ask for; '' for the first that it lists.
        prompts: to ask; None for a small set of questions about SQL.
        max_tokens: that each of the answers may have.
        ask: ask for answers; False for a load alone.
        put_under: the load; None for none.
        about: what is to be known of it: hardware, flags.
        say: told how far it is.

    Raises:
        DeployError: it does not answer, or the load cannot be made.
    """
    chosen = prompts or built_in()
    if put_under is not None:
        load.check(put_under.settings)
        put_under.maker.check()
        tokenizer = put_under.maker.tokenizer_at(put_under.tokenizer)
    http = client()
    server = asking.identify(http, url, model, about)
    answers = asking.ask(http, server, chosen, max_tokens, say) if ask else None
    made = None
    if put_under is not None:
        made = load.put_under_load(server, chosen, put_under.settings, put_under.maker, tokenizer, api_key(), say)
    return Measurement(server, now(), answers, made)


def compare(
    old: Measurement, new: Measurement, *, rendering_only: bool = False, no_worse: float | None = None
) -> Comparison:
    """Compare what was measured of two servers; contacts nobody.

    Args:
        old, new: the measurements, of the same prompts and the same load.
        rendering_only: that prompts are rendered alike is enough; texts may differ.
        no_worse: how many times the old server's p99 end-to-end latency the new one's may be, with no more failures.

    Raises:
        DeployError: they were not measured alike, nothing was measured of both, or both refuse all prompts.
    """
    if old.answers is None and old.load is None:
        raise DeployError(f"nothing was measured of {old.server.url}", "measure it with --parity or --load")
    answers, loads = None, None
    if old.answers is not None and new.answers is not None:
        seen = parity.evidence(old, new)
        if seen.pairs and all(one.old.error and one.new.error for one in seen.pairs):
            raise DeployError(f"both refuse all prompts: {printable(seen.pairs[0].new.error)}", "correct the prompts")
        found = explanations(seen)
        answers = Parity(seen.old, seen.new, tuple(seen.pairs), found, notes(seen), rendering_only)
    if old.load is not None and new.load is not None:
        loads = judging.compare_load(old, new, no_worse)
    if answers is None and loads is None:
        raise DeployError("not the same was measured of both", "measure both with --parity, or both with --load")
    return Comparison(old, new, answers, loads)


@dataclass(frozen=True)
class Asked:
    """What was measured of a server, so that the same can be measured of another.

    Args:
        prompts: that were asked.
        max_tokens: that each answer might have.
        ask: whether answers were asked for.
        load: that it was put under; None for none.
    """

    prompts: Prompts | None = None
    max_tokens: int = MAX_TOKENS
    ask: bool = True
    load: LoadSettings | None = None

    @classmethod
    def of(cls, old: Measurement) -> Asked:
        """As `old` was measured.

        Raises:
            DeployError: nothing was measured of it.
        """
        first = old.answers or old.load
        if first is None:
            raise DeployError(f"nothing was measured of {old.server.url}", "measure it with --parity or --load")
        most = old.answers.max_tokens if old.answers else MAX_TOKENS
        return cls(first.prompts, most, old.answers is not None, old.load.settings if old.load else None)


def options_of(old: Measurement, maker: Maker | None = None, tokenizer: str = "") -> Mapping[str, Any]:
    """The options with which `measure` measures another server as `old` was measured.

    Args:
        old: the measurement.
        maker: what makes the load, where `old` was put under one.
        tokenizer: as in LoadBy.

    Raises:
        DeployError: `old` was put under load, and no environment for another is named.
    """
    asked = Asked.of(old)
    if asked.load is not None and maker is None:
        raise DeployError(f"{old.server.url} was put under load", "give --python an environment that has SGLang")
    made = LoadBy(maker, tokenizer, asked.load) if asked.load is not None and maker is not None else None
    return {"prompts": asked.prompts, "max_tokens": asked.max_tokens, "ask": asked.ask, "put_under": made}


__all__ = [
    "Asked",
    "Comparison",
    "LoadBy",
    "LoadSettings",
    "Maker",
    "Measurement",
    "compare",
    "load_file",
    "measure",
    "options_of",
    "read_prompts",
    "save",
]
