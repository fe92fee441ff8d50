"""The file that keeps a measurement until there is another to compare it with."""

from __future__ import annotations

import dataclasses
import json
import math
import stat
from pathlib import Path

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import (
    LoadSettings,
    Measurement,
    Server,
    Step,
)
from deployer.compare.record import load_file, save
from tests.unit.deployer.compare import recorded


def test_what_was_measured_comes_back_as_it_was_and_only_its_user_may_read_it(tmp_path: Path) -> None:
    measured = recorded.llamafactory()
    assert measured.load is not None and measured.answers is not None
    settings = LoadSettings(rates=(0.5, math.inf))
    load = dataclasses.replace(measured.load, settings=settings, steps=(Step(math.inf, problem="timed out"),))
    measured = dataclasses.replace(measured, load=load)
    file = tmp_path / "old.json"
    save(measured, file)
    assert load_file(file) == measured
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no measurement"),
        ("[]", "no measurement"),
        ('{"schema": 2}', "no measurement"),
        ('{"schema": 1, "time": "now", "server": {"url": 1, "model": "m"}}', "server.url"),
    ],
)
def test_another_file_is_refused_and_its_place_named(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "other.json"
    file.write_text(text)
    with pytest.raises(DeployError, match=problem) as raised:
        load_file(file)
    assert "compare --record" in raised.value.fix


def test_a_file_of_another_schema_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "old.json"
    save(Measurement(Server("http://gpu1:8001", "m"), "2026-11-29T08:00:00Z"), file)
    file.write_text(json.dumps({**json.loads(file.read_text()), "schema": 99}))
    with pytest.raises(DeployError, match="schema"):
        load_file(file)


def test_a_place_that_cannot_be_written_or_read_is_named(tmp_path: Path) -> None:
    measured = Measurement(Server("http://gpu1:8001", "m"), "2026-11-29T08:00:00Z")
    with pytest.raises(DeployError, match="cannot be written"):
        save(measured, tmp_path / "missing" / "old.json")
    with pytest.raises(DeployError, match="cannot be read"):
        load_file(tmp_path / "old.json")
