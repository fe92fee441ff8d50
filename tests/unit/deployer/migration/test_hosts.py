"""What going back leaves as it is."""

from __future__ import annotations

import pytest

from deployer.migration.hosts import left_alone
from deployer.migration.state import BEGUN, COMMITTED, LEFT, NOT_RESTORED, Switched
from deployer.migration.verbs import Serving

OURS = Switched("old", "llamafactory", "new", COMMITTED)
NOW = {"s": Serving("new")}


@pytest.mark.parametrize(
    ("one", "now", "why"),
    [
        (OURS, {"a": {"s": Serving("theirs")}}, "somebody has switched it to theirs since"),
        (OURS, {"a": {"s": Serving("new", "vllm")}}, "somebody has started vllm there since"),
        (OURS, {"b": NOW}, "does not have this host any more"),
        (OURS, {"a": {"other": Serving("x")}}, "does not describe this service any more"),
        (OURS, {"a": NOW}, ""),
        (OURS, {"a": {"s": Serving("old")}}, ""),
        (OURS, {"a": {"s": Serving()}}, ""),
        (OURS, {"a": {}}, ""),
        (Switched("old", "", "", BEGUN), {"a": {"s": Serving("what it brought")}}, ""),
        (Switched("old", "", "x", NOT_RESTORED), {"a": {"s": Serving("y", "sglang")}}, ""),
        (Switched("", "", "new", COMMITTED), {"a": {"s": Serving("theirs")}}, ""),
    ],
)
def test_a_service_is_left_where_somebody_has_changed_it_since_or_nobody_describes_it(
    one: Switched, now: dict[str, dict[str, Serving]], why: str
) -> None:
    left, said = left_alone({"a": {"s": one}, "b": {"s": one}}, ("a",), now)
    assert bool(left) == bool(why) == bool(said)
    if why:
        assert left["a"]["s"].outcome == LEFT and why in left["a"]["s"].reason and why in said[0]
