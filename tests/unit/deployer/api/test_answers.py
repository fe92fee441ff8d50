"""What hosts answer, as typed values with the exit codes of the commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.api import answers
from deployer.runs import results
from deployer.runs.results import HostResult, Summary

SERVING = {
    "service": "a",
    "state": "serving",
    "current": "r1",
    "engine": "sglang",
    "port": 8001,
    "uptime": 5,
    "detail": "",
}
STOPPED = {**SERVING, "service": "b", "state": "stopped", "uptime": None, "detail": "exit 1"}
LOST = HostResult("h2", unreachable=True, failure="Task failed: Missing sudo password")


def reporting(module: str, report: Mapping[str, Any], **others: Any) -> HostResult:
    return HostResult("h1", reports={module: report}, **others)


@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        ([HostResult("h1", services=(SERVING,))], 0),
        ([HostResult("h1", services=(SERVING, STOPPED))], 1),
        ([HostResult("h1", services=(SERVING,)), LOST], 2),
        ([HostResult("h1")], 2),
        ([], 2),
    ],
)
def test_the_status_of_all_hosts_is_an_exit_code(hosts: list[HostResult], expected: int) -> None:
    assert answers.status_of(Summary({host.host: host for host in hosts})).exit_code == expected


def test_a_status_has_types_and_can_be_of_some_services() -> None:
    summary = Summary({"h1": HostResult("h1", services=(SERVING, STOPPED)), "h2": LOST})
    status = answers.status_of(summary, services=["b"])
    (one,) = status.hosts["h1"].services
    assert (one.service, one.release, one.uptime, one.detail, one.serves) == ("b", "r1", None, "exit 1", False)
    assert status.failures["h2"].startswith("sudo asks for a password there")
    with pytest.raises(DeployError, match="use some of a, b"):
        answers.status_of(summary, services=["c"])


def test_history_has_types_and_can_be_of_some_services() -> None:
    release = {"id": "r1", "marks": ["current"], "engine": "sglang", "readable": True}
    event = {"time": "2026", "event": "ended", "initiator": "me", "from": None, "to": "r1", "outcome": "committed"}
    told = [{"service": name, "releases": [release], "events": [event]} for name in ("a", "b")]
    history = answers.history_of(Summary({"h1": reporting(results.HISTORY, {"history": told})}), services=["a"])
    (one,) = history.hosts["h1"].services
    assert one.releases[0].marks == ("current",)
    assert (one.events[0].before, one.events[0].after, one.events[0].reason) == ("", "r1", "")


def test_an_adoption_fails_where_something_cannot_be_adopted() -> None:
    one = {
        "service": "a",
        "release": "",
        "engine": "vllm",
        "who": "pid 1",
        "changed": False,
        "problem": "no",
        "fix": "do",
    }
    done = answers.adoption_of(Summary({"h1": reporting(results.ADOPT, {"services": [one]})}))
    assert done.exit_code == 0 and done.hosts["h1"].services[0].problem == "no"
    failed = answers.adoption_of(Summary({"h1": reporting(results.ADOPT, {"services": [one]}, failure="no. Fix: do")}))
    assert failed.exit_code == 2 and failed.failures == {"h1": "no. Fix: do"}
    assert answers.adoption_of(Summary({"h1": HostResult("h1")})).failures == {"h1": "was not asked"}


@pytest.mark.parametrize(("sound", "ok", "expected"), [(True, True, 0), (False, True, 1), (True, False, 1)])
def test_a_verification_is_sound_where_everything_is(sound: bool, ok: bool, expected: int) -> None:
    built = {"environments": [{"path": "/e", "sound": sound, "count": 0, "fix": ""}]}
    models = {"models": [{"path": "/m", "ok": ok, "count": 0, "fix": ""}]}
    host = HostResult("h1", reports={results.VERIFY: built, results.MODEL_VERIFY: models})
    verification = answers.verification_of(Summary({"h1": host}))
    assert verification.exit_code == expected
    assert [(one.kind, one.sound) for one in verification.hosts["h1"].artifacts] == [
        ("environment", sound),
        ("model", ok),
    ]
    # The playbook fails where something is not sound, to say so to who runs it.
    said = HostResult("h1", reports={results.VERIFY: built, results.MODEL_VERIFY: models}, failure="x differs. Fix: do")
    assert answers.verification_of(Summary({"h1": said})).exit_code == expected
    half = HostResult("h1", reports={results.VERIFY: built})
    assert answers.verification_of(Summary({"h1": half})).exit_code == 2


def test_environments_and_prunings_have_types() -> None:
    found = {
        "path": "/e",
        "name": "sglang",
        "kind": "conda",
        "python": "3.12",
        "versions": {"torch": "2"},
        "size": None,
        "problem": "",
    }
    environments = answers.environments_of(Summary({"h1": reporting(results.ENVIRONMENTS, {"environments": [found]})}))
    assert environments.exit_code == 0 and environments.hosts["h1"].environments[0].versions == {"torch": "2"}
    removed = {"removed": [{"path": "/old"}], "freed": 12}
    pruning = answers.pruning_of(Summary({"h1": reporting(results.PRUNE, removed), "h2": LOST}))
    assert pruning.exit_code == 2 and pruning.hosts["h1"].removed == ("/old",) and pruning.hosts["h1"].freed == 12
