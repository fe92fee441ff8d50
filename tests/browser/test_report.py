"""The report of a rollout in a real browser: at phone and desk width, in the light and in the dark, and on paper."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from deployer.report import write_report
from deployer.runs.events import Event
from tests.browser.chromium import Page
from tests.unit.deployer.report import runs

PHONE, DESK = 360, 1280
RUNS: dict[str, Callable[[], list[Event]]] = {
    "six hosts": runs.six_hosts,
    "many hosts": runs.many,
    "long names": runs.long_names,
    "killed": runs.killed,
    "refused": runs.refused,
    "nothing to do": runs.nothing_to_do,
}
UNFOLD = "document.querySelectorAll('details').forEach(one => { one.open = true; })"
# Elements that reach beyond the window, unless they scroll inside a box of their own.
BEYOND = """[...document.body.querySelectorAll('*')].filter(one => {
  const at = one.getBoundingClientRect();
  return at.width > 0 && (at.right > innerWidth + 0.5 || at.left < -0.5) && !one.closest('thead, pre, .table')
    && !one.closest('.bar');
}).map(one => one.className || one.tagName)"""
# Of every piece of text that is seen, the least contrast with what is behind it (WCAG 2.1, 1.4.3).
FAINT = """(() => {
  const parts = text => text.match(/[\\d.]+/g).map(Number);
  const light = rgb => {
    const [r, g, b] = rgb.slice(0, 3).map(one => one / 255)
      .map(one => one <= 0.04045 ? one / 12.92 : ((one + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const behind = one => {
    for (; one; one = one.parentElement) {
      const colour = parts(getComputedStyle(one).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
      if (colour[3] !== 0) return [NaN, NaN, NaN];
    }
    return [255, 255, 255];
  };
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), found = [];
  while (walker.nextNode()) {
    const one = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !one.checkVisibility({visibilityProperty: true})) continue;
    const [low, high] = [light(parts(getComputedStyle(one).color)), light(behind(one))].sort((a, b) => a - b);
    const contrast = (high + 0.05) / (low + 0.05);
    if (!(contrast >= 4.5)) found.push(`${contrast.toFixed(2)}: ${one.className} ${walker.currentNode.data}`);
  }
  return found;
})()"""


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The page of each run, by its name."""
    folder = tmp_path_factory.mktemp("reports")
    return {name: write_report(runs.write(folder / name, events())) for name, events in RUNS.items()}


@pytest.mark.parametrize("width", [PHONE, 768, DESK])
@pytest.mark.parametrize("name", RUNS)
def test_nothing_reaches_beyond_the_window(tab: Page, reports: dict[str, Path], name: str, width: int) -> None:
    tab.open(reports[name], width)
    tab.value(UNFOLD)
    assert tab.value("innerWidth") == width
    assert tab.value("document.documentElement.scrollWidth") <= width
    assert tab.value(BEYOND) == []


@pytest.mark.parametrize("width", [PHONE, DESK])
def test_every_bar_can_be_seen_and_lies_on_its_axis(tab: Page, reports: dict[str, Path], width: int) -> None:
    tab.open(reports["six hosts"], width)
    bars = tab.value(
        """[...document.querySelectorAll('.bars .bar')].map(one => {
          const at = one.getBoundingClientRect(), on = one.parentElement.getBoundingClientRect();
          return [one.title, at.width, at.height, at.left - on.left, on.right - at.right];
        })"""
    )
    assert len(bars) > 50
    for title, wide, high, before, after in bars:
        assert (wide >= 3, high >= 6, before >= -0.5, after >= -4) == (True,) * 4, title


@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("name", RUNS)
def test_every_host_is_named_where_it_can_be_read(tab: Page, reports: dict[str, Path], name: str, width: int) -> None:
    tab.open(reports[name], width)
    tab.value(UNFOLD)
    shown = tab.value("document.querySelector('#timeline').innerText")
    hosts = {str(host) for event in RUNS[name]() if event.kind == "plan" for host in event.data["hosts"]}
    assert hosts
    assert [host for host in sorted(hosts) if host not in shown] == []


def test_a_bar_shows_its_whole_name_or_none_of_it(tab: Page, reports: dict[str, Path]) -> None:
    tab.open(reports["six hosts"], DESK)
    shown = tab.value(
        """[...document.querySelectorAll('.bars:not(.outages) .bar')].map(one => {
          const bar = one.getBoundingClientRect(), label = one.firstElementChild.getBoundingClientRect();
          const bottom = bar.top + one.clientTop + one.clientHeight;
          return [label.top < bottom - 0.5, label.right <= bar.right + 0.5];
        })"""
    )
    assert [True, True] in shown
    assert [True, False] not in shown


@pytest.mark.parametrize(
    ("dark", "page", "card"), [(False, (244, 246, 248), (255,) * 3), (True, (14, 19, 25), (23, 30, 38))]
)
@pytest.mark.parametrize("width", [PHONE, DESK])
def test_it_is_dark_where_dark_is_preferred(
    tab: Page, reports: dict[str, Path], width: int, dark: bool, page: tuple[int, ...], card: tuple[int, ...]
) -> None:
    tab.open(reports["six hosts"], width, dark)
    assert tab.colour(2, 2) == page
    at = tab.value("(({x, y}) => [x, y])(document.querySelector('#services').getBoundingClientRect())")
    assert tab.colour(at[0] + 8, at[1] + 8) == card


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("name", RUNS)
def test_all_text_stands_out(tab: Page, reports: dict[str, Path], name: str, width: int, dark: bool) -> None:
    tab.open(reports[name], width, dark)
    tab.value(UNFOLD)
    assert tab.value(FAINT) == []


@pytest.mark.parametrize("name", RUNS)
def test_it_asks_nobody_for_anything_and_the_browser_has_nothing_to_complain_of(
    tab: Page, reports: dict[str, Path], name: str
) -> None:
    tab.open(reports[name], DESK)
    assert tab.value("performance.getEntriesByType('resource').length") == 0
    assert tab.requests == [reports[name].as_uri()]
    assert tab.complaints == []


def test_a_label_stands_before_each_cell_where_the_table_is_cards(tab: Page, reports: dict[str, Path]) -> None:
    cell = "document.querySelector('#services td[data-label=Before]')"
    for width, label in ((PHONE, '"Before "'), (DESK, "none")):
        tab.open(reports["six hosts"], width)
        assert tab.value(f"getComputedStyle({cell}, '::before').content") == label


def test_on_paper_it_is_light_and_nothing_is_folded(tab: Page, reports: dict[str, Path]) -> None:
    tab.open(reports["many hosts"], DESK, dark=True)
    seen = "document.querySelector('#services .folded table').checkVisibility()"
    assert tab.value(seen) is False
    tab.call("Emulation.setEmulatedMedia", media="print")
    assert tab.value(seen) is True
    assert tab.value("getComputedStyle(document.body).color") == "rgb(26, 35, 46)"
