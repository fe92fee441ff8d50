"""What the verbs of a Deployer come to, as the walk through a migration takes it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from deployer.api.answers import adoption_of
from deployer.api.comparisons import Measurement
from deployer.api.measured import Measured
from deployer.api.migration_verbs import Nobody, OnFleet
from deployer.api.plans import Plan, plan_of
from deployer.api.rollouts import HostOutcome, Rollout, ServiceOutcome
from deployer.migration.state import Settings
from deployer.migration.verbs import Cut, Serving
from deployer.runs.events import Event
from deployer.runs.results import ADOPT, HostResult, Summary
from tests.unit.deployer.compare import recorded

ERROR = {"id": "no-gpu", "severity": "error", "subject": "gpus", "message": "there is none", "fix": "plug one in"}
WARNING = {**ERROR, "id": "hot", "severity": "warning"}


def planned(*findings: Mapping[str, str], current: str = "old") -> HostResult:
    service: dict[str, Any] = {
        "service": "s", "role": "service", "engine": "sglang", "version": "", "next": "new", "gpus": [], "argv": [],
        "current": {"release": current, "runs": True}, "weight_bytes": None, "kv_tokens": None, "ports": {},
    }  # fmt: skip
    code = 2 if ERROR in findings else 1 if findings else 0
    return HostResult("", plan={"services": [service], "findings": [*findings], "checks": [], "exit_code": code})


def plan_with(**hosts: HostResult) -> Plan:
    return plan_of(Summary({name: HostResult(name, plan=one.plan, failure=one.failure) for name, one in hosts.items()}))


@dataclass
class Fake:
    """In place of a Deployer.

    Args:
        plans: what doctor and plan say.
        measurements: what is measured, by service; a text says why nothing was.
        done: what a rollout comes to.
    """

    plans: Plan = field(default_factory=lambda: plan_with(a=planned()))
    measurements: dict[str, Measurement | str] = field(default_factory=dict)
    done: Rollout | None = None
    limit: str = ""
    adopted: dict[str, Any] = field(default_factory=dict)
    arguments: Sequence[str] = ()
    extra_vars: Mapping[str, Any] = field(default_factory=dict)
    happens: Sequence[str] = ("run.started",)

    def doctor(self) -> Plan:
        return self.plans

    def plan(self, *, services: Sequence[str]) -> Plan:
        return self.plans

    def adopt(self, *, check: bool) -> Any:
        hosts = {}
        for name, one in self.adopted.items():
            failure = "it failed" if any(service["problem"] for service in one) else ""
            hosts[name] = HostResult(name, reports={ADOPT: {"services": one}}, failure=failure)
        return adoption_of(Summary(hosts))

    def measure(self, **how: Any) -> tuple[Measured, ...]:
        return tuple(
            Measured(self.limit, name, None, one) if isinstance(one, str) else Measured(self.limit, name, one)
            for name, one in self.measurements.items()
        )

    def rollout(self, **how: Any) -> Rollout:
        assert self.done is not None
        for listener in how["listeners"]:
            for kind in self.happens:
                listener(Event(kind, {}, run="r"))
        return self.done


def verbs(fake: Fake, folder: Path | None = None) -> OnFleet:
    return OnFleet(fake, folder, Nobody())  # type: ignore[arg-type]


def test_as_many_hosts_may_be_lost_as_is_allowed_and_each_says_why() -> None:
    fake = Fake(plan_with(a=planned(WARNING), b=planned(ERROR), c=HostResult("", failure="no route")))
    looked = verbs(fake).doctor(1)
    assert (looked.good, looked.says) == (False, "3 hosts, 1 failed, 1 error, 1 warning")
    assert any("b: gpus: there is none. Fix: plug one in" in line for line in looked.problems)
    found = verbs(fake).plan((), 2)
    assert found.good and found.lost == ("b", "c") and [one.host for one in found.services] == ["a"]


def test_what_is_kept_of_a_problem_has_no_secret_that_the_command_was_given() -> None:
    fake = Fake(plan_with(a=HostResult("", failure="port is 'hf_abcdefgh'")), extra_vars={"hub_token": "hf_abcdefgh"})
    assert all(
        one.problems and "hf_abcdefgh" not in str(one) for one in (verbs(fake).doctor(0), verbs(fake).plan((), 0))
    )


def test_what_runs_already_stays() -> None:
    found = verbs(Fake(plan_with(a=planned(current="new"), b=planned()))).plan((), 0)
    assert [(one.host, one.stays) for one in found.services] == [("a", True), ("b", False)]


def test_what_serves_is_known_by_its_release_and_what_cannot_be_adopted_is_said() -> None:
    one = {"service": "s", "release": "r", "engine": "llamafactory", "who": "pid 1", "changed": True}
    one |= {"problem": "", "fix": ""}
    bad = {**one, "release": "", "changed": False, "problem": "a container keeps it", "fix": "stop it there"}
    fake = Fake(adopted={"a": [one], "b": [bad]})
    found = verbs(fake).adopt((), 1)
    assert found.good and found.says == "recorded s of a" and found.serving["a"]["s"] == Serving("r", "llamafactory")
    assert found.problems == ("b: a container keeps it. Fix: stop it there",)
    assert verbs(fake).serves_now() == {
        "a": {"s": Serving("r", "llamafactory")},
        "b": {"s": Serving("", "llamafactory")},
    }
    assert not verbs(fake).adopt((), 0).good and verbs(fake).adopt(("other",), 0).good


def test_both_measurements_are_kept_and_judged_by_what_was_asked_for(tmp_path: Path) -> None:
    fake = Fake(measurements={"s": recorded.llamafactory()})
    on = verbs(fake, tmp_path)
    assert on.record("a", ["s"], Settings()).services == ("s",)
    fake.measurements["s"] = recorded.sglang()
    strict = on.compare("a", ["s"], Settings())
    assert not strict.passed and "answered differently" in strict.misses[0] and strict.folders == {"s": "compared/s"}
    assert strict.explanations and strict.explanations[0].fix
    assert on.judge(["s"], Settings(accept_differences=True)).passed
    slower = on.judge(["s"], Settings(accept_differences=True, load=True, no_worse=0.0001))
    assert not slower.passed and "p99 of the end-to-end latency" in slower.misses[0]
    assert json.loads((tmp_path / "compared" / "s" / "comparison.json").read_text())["load"]
    assert {one.name for one in (tmp_path / "compared" / "s").iterdir()} == {
        "old.json", "new.json", "comparison.json", "report.html",
    }  # fmt: skip


def test_what_cannot_be_measured_is_said(tmp_path: Path) -> None:
    on = verbs(Fake(measurements={"s": "it wants a key. Fix: OPENAI_API_KEY"}), tmp_path)
    assert on.record("a", ["s"], Settings()).problems == ("a s: it wants a key. Fix: OPENAI_API_KEY",)
    again = on.compare("a", ["s"], Settings())
    assert not again.passed and again.misses == ("a s: it wants a key. Fix: OPENAI_API_KEY",)


@pytest.mark.parametrize("code", [0, 1])
def test_a_rollout_comes_to_its_cut_overs(code: int) -> None:
    outcome = "restored" if code else "committed"
    raw = {"service": "s", "outcome": outcome, "before": "old", "after": "new", "reason": "why" * code}
    host = HostOutcome("a", failure="why" * code, services=(ServiceOutcome.of(raw),))
    done = Rollout(code, "it failed" * code, {"a": host}, {}, None, (), "run", None, None, 1.0)

    changed = verbs(Fake(done=done)).rollout(["a"], (), (), 0)
    assert (changed.code, changed.run) == (code, "run") and changed.cuts["a"]["s"] == Cut(outcome, "new", "why" * code)
    assert changed.says == ("it failed" if code else "1 committed") and len(changed.problems) == code
    assert not changed.interrupted
    assert verbs(Fake(done=done, happens=("run.started", "interrupted"))).rollout(["a"], (), (), 0).interrupted
