"""What the survey's run came to, host by host."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.first_inventory import survey as looking
from deployer.first_inventory.survey import MODULE, Seen, look_at, trouble_of
from deployer.first_inventory.targets import Target
from deployer.runs.runner import Invocation, Run
from tests.unit.deployer.first_inventory.surveys import survey

UNKNOWN_KEY = (
    "Failed to connect to the host via ssh: No ED25519 host key is known for [10.0.0.7]:2222 and you have requested "
    "strict checking.\r\nHost key verification failed."
)
CHANGED_KEY = "Failed to connect to the host via ssh: Host key verification failed."


def event(host: str, kind: str, result: Mapping[str, Any]) -> dict[str, Any]:
    """An event of ansible-runner."""
    return {
        "event": f"runner_on_{kind}",
        "event_data": {"host": host, "task": "Look", "resolved_action": MODULE, "res": dict(result)},
    }


@pytest.fixture
def playing(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Seen]]:
    """Look at hosts in a run that comes to these events."""

    def look(*events: Mapping[str, Any], names: tuple[str, ...] = ("gpu1",), output: str = "") -> list[Seen]:
        def run(name: str, invocation: Invocation, on_event: Callable[[Mapping[str, Any]], None]) -> Run:
            assert name == "survey"
            assert Path(invocation.inventory[0]).is_file()
            for one in events:
                on_event(one)
            return Run(0 if events else 1, output)

        monkeypatch.setattr(looking, "run_playbook", run)
        targets = [Target(name) for name in names]
        return list(look_at(targets, {}, lambda path: Invocation([str(path)])))

    return look


def test_a_host_is_seen_as_root_or_as_who_logs_in_with_the_reason(playing: Callable[..., list[Seen]]) -> None:
    value = survey().as_dict()
    first, second = playing(
        event("gpu1", "ok", {"survey": value}),
        event("gpu2", "failed", {"msg": "Missing sudo password"}),
        event("gpu2", "ok", {"survey": {**value, "by_sudo": False}}),
        names=("gpu1", "gpu2"),
    )
    assert (first.survey, first.trouble) == (survey(), None)
    assert second.survey == survey(by_sudo=False)
    assert second.trouble is not None
    assert "password" in second.trouble.problem


def test_one_that_was_not_seen_says_why_whatever_the_others_came_to(playing: Callable[..., list[Seen]]) -> None:
    first, second, third, fourth = playing(
        event("gpu1", "unreachable", {"msg": UNKNOWN_KEY}),
        event("gpu2", "ok", {"survey": survey().as_dict()}),
        event("gpu3", "failed", {"msg": "The module failed", "module_stderr": "python: not found"}),
        event("gpu4", "ok", {"survey": {"host": {}}}),
        names=("gpu1", "gpu2", "gpu3", "gpu4"),
    )
    assert second.survey is not None
    for one in (first, third, fourth):
        assert one.survey is None
        assert one.trouble is not None
        assert one.trouble.problem and one.trouble.fix


def test_an_unknown_host_key_says_how_to_make_it_known() -> None:
    target = Target("gpu1", "me", 2222, address="10.0.0.7")
    for said in (UNKNOWN_KEY, CHANGED_KEY):
        trouble = trouble_of(target, said)
        assert "host key" in trouble.problem
        assert "ssh -p 2222 me@gpu1" in trouble.fix
        assert "ssh-keyscan -p 2222 10.0.0.7" in trouble.fix


def test_a_changed_host_key_is_never_to_be_scanned_anew() -> None:
    said = (
        "Failed to connect to the host via ssh: @@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @@@\r\n"
        "Offending ED25519 key in /home/me/.ssh/known_hosts:3\r\n  remove with:\r\n"
        '  ssh-keygen -f "/home/me/.ssh/known_hosts" -R "gpu1"\r\nHost key verification failed.'
    )
    assert "ssh-keyscan" not in trouble_of(Target("gpu1"), said).fix


def test_without_any_host_ansibles_own_words_are_the_reason(playing: Callable[..., list[Seen]]) -> None:
    with pytest.raises(DeployError):
        playing(output="ERROR! something is wrong")
