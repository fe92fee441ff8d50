"""What history shows, and which `lock` is meant."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console
from typer.testing import CliRunner

from deployer.cli import main as cli
from deployer.cli.history import history_tables

RUNNER = CliRunner()
RELEASE: dict[str, Any] = {
    "id": "0123456789ab",
    "marks": ["previous", "adopted"],
    "readable": True,
    "engine": "llamafactory",
    "environment": "llamafactory-cuda-0123456789ab",
    "model": "qwen3-14b-a-long-name-of-a-finetune-0123456789ab",
    "staged": 1_700_000_000,
    "committed": "2026-01-02T03:04:05Z",
}
EVENT: dict[str, Any] = {
    "time": "2026-01-02T03:04:05Z",
    "event": "ended",
    "initiator": "somebody.with.a.long.name@controller.example.com",
    "from": "0123456789ab",
    "to": "cdef456789ab",
    "outcome": "not_restored",
    "seconds": 1234.5,
    "reason": "a reason that is long, " * 9,
}


def shown(services: list[dict[str, Any]], width: int = 100) -> str:
    out = io.StringIO()
    console = Console(file=out, width=width)
    for table in history_tables("gpu1", services):
        console.print(table)
    return out.getvalue()


def test_tables_fit_a_hundred_columns_and_keep_ids_whole() -> None:
    text = shown([{"service": "code2sql", "releases": [RELEASE], "events": [EVENT]}])
    assert max(map(len, text.splitlines())) <= 100
    for word in (
        "0123456789ab",
        "previous",
        "adopted",
        "llamafactory",
        "cdef456789ab",
        "not_restored",
        "2026-01-02 03:04",
        "1234",
    ):
        assert word in text, text


def test_the_current_release_is_marked_and_a_broken_one_named() -> None:
    releases = [{**RELEASE, "marks": ["current"]}, {**RELEASE, "readable": False}]
    text = shown([{"service": "code2sql", "releases": releases, "events": []}])
    assert "●" in text and "unreadable" in text and "events" not in text, text


def test_an_event_of_another_kind_is_shown_by_its_name() -> None:
    bare = {**dict.fromkeys(EVENT, ""), "event": "adopted", "seconds": None}
    assert "adopted" in shown([{"service": "s", "releases": [], "events": [bare]}])


def test_what_a_host_says_is_no_markup() -> None:
    text = shown([{"service": "s", "releases": [], "events": [{**EVENT, "reason": "[red]x[/]\x1b[31m"}]}])
    assert "[red]x[/]?[31m" in text


@pytest.mark.parametrize("words", [["lock", "nowhere"], ["lock", "--check", "nowhere"], ["lock", "environment", "x"]])
def test_lock_with_a_name_is_about_an_environment(
    words: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    result = RUNNER.invoke(cli.app, words)
    assert result.exit_code == 2 and "there is no environment" in result.output


@pytest.mark.parametrize("verb", [["history"], ["lock", "status"], ["lock", "release"], ["rollback"]])
def test_every_verb_has_an_example(verb: list[str]) -> None:
    text = RUNNER.invoke(cli.app, [*verb, "--help"]).output
    assert f"Example: python -m deployer {' '.join(verb)}" in text
