"""What hosts have measured, whatever they answer."""

from __future__ import annotations

from typing import Any

import pytest

from deployer.api.measured import measured_of
from deployer.runs.results import MEASURE, HostResult, Summary

GOOD = {"service": "code2sql", "measurement": {"server": {"url": "http://gpu2:8001", "model": "m"}, "time": "t"}}


@pytest.mark.parametrize(
    "odd",
    [
        None,
        5,
        ["code2sql"],
        [{}],
        {"service": "code2sql"},
        [{"service": "code2sql"}],
        [{"service": "code2sql", "measurement": {"server": {"flags": {"\x1b[2J": 5}}}}],
    ],
)
def test_a_host_that_answers_oddly_is_named_and_the_others_are_measured(odd: Any) -> None:
    hosts = {
        name: HostResult(name, reports={MEASURE: {"measured": value}})
        for name, value in {"gpu1": odd, "gpu2": [GOOD]}.items()
    }
    first, second = measured_of(Summary(hosts), ["code2sql"])
    assert (first.host, first.measurement) == ("gpu1", None)
    assert first.problem.startswith("what it has measured makes no sense") and first.problem.isprintable()
    assert second.measurement is not None and second.measurement.server.model == "m"
