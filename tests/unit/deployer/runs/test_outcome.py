"""What a run came to, in words and as data."""

from __future__ import annotations

import pytest

from deployer.runs.outcome import host_outcome, host_outcomes, meaning
from deployer.runs.restore import Restored
from deployer.runs.results import DONE, NOT_RESTORED, REFUSED, RESTORED, STOPPED, HostResult, Summary


def test_an_outcome_is_called_what_it_is() -> None:
    done = HostResult("a", cutovers=({"outcome": "committed", "service": "s"},))
    idle = HostResult("b")
    assert meaning(Summary({"a": done}), DONE) == ""
    assert "after 1 of 2 hosts" in meaning(Summary({"a": done, "b": idle}), STOPPED)
    assert "nothing that serves was changed" in meaning(Summary({"b": idle}), STOPPED)
    assert meaning(Summary(), REFUSED).startswith("refused")
    unseen = HostResult("a", cutover_unknown=True)
    assert meaning(Summary({"a": unseen}), NOT_RESTORED).startswith("OUTCOME NOT KNOWN")
    settled = HostResult("a", cutover_settled=True)
    assert "was not seen on a" in meaning(Summary({"a": settled}), STOPPED)
    back = Restored({}, {"c": ["s"]})
    assert "had nothing before" in meaning(Summary(), RESTORED, back)
    assert "NOT ALL HOSTS" in meaning(Summary(), NOT_RESTORED, Restored({"a": {"s": "1"}}, {}))


@pytest.mark.parametrize(
    ("outcomes", "more", "expected"),
    [
        ((), {}, "untouched"),
        ((), {"failure": "no disk"}, "failed"),
        ((), {"failure": "no route", "unreachable": True}, "unreachable"),
        (("unchanged", "committed"), {}, "committed"),
        (("committed", "restored"), {"failure": "x"}, "restored"),
        (("committed",), {"failure": "only a hook failed"}, "failed"),
        (("committed",), {"cutover_unknown": True}, "unknown"),
        (("restored", "not_restored"), {"failure": "x"}, "not_restored"),
        (("something new",), {}, "something new"),
    ],
)
def test_a_host_is_at_the_worst_that_its_services_came_to(
    outcomes: tuple[str, ...], more: dict[str, object], expected: str
) -> None:
    cutovers = tuple({"outcome": outcome, "service": str(n), "log": "x"} for n, outcome in enumerate(outcomes))
    host = HostResult("a", cutovers=cutovers, **more)  # type: ignore[arg-type]
    assert host_outcome(host) == expected
    told = host_outcomes(Summary({"a": host}))["a"]
    assert told["outcome"] == expected and all("log" not in one for one in told["services"].values())
