"""The report of a comparison in a real browser: its plots are there, on a phone and a desk, in the light and dark."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import Measurement, Request, Step
from deployer.api.comparisons import compare
from deployer.report.comparison import write_comparison
from tests.browser.chromium import Page
from tests.browser.test_report import BEYOND, DESK, FAINT, PHONE, UNFOLD
from tests.unit.deployer.compare import recorded

# Every shape of a plot that is drawn: its kind, how large, and whether it lies on its drawing.
SHAPES = """[...document.querySelectorAll('figure')].map(figure => {
  const on = figure.querySelector('svg').getBoundingClientRect();
  return [...figure.querySelectorAll('.median, .whisker, rect')].map(one => {
    const at = one.getBoundingClientRect();
    return [one.tagName, at.height + at.width > 2,
            at.left >= on.left && at.right <= on.right && at.top >= on.top && at.bottom <= on.bottom];
  });
})"""
# Texts of a plot that lie on each other, or beyond the drawing.
CROWDED = """[...document.querySelectorAll('svg')].flatMap(svg => {
  const on = svg.getBoundingClientRect();
  const texts = [...svg.querySelectorAll('text')].map(one => [one.textContent, one.getBoundingClientRect()]);
  return texts.filter(([text, at], number) => at.left < on.left - 0.5 || at.right > on.right + 0.5
    || texts.slice(number + 1).some(([other, to]) =>
      at.left < to.right && to.left < at.right && at.top + 2 < to.bottom && to.top + 2 < at.bottom))
    .map(([text]) => text);
})"""
COLOURS = """[...document.querySelectorAll('figure .median, figure rect')].map(one => {
  const style = getComputedStyle(one); return [one.classList.contains('new'), style.fill, style.stroke];
})"""


def failing(measurement: Measurement) -> Measurement:
    """Half of its requests fail, one rate was not measured, and its texts are long."""
    assert measurement.load is not None and measurement.answers is not None
    first, second, *_ = measurement.load.steps
    requests = tuple(Request(0, 0, 0, 0, "x" * 180) if number % 2 else one for number, one in enumerate(first.requests))
    steps = (
        dataclasses.replace(first, requests=requests),
        second,
        Step(float("inf"), problem="ValueError: Warmup failed"),
    )
    replies = tuple(dataclasses.replace(one, text="SELECT" * 300) for one in measurement.answers.replies)
    return dataclasses.replace(
        measurement,
        server=dataclasses.replace(measurement.server, model="/data/saves/" + "qwen3-14b-ft-" * 12, about="H100 " * 60),
        load=dataclasses.replace(measurement.load, steps=steps),
        answers=dataclasses.replace(measurement.answers, replies=replies),
    )


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both reports, by their names: of the recorded engines, and of one that fails."""
    written = {}
    for name, new in (("recorded", recorded.sglang()), ("failing", failing(recorded.sglang()))):
        found = compare(recorded.llamafactory(), new, no_worse=1.0)
        folder = tmp_path_factory.mktemp("comparison")
        written[name] = write_comparison(folder, found.old, found.new, found.parity, found.load)
    return written


NAMES = ("recorded", "failing")


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_every_plot_is_drawn_and_all_that_is_in_it_can_be_seen(
    tab: Page,
    reports: dict[str, Path],
    width: int,
) -> None:
    tab.open(reports["recorded"], width)
    shapes = tab.value(SHAPES)
    assert [len(one) for one in shapes] == [12, 6, 12, 6], "of times both servers at three rates, but for bursts"
    assert {tuple(shape[1:]) for one in shapes for shape in one} == {(True, True)}
    assert tab.value(CROWDED) == []


@pytest.mark.parametrize("width", [PHONE, 768, DESK])
@pytest.mark.parametrize("name", NAMES)
def test_nothing_reaches_beyond_the_window(
    tab: Page,
    reports: dict[str, Path],
    name: str,
    width: int,
) -> None:
    tab.open(reports[name], width)
    tab.value(UNFOLD)
    assert tab.value("document.documentElement.scrollWidth") <= width
    assert tab.value(BEYOND) == []


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_all_text_stands_out(tab: Page, reports: dict[str, Path], name: str, dark: bool) -> None:
    for width in (PHONE, DESK):
        tab.open(reports[name], width, dark)
        tab.value(UNFOLD)
        assert tab.value(FAINT) == []


def test_old_and_new_have_colours_of_their_own_in_the_light_and_in_the_dark(
    tab: Page,
    reports: dict[str, Path],
) -> None:
    seen = []
    for dark in (False, True):
        tab.open(reports["recorded"], DESK, dark)
        colours = {new: {stroke for is_new, _, stroke in tab.value(COLOURS) if is_new == new} for new in (False, True)}
        assert len(colours[False]) == len(colours[True]) == 1 and colours[False] != colours[True]
        seen.append(colours)
    assert seen[0] != seen[1]


@pytest.mark.parametrize("name", NAMES)
def test_it_asks_nobody_for_anything_and_the_browser_has_nothing_to_complain_of(
    tab: Page,
    reports: dict[str, Path],
    name: str,
) -> None:
    tab.open(reports[name], DESK)
    assert tab.requests == [reports[name].as_uri()]
    assert tab.complaints == []
