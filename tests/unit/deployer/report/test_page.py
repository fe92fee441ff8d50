"""The page of a report: whole HTML, which needs nothing else, with nothing in it that could act on its reader."""

from __future__ import annotations

import dataclasses
import re
import stat
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deployer.report import write_report
from deployer.report.page import page
from deployer.report.reading import Record
from deployer.report.timeline import timeline
from deployer.runs.events import Event
from tests.unit.deployer.report import runs

VOID = {"meta", "br"}
HOSTILE = "<script>alert(1)</script>\u202e\" onmouseover='x' style=\"\x1b[2J{{ 7 * 7 }}"


class Outline(HTMLParser):
    """The tags of a page, their attributes, and its text; refuses what does not nest."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.pieces: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert len({name for name, _ in attrs}) == len(attrs), f"<{tag}> says something twice"
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.pieces.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.pieces).split())


def html_of(folder: Path, events: Iterable[Event], torn: str = "") -> str:
    return write_report(runs.write(folder, events, torn)).read_text(encoding="utf-8")


KINDS = ("run.started", "plan", "task", "step", "progress", "state", "batch", "cutover", "restoring", "interrupted")
KINDS += ("message", "run.ended")
KEYS = ("host", "phase", "service", "kind", "seconds", "phase_seconds", "state", "hosts", "batch", "of", "done", "lost")
KEYS += ("outcome", "failure", "targets", "options", "versions", "inventory", "exit_code", "stopped", "unit", "total")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4) | st.sampled_from(["gpu1", "gate"]),
    lambda some: st.lists(some, max_size=2) | st.dictionaries(st.sampled_from((*KEYS, "gpu1")), some, max_size=3),
    max_leaves=6,
)
EVENTS = st.builds(
    Event, st.sampled_from(KINDS), st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=6), st.floats(0, 1e10)
)


@given(st.lists(EVENTS, max_size=6))
def test_whatever_a_journal_holds_there_is_a_page(events: list[Event]) -> None:
    Outline(page(timeline(Record("run", tuple(events), {}))))


@pytest.mark.parametrize("events", [runs.six_hosts, runs.nothing_to_do, runs.refused, runs.killed, runs.many, list])
def test_a_page_is_well_formed_and_needs_nothing_else(tmp_path: Path, events: Callable[[], list[Event]]) -> None:
    html = html_of(tmp_path, events())
    outline = Outline(html)
    names = {tag for tag, _ in outline.tags}
    assert names.isdisjoint({"script", "link", "img", "iframe", "object", "embed", "form", "base", "svg", "a"})
    attributes = {name for _, attributes in outline.tags for name in attributes}
    assert not [name for name in attributes if name.startswith("on") or name in ("src", "href", "srcset", "action")]
    assert not re.search(r"https?:|url\(|@import", html)
    assert {tag: values for tag, values in outline.tags if "http-equiv" in values}["meta"]["content"].startswith(
        "default-src 'none'; style-src 'unsafe-inline'"
    )


def test_only_its_user_may_read_it_and_an_older_one_is_replaced(tmp_path: Path) -> None:
    runs.write(tmp_path, runs.refused())
    (tmp_path / "report.html").write_text("old", encoding="utf-8")
    path = write_report(tmp_path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert "Rollout refused" in path.read_text(encoding="utf-8")
    assert sorted(one.name for one in tmp_path.iterdir()) == ["events.jsonl", "report.html"]


def test_the_same_run_has_the_same_report(tmp_path: Path) -> None:
    assert html_of(tmp_path, runs.six_hosts()) == html_of(tmp_path, runs.six_hosts())


def test_what_happened_is_said_in_one_sentence_first(tmp_path: Path) -> None:
    text = Outline(html_of(tmp_path, runs.six_hosts())).text
    assert (
        "alice@bastion ran rollout on 6 hosts (gpu1, gpu2, gpu3, gpu4, gpu5, gpu6), limited to gpu-nodes, "
        "on 2026-11-29 02:34:17 UTC; it took 14 min 50 s and ended with exit code 1: failed; every host that had been "
        "cut over is back at what it served before."
    ) in text


@pytest.mark.parametrize(
    ("events", "headline"),
    [
        (runs.six_hosts, "Rollout failed; what served before serves again"),
        (runs.nothing_to_do, "Nothing to do: every service is as it should be"),
        (runs.refused, "Rollout refused; nothing that serves was changed"),
        (runs.killed, "Rollout without an end"),
    ],
)
def test_the_headline_is_what_it_came_to(tmp_path: Path, events: Callable[[], list[Event]], headline: str) -> None:
    assert f"</span> {headline}</h1>" in html_of(tmp_path, events())


def test_all_that_there_is_to_know_is_on_the_page(tmp_path: Path) -> None:
    text = Outline(html_of(tmp_path, runs.six_hosts())).text
    for part in (
        "↩ taken back",
        "✗ unreachable",
        "out 51 s",
        "model 10 min (27.6 GB)",
        "its process ended with exit status 1 while it was loading.",
        "Fix: lower mem_fraction_static",
        "Tried to allocate 1.52 GiB",
        "kv-pool-shared on gpu1, gpu2, gpu3, gpu5",
        "Batch 2 of 3 begun; 1 host done before; lost before: gpu6",
        "no further batch is begun: 2 of 6 hosts failed",
        "Option batches 1, 50%, 100%",
        "ansible-core 2.18.6",
        "Inventory's sha256 5f2c9e",
    ):
        assert part in text
    assert "[31m" not in text


def test_a_killed_run_says_that_its_end_was_not_seen(tmp_path: Path) -> None:
    text = Outline(html_of(tmp_path, runs.killed(), torn='{"sch')).text
    assert "The end of this run was not seen: the command was killed, or is still running" in text
    assert "out for at least 12 s" in text
    assert "1 line of the journal could not be read" in text


def test_every_one_of_many_hosts_is_named_and_those_that_need_nobody_are_folded(tmp_path: Path) -> None:
    html = html_of(tmp_path, runs.many(100))
    outline = Outline(html)
    for number in range(1, 101):
        assert f"gpu-node-{number:03d}." in outline.text
    assert "199 services that need nobody" in outline.text
    shown = html.partition("services that need nobody")[0]
    assert "gpu-node-100." in shown
    assert "gpu-node-050." not in shown


def test_hosts_on_which_the_same_failed_are_told_together(tmp_path: Path) -> None:
    text = Outline(html_of(tmp_path, runs.refused())).text
    assert text.count("the plan has 1 error: weights-do-not-fit.") == 1


def test_what_hosts_say_is_shown_and_not_obeyed(tmp_path: Path) -> None:
    events = [_with(HOSTILE, one) for one in (*runs.six_hosts(), runs.event(70, "step", host=HOSTILE, kind="failed"))]
    html = html_of(tmp_path, events)
    outline = Outline(html)
    assert "script" not in {tag for tag, _ in outline.tags}
    assert not [name for _, attributes in outline.tags for name in attributes if name.startswith("on")]
    assert "<script>alert(1)</script>" in outline.text
    assert "{{ 7 * 7 }}" in outline.text
    assert not [char for char in html if not char.isprintable() and char != "\n"]
    styles = [attributes["style"] for _, attributes in outline.tags if "style" in attributes]
    assert styles
    assert all(re.fullmatch(r"left:[\d.]+%(;width:[\d.]+%)?", style) for style in styles)


def test_a_bar_has_its_name_and_how_long_it_was_beside_its_colour(tmp_path: Path) -> None:
    outline = Outline(html_of(tmp_path, runs.six_hosts()))
    titles = [
        values["title"] for tag, values in outline.tags if tag == "div" and "bar" in values.get("class", "").split()
    ]
    assert "model, 10 min" in titles
    assert "cut-over, 55 s, failed" in titles
    assert "out 51 s" in titles
    assert all(titles)


def test_bars_stay_within_their_axis(tmp_path: Path) -> None:
    for events in (runs.six_hosts(), runs.killed(), runs.many(40)):
        outline = Outline(html_of(tmp_path, events))
        for _, values in outline.tags:
            if "width" in values.get("style", ""):
                left, width = map(float, re.findall(r"[\d.]+", values["style"]))
                assert left + width <= 100.01


def test_a_folder_without_events_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"events\.jsonl"):
        write_report(tmp_path)


def _with(name: str, event: Event) -> Event:
    """The event with `name` in place of gpu3, of the log, and of every text that people read."""
    said = {key: name for key in ("reason", "log", "message", "text", "task", "initiator", "why") if key in event.data}
    data = {**event.data, **said}
    if data.get("host") == "gpu3":
        data["host"] = name
    if "hosts" in data and isinstance(data["hosts"], dict):
        data["hosts"] = {name if host == "gpu3" else host: one for host, one in data["hosts"].items()}
    return dataclasses.replace(event, data=data)
