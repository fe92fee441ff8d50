"""What the benchmark of weights concludes from its figures."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.table import Table

from tests.benchmarks.weights.report import (
    BITTORRENT,
    HOP_RELAY,
    HOP_RSYNC,
    RELAY,
    RSYNC,
    Results,
    bars,
    hop_table,
    host_counts,
    last_lines,
    shaped_table,
)
from tests.benchmarks.weights.timing import Timing


def results(relay: float = 10.3, hop: float = 1.0) -> Results:
    curves = {RSYNC: {1: 10.1, 8: 81.0}, BITTORRENT: {1: 10.2, 8: 12.0}, RELAY: {1: 10.1, 8: relay}}
    return Results(200_000_000, 10.0, curves, {HOP_RSYNC: 2.4, HOP_RELAY: hop}, hop_size=200_000_000)


def printed(table: Table) -> str:
    console = Console(file=io.StringIO(), width=120)
    console.print(table)
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_a_transfer_takes_from_the_first_start_to_the_last_landing() -> None:
    assert Timing({"a": 5.0, "b": 7.0}, {"a": 9.0, "b": 8.5}).seconds == 4.0


@pytest.mark.parametrize(("most", "counts"), [(1, [1]), (2, [1, 2]), (6, [1, 2, 4, 6]), (8, [1, 2, 4, 8])])
def test_hosts_are_doubled_up_to_all(most: int, counts: list[int]) -> None:
    assert host_counts(most) == counts


def test_it_ends_with_the_line_of_a_benchmark() -> None:
    hop, chain = last_lines(results())
    assert hop == "speed of one hop with TLS and verification, of rsync over ssh: 2.40, limit 2.00"
    assert chain == "bench-weights: ratio 1.03, limit 1.05"
    assert results().within_limits


@pytest.mark.parametrize("measured", [results(relay=10.6), results(hop=1.3)])
def test_either_limit_fails_it(measured: Results) -> None:
    assert not measured.within_limits


def test_what_was_not_measured_proves_nothing() -> None:
    without = Results(1, 10.0, {RSYNC: {1: 10.0}})
    assert not without.within_limits
    assert last_lines(without)[-1] == "bench-weights: ratio not measured, limit 1.05"


def test_the_tables_have_every_way() -> None:
    shaped = printed(shaped_table(results(), "160mbit"))
    assert all(text in shaped for text in ("200 MB over links of 160mbit", "8 hosts", "81.0", "8.10", "12.0", "1.03"))
    hop = printed(hop_table(results()))
    assert all(text in hop for text in ("83", "200", "2.40"))


def test_bars_are_as_long_as_it_took() -> None:
    lines = bars({RSYNC: {1: 10.0, 2: 20.0}}, 10.0)
    assert [line.count("█") for line in lines] == [25, 25, 50]
    assert lines[0].startswith("one copy")
