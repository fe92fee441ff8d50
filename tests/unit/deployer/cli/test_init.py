"""`init`: which hosts are looked at, what is written and said, and with which exit code it ends."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import typer
from click.testing import Result
from typer.testing import CliRunner

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.cli import init as command
from deployer.first_inventory import survey as looking
from deployer.first_inventory.survey import Seen
from deployer.first_inventory.targets import Target
from deployer.runs.results import Summary
from tests.unit.deployer.first_inventory.surveys import factory, facts, gpus, survey

APP = typer.Typer()
command.add_to(APP)
Invoke = Callable[..., Result]


@pytest.fixture
def looked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Seen]:
    """What looking at a host by name comes to; one that is not named here serves the team's LLaMA-Factory."""
    known: dict[str, Seen] = {}

    def look_at(targets: Sequence[Target], ssh: Mapping[str, str], invocation: object) -> tuple[Seen, ...]:
        return tuple(known.get(one.name, Seen(one, survey(factory()))) for one in targets)

    monkeypatch.setattr(looking, "look_at", look_at)
    return known


@pytest.fixture
def invoke(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looked: dict[str, Seen]) -> Invoke:
    """Run `init` in an empty folder, with a plan that is clean, and is written down in `plans`."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str, stdin: str | None = None) -> Result:
        monkeypatch.setattr(sys, "argv", ["deployer", "init", *words])
        monkeypatch.setattr(command, "_is_terminal", lambda: stdin is not None)
        return CliRunner().invoke(APP, words, input=stdin)

    def planned(inventory: Any, into: Path, options: Any) -> SimpleNamespace:
        (tmp_path / "planned").write_text(json.dumps(inventory.complete))
        return SimpleNamespace(summary=Summary({}), exit_code=0)

    monkeypatch.setattr(command, "_planned", planned)
    return run


def hosts(folder: Path) -> str:
    return (folder / "fleet" / "hosts.yml").read_text()


def test_given_hosts_are_written_and_planned(invoke: Invoke, tmp_path: Path) -> None:
    done = invoke("gpu1", "me@gpu2:2222")
    assert done.exit_code == 0, done.output
    assert "ansible_port: 2222" in hosts(tmp_path)
    assert json.loads((tmp_path / "planned").read_text()) == ["gpu1", "gpu2"]
    assert "fleet/group_vars/gpu-nodes.yml" in done.output


def test_it_is_not_planned_where_it_is_not_wanted_or_nothing_is_complete(
    invoke: Invoke, looked: dict[str, Seen], tmp_path: Path
) -> None:
    assert invoke("gpu1", "--no-plan").exit_code == 0
    assert not (tmp_path / "planned").exists()
    looked["gpu2"] = Seen(Target("gpu2"), survey(environments=(), host=facts(gpus=gpus(0))))
    done = invoke("gpu2", "--into", "other")
    assert done.exit_code == 1
    assert not (tmp_path / "planned").exists()
    assert "fill in" in done.output
    assert "python -m deployer bundle other/environments/sglang" in done.output
    assert (tmp_path / "other" / "environments" / "sglang" / "requirements.lock").is_file()


def test_a_host_that_was_not_seen_makes_the_exit_code_2(
    invoke: Invoke, looked: dict[str, Seen], tmp_path: Path
) -> None:
    looked["gpu2"] = Seen(Target("gpu2"), None, DeployError("nothing answers", "see that it is on"))
    done = invoke("gpu1", "gpu2")
    assert done.exit_code == 2
    assert "gpu2 was not seen: nothing answers. Fix: see that it is on" in done.output
    assert "gpu2:" in hosts(tmp_path)
    assert json.loads((tmp_path / "planned").read_text()) == ["gpu1"]


def test_nothing_is_written_where_nothing_was_seen(invoke: Invoke, looked: dict[str, Seen], tmp_path: Path) -> None:
    looked["gpu1"] = Seen(Target("gpu1"), None, DeployError("nothing answers", "see that it is on"))
    done = invoke("gpu1", "--json")
    assert done.exit_code == 2
    assert list(tmp_path.iterdir()) == []
    assert json.loads(done.stdout)["hosts"]["gpu1"] == {
        "seen": False, "problem": "nothing answers", "fix": "see that it is on", "found": None,
    }  # fmt: skip


def test_json_has_what_was_found_and_nothing_else_is_on_standard_output(invoke: Invoke) -> None:
    value = json.loads(invoke("gpu1", "--json").stdout)
    assert value["hosts"]["gpu1"]["found"]["servers"][0]["port"] == 8001
    assert "fleet/hosts.yml" in [f"{value['folder']}/{name}" for name in value["files"]]
    assert value["exit_code"] == 0


def test_nothing_is_overwritten_and_no_host_is_asked_before_that_is_known(
    invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "fleet").mkdir()
    (tmp_path / "fleet" / "hosts.yml").write_text("mine")
    monkeypatch.setattr(looking, "look_at", lambda *_: pytest.fail("a host was asked"))
    done = invoke("gpu1")
    assert done.exit_code == 2
    assert "fleet/hosts.yml is there already" in done.output
    assert hosts(tmp_path) == "mine"


def test_interrupted_it_says_what_there_is(invoke: Invoke, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command, "_planned", interrupt)
    assert "fleet is written" in invoke("gpu1").output
    monkeypatch.setattr(looking, "look_at", interrupt)
    done = invoke("gpu1", "--into", "other")
    assert done.exit_code == 2
    assert "nothing was written" in done.output
    assert not (tmp_path / "other").exists()


@pytest.fixture
def config(tmp_path: Path) -> str:
    """An ssh configuration with three hosts."""
    path = tmp_path / "ssh_config"
    path.write_text("Host gpu1 gpu2 gpu3\n")
    return str(path)


def test_without_a_terminal_none_is_taken_and_they_are_listed(invoke: Invoke, config: str, tmp_path: Path) -> None:
    done = invoke("--ssh-config", config)
    assert done.exit_code == 2
    assert "init --all" in done.output
    assert "gpu3" in done.output
    assert not (tmp_path / "fleet").exists()


@pytest.mark.parametrize(
    ("answer", "taken"), [("1, gpu3\n", ["gpu1", "gpu3"]), ("all\n", ["gpu1", "gpu2", "gpu3"]), ("9\n2\n", ["gpu2"])]
)
def test_on_a_terminal_those_are_taken_that_a_person_picks(
    answer: str, taken: list[str], invoke: Invoke, config: str, tmp_path: Path
) -> None:
    done = invoke("--ssh-config", config, stdin=answer)
    assert done.exit_code == 0, done.output
    assert json.loads((tmp_path / "planned").read_text()) == taken


def test_all_takes_all_and_the_configuration_stays_in_the_inventory(
    invoke: Invoke, config: str, tmp_path: Path
) -> None:
    assert invoke("--all", "--ssh-config", config).exit_code == 0
    group = tmp_path / "fleet" / "group_vars" / "gpu-nodes.yml"
    assert f"ansible_ssh_common_args: -F {config}" in group.read_text()


@pytest.mark.parametrize("words", [("a b",), ("gpu1", "gpu1"), ("gpu1", "--all"), ("gpu1", "--into", ".")])
def test_what_cannot_work_is_refused(words: tuple[str, ...], invoke: Invoke) -> None:
    assert invoke(*words).exit_code == 2


def test_words_behind_the_dashes_are_no_hosts(invoke: Invoke, tmp_path: Path) -> None:
    assert invoke("gpu1", "--", "--forks", "10").exit_code == 0
    assert json.loads((tmp_path / "planned").read_text()) == ["gpu1"]


def test_it_has_an_example(invoke: Invoke) -> None:
    assert "Example: python -m deployer init" in invoke("--help").output
