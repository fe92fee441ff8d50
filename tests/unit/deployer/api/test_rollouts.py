"""What a rollout came to, as typed values."""

from __future__ import annotations

from typing import Any

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from deployer.api import Deployer, Event, change
from deployer.api.rollouts import rollout_of
from deployer.runs.outcome import ChangeResult
from deployer.runs.restore import Restored
from deployer.runs.results import DONE, REFUSED, RESTORED, HostResult, Summary

COMMITTED = {
    "service": "a",
    "outcome": "committed",
    "before": "r1",
    "after": "r2",
    "target": "r2",
    "seconds": {"stop": 1.5},
}


def test_everything_has_its_type() -> None:
    summary = Summary({"h1": HostResult("h1", cutovers=(COMMITTED,)), "h2": HostResult("h2", failure="no. Fix: do")})
    back = Restored(
        {"h1": {"a": "r1"}}, {}, Summary({"h1": HostResult("h1", cutovers=({**COMMITTED, "after": "r1"},))})
    )
    rollout = rollout_of(ChangeResult(RESTORED, "failed", summary, back, run="x", seconds=3.0), ["odd"])
    (one,) = rollout.hosts["h1"].services
    assert (one.outcome, one.before, one.after, one.reason, one.seconds) == ("committed", "r1", "r2", "", {"stop": 1.5})
    assert rollout.restored["h1"].services[0].after == "r1"
    assert rollout.failures == {"h2": "no. Fix: do"} and rollout.messages == ("odd",) and not rollout.done
    assert rollout.plan is None  # none was made
    assert rollout_of(ChangeResult(DONE, "", Summary())).done


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"services": ["a"], "batches": (1, "25%"), "max_fail": "10%", "pause": 3}, {
            "cutover_services": ["a"], "rollout_batches": [1, "25%"], "rollout_max_fail": "10%", "rollout_pause": 3,
        }),
        ({}, {}),
    ],
)  # fmt: skip
def test_settings_become_variables_and_those_left_out_do_not(
    settings: dict[str, Any], expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    orders: list[change.Change] = []
    told: list[str] = []

    def carry_out(order: change.Change, listeners: Any, operator: Any) -> ChangeResult:
        orders.append(order)
        for listener in listeners:
            listener(Event("message", {"level": "warning", "text": "look"}))
        return ChangeResult(DONE, "", Summary({"h1": HostResult("h1")}))

    monkeypatch.setattr(change, "carry_out", carry_out)
    deployer = Deployer("h1,", limit="h1", extra_vars={"x": 1}, arguments=["--forks", "3"])
    rollout = deployer.rollout(**settings, listeners=[lambda event: told.append(event.kind)])
    deployer.rollback("@adopted", **settings, on_failure="restore-all", check=True)
    first, second = orders
    for order, extra in ((first, {}), (second, {"cutover_to": "@adopted"})):
        variables = dict(order.invocation.extra_vars)
        assert "@" in variables.pop("cutover_initiator")
        assert variables == {"x": 1, **expected, **extra}
        assert (order.invocation.inventory, order.invocation.limit) == (["h1,"], "h1")
        assert list(order.invocation.arguments) == ["--forks", "3"]
    assert (first.verb, first.on_failure, first.invocation.check) == ("rollout", "restore-host", False)
    assert (second.verb, second.on_failure, second.invocation.check) == ("rollback", "restore-all", True)
    assert rollout.messages == ("look",) and told == ["message"]


def test_what_cannot_work_is_refused_before_ansible_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(change, "carry_out", None)
    with pytest.raises(DeployError, match=r"rollout_batches.*Fix: "):
        Deployer("h1,").rollout(batches=("some",))
    with pytest.raises(DeployError, match=r"the inventory nowhere\.yml does not exist\. Fix: "):
        Deployer("nowhere.yml").rollout()


def test_a_rollout_that_met_no_host_is_an_error_with_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    def carry_out(order: change.Change, listeners: Any, operator: Any) -> ChangeResult:
        for listener in listeners:
            listener(Event("message", {"level": "error", "text": "no host. Fix: name one\nall of it"}))
        return ChangeResult(REFUSED, "refused", Summary())

    monkeypatch.setattr(change, "carry_out", carry_out)
    with pytest.raises(DeployError) as error:
        Deployer("h1,").rollout()
    assert error.value.problem == "no host. Fix: name one" and error.value.detail == "all of it"
