"""The report of a comparison."""

from __future__ import annotations

import dataclasses
import stat
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import Measurement, Reply, Step
from deployer.api.comparisons import Comparison, compare
from deployer.report import plots
from deployer.report.comparison import headline, page, write_comparison
from tests.unit.deployer.compare import recorded


def compared(old: Measurement | None = None, new: Measurement | None = None, **options: Any) -> Comparison:
    return compare(old or recorded.llamafactory(), new or recorded.sglang(), **options)


def html(found: Comparison) -> str:
    return page(found.old, found.new, found.parity, found.load)


def test_it_says_which_is_better_at_what_also_where_it_is_the_old_one() -> None:
    text = html(compared())
    assert "The old one is better at" in text and "throughput at every rate" in text
    assert "Answers differ; the old server is better at" in text


def test_it_names_hardware_versions_flags_dataset_and_seed() -> None:
    text = html(compared())
    for said in (
        "2 CPUs, no GPU; --template qwen",
        "SGLang 0.5.23",
        "sglang.benchmark.serving of SGLang 0.5.23",
        "max_running_requests=8",
        recorded.sglang().load.prompts.sha256,  # type: ignore[union-attr]
        "<dt>Seed</dt><dd>1</dd>",
        "bastion, 2 CPUs",
    ):
        assert said in text, said


def test_it_says_what_the_figures_are_not_good_for() -> None:
    text = html(compared())
    assert "8 requests a rate: p99 is almost the slowest of them" in text
    assert "came in so few pieces" in text


def test_what_servers_say_is_shown_and_not_obeyed() -> None:
    old = recorded.llamafactory()
    assert old.answers is not None
    bad = Reply(1, 1, "stop", "<script>alert(1)</script>\x1b[31m\u202egnp.exe")
    answers = dataclasses.replace(old.answers, replies=(bad, *old.answers.replies[1:]))
    server = dataclasses.replace(old.server, about="<img src=x>")
    text = html(compared(dataclasses.replace(old, answers=answers, server=server)))
    assert "<script>" not in text and "<img" not in text and "\x1b" not in text and "\u202e" not in text
    assert "&lt;script&gt;" in text


def test_a_part_that_was_not_measured_is_left_out() -> None:
    old, new = recorded.llamafactory(), recorded.sglang()
    answers = html(compared(dataclasses.replace(old, load=None), dataclasses.replace(new, load=None)))
    loads = html(compared(dataclasses.replace(old, answers=None), dataclasses.replace(new, answers=None)))
    assert "Under load" not in answers and "Answers at temperature 0" in answers
    assert "Under load" in loads and "Answers at temperature 0" not in loads


def test_servers_that_are_equal_are_said_to_be() -> None:
    found = compared(recorded.sglang(), recorded.sglang())
    assert headline(found.parity, found.load) == "The same answers; neither server is better at more than the other"
    assert "8 prompts, all answered alike" in html(found)


def test_a_rate_that_was_not_measured_is_a_row_of_its_own() -> None:
    new = recorded.sglang()
    assert new.load is not None
    steps = (*new.load.steps[:-1], Step(new.load.steps[-1].rate, problem="ValueError: Warmup failed"))
    text = html(compared(new=dataclasses.replace(new, load=dataclasses.replace(new.load, steps=steps))))
    assert "not measured: ValueError: Warmup failed" in text and "Not measured: new, all at once" in text


def test_only_its_user_may_read_it(tmp_path: Path) -> None:
    found = compared()
    path = write_comparison(tmp_path, found.old, found.new, found.parity, found.load)
    assert path == tmp_path / "report.html" and stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("values", "low", "high", "logarithmic"),
    [
        ([0.3, 1.7], 0.0, 2.0, False),
        ([150.0, 178.0], 0.0, 200.0, False),
        ([0.02, 9.0], 0.01, 10.0, True),
        ([], 0.0, 1.0, False),
        ([0.0], 0.0, 1.0, False),
    ],
)
def test_an_axis_has_round_ends_and_is_logarithmic_where_figures_are_far_apart(
    values: list[float], low: float, high: float, logarithmic: bool
) -> None:
    scale = plots.scale_of(values)
    assert (scale.low, scale.high, scale.logarithmic) == (low, high, logarithmic)
    assert [scale.at(low or 1e-9), scale.at(high)] == [plots.BOTTOM, plots.TOP]
    marks = plots.ticks_of(scale)
    assert marks[0].at == plots.BOTTOM and marks[-1].at == plots.TOP and 3 <= len(marks) <= 6


def test_every_mark_stands_on_the_drawing_in_the_order_of_its_percentiles() -> None:
    load = compared().load
    assert load is not None
    drawn = plots.plots(load)
    assert [one.title.partition(",")[0] for one in drawn] == [
        "Time to first token",
        "Time per output token",
        "End-to-end latency",
        "Throughput",
    ]
    for one in drawn:
        for mark in one.ranges:
            assert plots.BOTTOM >= mark.p50 >= mark.p90 >= mark.p99 >= plots.TOP
            assert plots.LEFT < mark.x < plots.RIGHT
        for bar in one.bars:
            assert bar.y + bar.height == pytest.approx(plots.BOTTOM) and bar.height > 0


def test_failures_are_drawn_where_there_are_some() -> None:
    new = recorded.sglang()
    assert new.load is not None
    first = new.load.steps[0]
    failed = dataclasses.replace(first.requests[0], error="TimeoutError")
    steps = (dataclasses.replace(first, requests=(failed, *first.requests[1:])), *new.load.steps[1:])
    load = compared(new=dataclasses.replace(new, load=dataclasses.replace(new.load, steps=steps))).load
    assert load is not None
    assert plots.plots(load)[-1].title == "Failed requests, %"
