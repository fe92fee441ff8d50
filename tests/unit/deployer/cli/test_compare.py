"""The command that compares two servers."""

from __future__ import annotations

import dataclasses
import json
import shlex
import stat
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import Step
from deployer.api import comparisons
from deployer.cli import main as cli
from tests.documented.blocks import Command, read
from tests.unit.deployer.compare import recorded
from tests.unit.plugins.module_utils.measuring.servers import Double, serve

PAGE = Path(__file__).parents[4] / "docs" / "compare.md"
QWEN = "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."
OLD, NEW = "http://old:8001", "http://new:8001"


def typed(*words: str) -> Result:
    return CliRunner().invoke(cli.app, ["compare", *words])


@pytest.fixture(autouse=True)
def servers(monkeypatch: pytest.MonkeyPatch) -> dict[str, Double]:
    """LLaMA-Factory with its template's system prompt, and SGLang without; a second SGLang."""
    found = {
        "old": Double(system=QWEN, engine="llamafactory", answer=lambda prompt: "SELECT 1"),
        "new": Double(answer=lambda prompt: "SELECT 1"),
        "other": Double(answer=lambda prompt: "SELECT 1"),
    }
    serve(monkeypatch, **found)
    return found


def test_servers_that_differ_are_shown_with_why_and_the_exit_code_is_1() -> None:
    result = typed("--parity", OLD, NEW)
    assert result.exit_code == 1, result.output
    assert "8 prompts" in result.stdout and "system-prompt: the old server adds" in " ".join(result.stdout.split())
    assert "fix: chat_template" in result.stdout


def test_servers_that_answer_alike_end_it_with_0_and_parity_is_what_is_compared_by_itself() -> None:
    result = typed(NEW, "http://other:8001")
    assert result.exit_code == 0, result.output
    assert "8 prompts, all answered alike" in result.stdout


def test_a_server_is_recorded_before_a_rollout_and_compared_after_it(
    tmp_path: Path, servers: dict[str, Double]
) -> None:
    file, prompts = tmp_path / "old.json", tmp_path / "mine.txt"
    prompts.write_text("How many orders?\n")
    first = typed("--record", str(file), "--prompts", str(prompts), "--max-tokens", "9", "--about", "H100", OLD)
    assert first.exit_code == 0, first.output
    assert f"python -m deployer compare --against {file} {OLD}" in first.stdout
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    second = typed("--against", str(file), "--json", NEW)
    assert second.exit_code == 1
    told = json.loads(second.stdout)
    assert told["old"]["about"] == "H100" and told["parity"]["explanations"][0]["id"] == "system-prompt"
    asked = servers["new"].asked
    assert asked[0]["messages"] == [{"role": "user", "content": "How many orders?"}] and asked[0]["max_tokens"] == 9


def test_a_file_is_named_from_the_folder_that_the_command_is_typed_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert typed("--record", "old.json", OLD).exit_code == 0
    assert typed("--against", "old.json", "--into", "evidence", NEW).exit_code == 1
    assert (tmp_path / "evidence" / "report.html").is_file()


@pytest.mark.parametrize("place", ["missing/old.json", "."])
def test_a_file_that_cannot_be_written_is_refused_before_anybody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, servers: dict[str, Double], place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = typed("--record", place, OLD)
    assert result.exit_code == 2 and f"{place} cannot be written" in result.stderr
    assert not servers["old"].asked


def test_the_report_and_the_json_are_written_where_one_says(tmp_path: Path) -> None:
    result = typed("--into", str(tmp_path / "evidence"), OLD, NEW)
    assert f"report: {tmp_path}/evidence/report.html" in result.stdout
    told = json.loads((tmp_path / "evidence" / "comparison.json").read_text())
    assert (told["exit_code"], told["parity"]["same"], told["load"]) == (1, False, None)
    for name in ("report.html", "comparison.json"):
        assert stat.S_IMODE((tmp_path / "evidence" / name).stat().st_mode) == 0o600


def test_each_server_may_be_asked_by_a_name_of_its_own(servers: dict[str, Double]) -> None:
    typed("--old-model", "a", "--new-model", "b", OLD, NEW)
    assert [servers[name].asked[0]["model"] for name in ("old", "new")] == ["a", "b"]


def test_a_server_that_does_not_answer_ends_it_with_2_and_the_fix() -> None:
    result = typed(OLD, "http://gone:8001")
    assert result.exit_code == 2
    assert "http://gone:8001/v1/models does not answer" in result.stderr and "Fix:" in result.stderr


@pytest.mark.parametrize(
    "words",
    [
        (OLD,),
        (OLD, NEW, OLD),
        ("--record", "f", OLD, NEW),
        ("--record", "f", "--against", "f", OLD),
        ("--load", OLD, NEW),
        ("--model", "m", "--record", "f", "gpu1:code2sql"),
        ("-l", "gpu1", OLD, NEW),
        ("--load", "--python", "/p", "--rates", "1,fast", OLD, NEW),
        ("--load", "--python", "/p", "--rates", "0", OLD, NEW),
        ("--against", "f", "--prompts", "p", OLD),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anybody_is_asked(
    words: tuple[str, ...], servers: dict[str, Double]
) -> None:
    result = typed(*words)
    assert result.exit_code == 2, result.output
    assert not servers["old"].asked


def test_a_load_that_could_not_be_made_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measured = recorded.llamafactory()
    assert measured.load is not None
    steps = tuple(Step(one.rate, problem="it did not answer\x1b[2J") for one in measured.load.steps)
    failed = dataclasses.replace(measured, load=dataclasses.replace(measured.load, steps=steps))
    for result, code in ((measured, 0), (failed, 2)):
        monkeypatch.setattr(comparisons, "measure", lambda *words, result=result, **options: result)
        words = ("--parity", "--load", "--python", "/opt/conda", "--tokenizer", "/m")
        done = typed("--record", str(tmp_path / "old.json"), *words, OLD)
        assert done.exit_code == code, done.output
    assert "the load could not be made: it did not answer?[2J" in done.stderr


def test_a_record_with_a_load_needs_what_makes_a_load(tmp_path: Path) -> None:
    result = typed("--against", str(recorded.FOLDER / "llamafactory.json"), NEW)
    assert result.exit_code == 2 and "give --python" in result.stderr


@pytest.mark.parametrize(
    "command", [one for one in read(PAGE.read_text()) if isinstance(one, Command)], ids=lambda command: command.line
)
def test_a_documented_command_is_one_that_the_command_line_takes(command: Command) -> None:
    words = shlex.split(command.line)
    assert words[:4] == ["python", "-m", "deployer", "compare"]
    commands: Any = typer.main.get_command(cli.app)
    commands.commands["compare"].make_context("compare", words[4:])  # parses, and runs nothing
