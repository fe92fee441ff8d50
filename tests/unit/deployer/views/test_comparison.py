"""What an operator sees of a comparison."""

from __future__ import annotations

import dataclasses
import io

import pytest
from rich.console import Console

from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import Reply, Step
from deployer.api.comparisons import Comparison, compare
from deployer.views.comparison import show_load, show_parity, show_servers
from tests.unit.deployer.compare import recorded


@pytest.fixture
def compared() -> Comparison:
    return compare(recorded.llamafactory(), recorded.sglang(), no_worse=1.0)


def printed(compared: Comparison, width: int = 100) -> str:
    stream = io.StringIO()
    console = Console(file=stream, width=width)
    assert compared.parity is not None and compared.load is not None
    show_servers(console, compared.old.server, compared.new.server)
    show_parity(console, compared.parity)
    show_load(console, compared.load)
    return stream.getvalue()


def test_a_prompt_has_its_lengths_how_it_ends_and_where_texts_differ(compared: Comparison) -> None:
    text = printed(compared)
    assert "LLaMA-Factory at http://gpu1:8001, model tiny, 2 CPUs, no GPU; --template qwen" in " ".join(text.split())
    assert "Write a SQL query for the ten customers wit…   185 → 107" in text
    assert "length   differs at 1" in text
    assert "8 of 8 prompts are answered differently" in text


def test_both_servers_stand_below_each_other_at_each_rate(compared: Comparison) -> None:
    lines = printed(compared).splitlines()
    at = next(number for number, line in enumerate(lines) if line.strip().startswith("1/s"))
    assert (lines[at].split()[1], lines[at + 1].split()[0]) == ("old", "new")
    assert lines[at].split()[-1] == "0/8"
    assert any(line.startswith("old is better at: throughput at every rate") for line in lines)
    assert any(line.startswith("worse than allowed: 1 request/s: p99") for line in lines)


def test_a_table_keeps_all_its_figures_at_80_columns(compared: Comparison) -> None:
    assert "0/8" in printed(compared, width=80)


def test_what_a_server_says_does_not_act_on_the_terminal(compared: Comparison) -> None:
    assert compared.parity is not None and compared.load is not None
    pair = dataclasses.replace(compared.parity.pairs[0], new=Reply(error="\x1b[2J[red]gone"))
    parity = dataclasses.replace(compared.parity, pairs=(pair,))
    figures = dataclasses.replace(compared.load.new_figures[0], errors=("\x1b]0;x\x07",))
    load = dataclasses.replace(compared.load, new_figures=(figures, *compared.load.new_figures[1:]))
    text = printed(dataclasses.replace(compared, parity=parity, load=load))
    assert "\x1b" not in text and "\x07" not in text and "[red]gone" in text


def test_a_rate_that_was_not_measured_says_why() -> None:
    new = recorded.sglang()
    assert new.load is not None
    steps = (*new.load.steps[:-1], Step(new.load.steps[-1].rate, problem="ValueError: Warmup failed"))
    text = printed(
        compare(recorded.llamafactory(), dataclasses.replace(new, load=dataclasses.replace(new.load, steps=steps)))
    )
    assert "new, all at once: ValueError: Warmup failed" in text
