"""Hooks: what may be written, what is run, and what a failure says."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.procfs import all_processes, variable_of
from ansible_collections.deployer.sglang.plugins.plugin_utils.hooks import (
    Around,
    command_of,
    hook_problems,
    run_hooks,
    variables_of,
)

NOWHERE = Around()


@pytest.mark.parametrize(
    ("hooks", "key"),
    [
        ([], "rollout_hooks"),
        ({"before_hots": []}, "rollout_hooks.before_hots"),
        ({"before_host": "true"}, "rollout_hooks.before_host"),
        ({"before_host": ["rm -rf x"]}, "rollout_hooks.before_host[0]"),
        ({"before_host": [[]]}, "rollout_hooks.before_host[0]"),
        ({"before_host": [["a", ["b"]]]}, "rollout_hooks.before_host[0]"),
        ({"before_host": [["a", None]]}, "rollout_hooks.before_host[0]"),
        ({"after_batch": [["a"], {"playbook": ""}]}, "rollout_hooks.after_batch[1].playbook"),
        ({"after_batch": [{"playbook": "x.yml", "tags": "y"}]}, "rollout_hooks.after_batch[0].tags"),
        ({"after_batch": [7]}, "rollout_hooks.after_batch[0]"),
    ],
)
def test_a_mistake_is_named_with_its_key_and_a_fix(hooks: Any, key: str) -> None:
    (line,) = hook_problems(hooks)
    assert line.startswith(f"{key}: ") and "Fix: " in line


@pytest.mark.parametrize(
    "hooks", [None, {}, {"before_host": None}, {"before_host": [["a", 1, True], {"playbook": "p.yml"}]}]
)
def test_hooks_that_can_be_run_have_no_problems(hooks: Any) -> None:
    assert hook_problems(hooks) == []


def test_a_playbook_is_run_with_this_runs_inventory_limited_to_the_hosts() -> None:
    around = Around(["/i/hosts.yml", "a,b,"], "/i", ["--vault-id", "x@file"])
    command = command_of({"playbook": "hooks/p.yml"}, ["h1", "h2"], around)
    assert Path(command[0]).name == "ansible-playbook"
    words = ["-i", "/i/hosts.yml", "-i", "a,b,", "-l", "h1,h2", "--vault-id", "x@file", "/i/hooks/p.yml"]
    assert command[1:] == words


def test_a_command_is_told_what_it_is_about(tmp_path: Path) -> None:
    told = variables_of("after_host", ["h1"], "mia@ops1", "restored")
    script = f"echo $DEPLOYER_HOOK $DEPLOYER_HOSTS $DEPLOYER_INITIATOR $DEPLOYER_OUTCOME > {tmp_path}/said"
    run_hooks([["sh", "-c", script]], "after_host", ["h1"], NOWHERE, told, 10)
    assert (tmp_path / "said").read_text() == "after_host h1 mia@ops1 restored\n"


def test_words_reach_no_shell(tmp_path: Path) -> None:
    code = f"import sys; open({str(tmp_path / 'said')!r}, 'w').write(sys.argv[1])"
    run_hooks([[sys.executable, "-c", code, "$HOME; true"]], "before_host", ["h1"], NOWHERE, {}, 10)
    assert (tmp_path / "said").read_text() == "$HOME; true"


def test_a_hook_of_a_run_of_ansible_runner_reports_no_events_to_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("ANSIBLE_STDOUT_CALLBACK", "awx_display")
    script = ["sh", "-c", f"echo $ANSIBLE_STDOUT_CALLBACK > {tmp_path}/said"]
    run_hooks([script], "before_host", ["h1"], NOWHERE, {}, 10)
    assert (tmp_path / "said").read_text() == "awx_display\n"
    monkeypatch.setenv("AWX_ISOLATED_DATA_DIR", "/x")
    run_hooks([script], "before_host", ["h1"], NOWHERE, {}, 10)
    assert (tmp_path / "said").read_text() == "\n"


def test_a_failure_names_the_command_and_its_last_lines_and_later_hooks_do_not_run(tmp_path: Path) -> None:
    failing = ["sh", "-c", "for n in $(seq 30); do echo line $n; done; printf 'bad \\033[31m'; exit 3"]
    with pytest.raises(DeployError) as caught:
        run_hooks([failing, ["touch", str(tmp_path / "ran")]], "before_batch", ["h1"], NOWHERE, {}, 10)
    assert "rollout_hooks.before_batch[0] ended with status 3: sh -c" in caught.value.problem
    lines = caught.value.detail.splitlines()
    assert len(lines) == 12 and lines[-1] == "bad ?[31m" and lines[0] == "line 20"
    assert not (tmp_path / "ran").exists()


def test_a_program_that_is_missing_is_named() -> None:
    with pytest.raises(DeployError, match=r"before_host\[0\] cannot be run: /no/such"):
        run_hooks([["/no/such"]], "before_host", ["h1"], NOWHERE, {}, 10)


def test_a_hook_that_takes_too_long_is_ended_with_what_it_started() -> None:
    mark = f"{os.getpid()}-hook"
    with pytest.raises(DeployError, match=r"took more than 0\.5 s") as caught:
        script = "echo begun; sleep 300 & sleep 300"
        run_hooks([["sh", "-c", script]], "before_host", ["h1"], NOWHERE, {"HOOK_MARK": mark}, 0.5)
    assert caught.value.detail == "begun"
    assert [one.pid for one in all_processes() if variable_of(one.pid, "HOOK_MARK") == mark] == []
