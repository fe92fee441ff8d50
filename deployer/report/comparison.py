"""The report of a comparison: one HTML file, with its plots, which needs nothing else to be read."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.deployer.sglang.plugins.module_utils.files import write_file
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.figures import rate_words
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import Measurement
from deployer.compare.judging import EQUAL, NEW, OLD, LoadComparison, verdict
from deployer.compare.parity import Parity
from deployer.report import plots
from deployer.report.markup import template
from deployer.report.words import counted

REPORT = "report.html"
TEMPLATE = "comparison.html.j2"
FEW = 100  # requests: of fewer, p99 is almost the slowest one


@dataclass(frozen=True)
class Tile:
    """A number at the top: its look, what it is, what it counts."""

    tone: str
    number: str
    says: str


def write_comparison(
    folder: Path, old: Measurement, new: Measurement, parity: Parity | None, load: LoadComparison | None
) -> Path:
    """Write the report of a comparison.

    Args:
        folder: that it is written to.
        old, new: what was measured.
        parity, load: what it comes to; None where it was not measured.

    Returns:
        The path of the HTML file, which only its user may read.

    Raises:
        OSError: it cannot be written.
    """
    path = folder / REPORT
    write_file(str(path), page(old, new, parity, load), mode=0o600)
    return path


def page(old: Measurement, new: Measurement, parity: Parity | None, load: LoadComparison | None) -> str:
    """The HTML of a comparison."""
    html: str = template(TEMPLATE).render(
        old=old,
        new=new,
        sides=((OLD, old), (NEW, new)),
        parity=parity,
        load=load,
        headline=headline(parity, load),
        tone=tone(parity, load),
        tiles=list(_tiles(parity, load)),
        verdict=verdict(load) if load else {},
        plots=plots.plots(load) if load else (),
        area=plots,
        rate=rate_words,
        settings=list(_settings(load)) if load else [],
        caveats=list(_caveats(load)) if load else [],
        short=plots.short,
    )
    return html


def headline(parity: Parity | None, load: LoadComparison | None) -> str:
    """What the comparison comes to, in a line."""
    parts = []
    if parity is not None:
        parts.append("Answers differ" if parity.differing else "The same answers")
    if load is not None:
        wins = {who: sum(one.better == who for one in load.judgements) for who in (OLD, NEW)}
        if wins[OLD] == wins[NEW]:
            parts.append("neither server is better at more than the other")
        else:
            better, other = (NEW, OLD) if wins[NEW] > wins[OLD] else (OLD, NEW)
            parts.append(f"the {better} server is better at {wins[better]} figures, the {other} one at {wins[other]}")
    text = "; ".join(parts)
    return text[:1].upper() + text[1:]


def tone(parity: Parity | None, load: LoadComparison | None) -> str:
    """The look of the headline."""
    codes = [one.exit_code for one in (parity, load) if one is not None]
    return ("good", "warn", "bad")[max(codes)]


def _tiles(parity: Parity | None, load: LoadComparison | None) -> Iterator[Tile]:
    if parity is not None:
        differing = len(parity.differing)
        yield Tile(
            "warn" if differing else "good",
            f"{differing} of {len(parity.pairs)}",
            "prompts are answered differently",
        )
    if load is not None:
        for who, look in ((NEW, "good"), (OLD, "warn"), (EQUAL, "quiet")):
            number = sum(one.better == who for one in load.judgements)
            yield Tile(
                look, str(number), "figures are the same" if who == EQUAL else f"figures: the {who} one is better"
            )
        failed = sum(one.failed for one in load.new_figures)
        sent = sum(one.sent for one in load.new_figures)
        yield Tile("bad" if failed else "good", f"{failed} of {sent}", "requests of the new one failed")


def _settings(load: LoadComparison) -> Iterator[tuple[str, str]]:
    settings, made = load.new_load.settings, load.new_load
    yield "Rates", ", ".join(map(rate_words, settings.rates))
    yield "Requests", f"{settings.requests} at each rate, at times of a Poisson process"
    yield (
        "Answers",
        f"streams of up to {counted(settings.max_tokens, 'token')} at temperature 0, to where the model ends",
    )
    yield "A request fails", f"without an answer within {settings.timeout:g} s, and where the server says so"
    yield "Prompts", f"{made.prompts.name}, sha256 {made.prompts.sha256}"
    yield "Seed", str(settings.seed)
    for who, one in ((OLD, load.old_load), (NEW, load.new_load)):
        yield f"Load of the {who} one", f"{one.generator}, on {one.client}, tokens counted by {one.tokenizer}"


def _caveats(load: LoadComparison) -> Iterator[str]:
    if load.new_load.settings.requests < FEW:
        yield (
            f"{load.new_load.settings.requests} requests a rate: p99 is almost the slowest of them. "
            "For a figure to rely on, measure with --requests 200 or more."
        )
    if load.old_load.client != load.new_load.client:
        yield "The two loads were made on different machines."
    if load.old_load.generator != load.new_load.generator:
        yield "The two loads were made by different versions of the benchmark."
    tokens = [
        (old.tokens, new.tokens)
        for old, new in zip(load.old_figures, load.new_figures, strict=True)
        if old.tokens and new.tokens
    ]
    if any(max(pair) > 1.2 * min(pair) for pair in tokens):
        yield (
            "The servers answer with differently many tokens, so end-to-end latencies are not those of the same work: "
            "look at the time per output token."
        )
    for who, every in ((OLD, load.old_figures), (NEW, load.new_figures)):
        bursts = sum(one.bursts for one in every)
        if bursts:
            yield (
                f"{counted(bursts, 'answer')} of the {who} server came in so few pieces that the time of a token "
                "cannot be told; they do not count there."
            )
    if any(math.isinf(one) for one in load.new_load.settings.rates):
        yield "All at once shows the most that a server can do, not what a client sees at a usual time."
