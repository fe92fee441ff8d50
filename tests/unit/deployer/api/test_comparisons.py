"""Two servers compared by a program: as docs/compare.md shows it, and as a rollout's gate would."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import LoadSettings
from deployer.api.comparisons import Maker, compare, measure, options_of, save
from tests.unit.deployer.compare import recorded
from tests.unit.plugins.module_utils.measuring.servers import Double, serve

PAGE = Path(__file__).parents[4] / "docs" / "compare.md"


def test_the_documented_program_compares_with_what_was_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)[0]
    monkeypatch.chdir(tmp_path)
    serve(monkeypatch, gpu1=Double(system="You are a helpful assistant.", engine="llamafactory"))
    save(measure("http://gpu1:8001"), tmp_path / "old.json")
    serve(monkeypatch, gpu1=Double())
    with pytest.raises(SystemExit) as ended:
        exec(program, {})
    assert ended.value.code == 1
    assert capsys.readouterr().out.startswith("system-prompt the old server adds a system prompt of")


def test_another_server_is_measured_as_the_recorded_one_was() -> None:
    old = recorded.llamafactory()
    assert old.load is not None and old.answers is not None
    options = options_of(old, Maker("/opt/conda"), "/models/tiny")
    assert options["prompts"] == old.answers.prompts and options["max_tokens"] == old.answers.max_tokens
    assert options["put_under"].settings == old.load.settings != LoadSettings()
    with pytest.raises(DeployError, match="was put under load"):
        options_of(old)
    assert options_of(dataclasses.replace(old, load=None))["put_under"] is None
    assert options_of(dataclasses.replace(old, answers=None), Maker("/opt/conda"))["ask"] is False


def test_the_exit_code_is_the_worse_of_both() -> None:
    old, new = recorded.llamafactory(), recorded.sglang()
    same = dataclasses.replace(new, load=None)
    assert compare(same, same).exit_code == 0
    assert compare(old, new).exit_code == 1
    assert new.load is not None
    steps = tuple(dataclasses.replace(one, requests=(), problem="it did not answer") for one in new.load.steps)
    assert compare(old, dataclasses.replace(new, load=dataclasses.replace(new.load, steps=steps))).exit_code == 2


def test_servers_that_refuse_all_prompts_are_not_alike(monkeypatch: pytest.MonkeyPatch) -> None:
    serve(monkeypatch, gpu1=Double(refuses=lambda messages: "content is no text\x1b[2J"))
    measured = measure("http://gpu1:8001")
    with pytest.raises(DeployError, match=r"both refuse all prompts: 400 .*content is no text") as raised:
        compare(measured, measured)
    assert str(raised.value).isprintable()


def test_json_has_no_number_that_is_none() -> None:
    told = json.loads(json.dumps(compare(recorded.llamafactory(), recorded.sglang()).as_json, allow_nan=False))
    assert told["schema"] == 1 and told["load"]["old"]["rates"][-1]["rate"] == "max"
    assert set(told["load"]["verdict"]) == {"old", "new", "same", "not compared"}
    assert told["parity"]["prompts"][0]["prompt_tokens_more"] == -78
