"""What an operator sees of a comparison."""

from __future__ import annotations

import math
from collections.abc import Iterator

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ansible_collections.deployer.sglang.plugins.module_utils.measuring.figures import Figures, Percentiles, rate_words
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import Server
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.parity import REFUSAL, TEXT, TOKENS, Pair
from deployer.compare.judging import EQUAL, NEW, OLD, UNKNOWN, LoadComparison, verdict
from deployer.compare.parity import Explanation, Parity
from deployer.views.console import shown
from deployer.wording import counted

QUESTION = 44  # columns of a prompt
BETTER = {NEW: "green", OLD: "yellow", EQUAL: "dim", UNKNOWN: "dim"}


def show_servers(console: Console, old: Server, new: Server) -> None:
    """Who is compared."""
    for who, server in (("old", old), ("new", new)):
        about = f", {server.about}" if server.about else ""
        console.print(f"{who}  {shown(f'{server.name} at {server.url}, model {server.model}{about}')}", highlight=False)


def show_parity(console: Console, parity: Parity) -> None:
    """Each prompt, and why answers differ."""
    table = Table(title="Parity, at temperature 0", title_justify="left", box=box.SIMPLE)
    table.add_column("prompt", overflow="fold")
    for column in ("prompt tokens", "ends", "text"):
        table.add_column(column, no_wrap=True)
    for pair in parity.pairs:
        table.add_row(
            shown(question(pair, QUESTION)), *map(shown, _cells(pair)), style="" if pair.differences else "dim"
        )
    console.print(table)
    said = (
        f"{counted(len(parity.pairs), 'prompt')}, all answered alike"
        if not parity.differing
        else f"{len(parity.differing)} of {counted(len(parity.pairs), 'prompt')} are answered differently"
    )
    said += ", texts aside" if parity.rendering_only else ""
    console.print(said, style="red" if parity.differing else "green", highlight=False)
    for kind, entries in (("why", parity.explanations), ("note", parity.notes)):
        for one in entries:
            show_explanation(console, kind, one)


def show_explanation(console: Console, kind: str, one: Explanation) -> None:
    """A cause, and what removes it."""
    console.print(f"[bold]{kind}[/]  {one.id}: {shown(one.says)}", highlight=False)
    if one.fix:
        console.print(f"     fix: {shown(one.fix)}", highlight=False)


def question(pair: Pair, most: int) -> str:
    """The beginning of what the user asks last, with `system +` where there is a system message."""
    asked = next((str(one.get("content") or "") for one in reversed(pair.messages) if one.get("role") == "user"), "")
    text = Text(("system + " if pair.has_system else "") + " ".join(asked.split()))
    text.truncate(most, overflow="ellipsis")
    return text.plain


def _cells(pair: Pair) -> Iterator[str]:
    if REFUSAL in pair.differences:
        yield from ("", "", f"refused: {(pair.old.error or pair.new.error)[:80]}")
        return
    if pair.old.error:
        yield from ("", "", "refused by both")
        return
    old, new = (("-" if one is None else str(one)) for one in (pair.old.prompt_tokens, pair.new.prompt_tokens))
    yield f"{old} → {new}" if TOKENS in pair.differences else old
    ends = (pair.old.finish_reason, pair.new.finish_reason)
    yield ends[0] if ends[0] == ends[1] else " → ".join(ends)
    yield f"differs at {pair.alike + 1}" if TEXT in pair.differences else "same"


def show_load(console: Console, load: LoadComparison) -> None:
    """The figures at every rate, and who is better at what."""
    table = Table(title="Load", title_justify="left", box=box.SIMPLE)
    table.add_column("rate", no_wrap=True)
    table.add_column("", no_wrap=True)
    for column in ("first token s", "token ms", "latency s"):
        table.add_column(f"{column}\np50 / p90 / p99", justify="right", no_wrap=True)
    for column in ("tokens/s", "failed"):
        table.add_column(column, justify="right", no_wrap=True)
    for old, new in zip(load.old_figures, load.new_figures, strict=True):
        for who, one in ((OLD, old), (NEW, new)):
            table.add_row(_rate(one) if who == OLD else "", who, *_figures(one))
    console.print(table)
    words = verdict(load)
    for who, label in ((NEW, "new is better at"), (OLD, "old is better at"), (EQUAL, "the same"), (UNKNOWN, UNKNOWN)):
        for line in words[who] or (("nothing",) if who in (OLD, NEW) else ()):
            console.print(f"[{BETTER[who]}]{label}[/]: {shown(line)}", highlight=False)
    for who, every in ((OLD, load.old_figures), (NEW, load.new_figures)):
        for one in every:
            for text in (one.problem, *one.errors[:3]):
                if text:
                    console.print(f"{who}, {rate_words(one.rate)}: {shown(text)}", style="red", highlight=False)
    for miss in load.misses:
        console.print(f"worse than allowed: {shown(miss)}", style="red", highlight=False)


def _rate(one: Figures) -> str:
    return "max" if math.isinf(one.rate) else f"{one.rate:g}/s"


def _figures(one: Figures) -> tuple[str, ...]:
    if one.problem:
        return ("-",) * 5
    return (
        spread(one.first_token),
        spread(one.token, 1000),
        spread(one.latency),
        f"{one.tokens_per_second:.1f}",
        f"{one.failed}/{one.sent}",
    )


def spread(times: Percentiles | None, unit: float = 1) -> str:
    """The three percentiles, so many to the second."""
    if times is None:
        return "-"
    return " / ".join(number(one * unit) for one in (times.p50, times.p90, times.p99))


def number(value: float) -> str:
    """Three digits."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
