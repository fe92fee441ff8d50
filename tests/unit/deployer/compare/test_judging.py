"""Which of two servers is better at what."""

from __future__ import annotations

import dataclasses
import math

import pytest

from ansible_collections.deployer.sglang.plugins.module_utils.errors import DeployError
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import (
    LoadSettings,
    Measurement,
    Request,
    Step,
)
from deployer.compare.judging import EQUAL, METRICS, NEW, OLD, UNKNOWN, LoadComparison, compare_load, verdict
from tests.unit.deployer.compare import recorded


def step(rate: float = 1.0, first: float = 0.1, token: float = 0.01, count: int = 10, **more: object) -> Step:
    """A step of `count` like requests of 11 tokens, a piece a token."""
    one = Request(first, first + 10 * token, pieces=11, tokens=11)
    return dataclasses.replace(Step(rate, 10.0, (one,) * count), **more)  # type: ignore[arg-type]


def loaded(measurement: Measurement, *steps: Step) -> Measurement:
    assert measurement.load is not None
    settings = LoadSettings(rates=tuple(one.rate for one in steps), requests=10)
    return dataclasses.replace(measurement, load=dataclasses.replace(measurement.load, settings=settings, steps=steps))


def compared(old: Step, new: Step, no_worse: float | None = None) -> LoadComparison:
    return compare_load(loaded(recorded.llamafactory(), old), loaded(recorded.sglang(), new), no_worse)


def better(comparison: LoadComparison) -> dict[str, str]:
    return {one.metric: one.better for one in comparison.judgements}


def test_the_recorded_loads_say_who_is_better_at_what_also_where_it_is_the_old_one() -> None:
    load = compare_load(recorded.llamafactory(), recorded.sglang())
    words = verdict(load)
    assert any(line.startswith("time to first token, p50 at every rate") for line in words[NEW])
    assert any(line.startswith("throughput at every rate") for line in words[OLD])
    assert words[UNKNOWN] == ("time per output token, p50 at every rate", "time per output token, p99 at every rate")
    assert "failures at every rate" in words[EQUAL]
    assert load.exit_code == 0


def test_figures_that_hardly_differ_are_the_same() -> None:
    assert set(better(compared(step(first=0.100), step(first=0.104))).values()) == {EQUAL}


def test_more_throughput_and_less_time_are_better() -> None:
    found = better(compared(step(), step(first=0.3, seconds=5.0)))
    assert found["throughput"] == NEW
    assert found["time to first token, p50"] == OLD
    assert found["time per output token, p50"] == EQUAL


@pytest.mark.parametrize(
    "nothing", [Step(1.0, problem="it did not answer"), Step(1.0, 9.0, (Request(0, 0, 0, 0, "TimeoutError"),) * 3)]
)
def test_a_server_that_answers_is_better_than_one_that_does_not(nothing: Step) -> None:
    assert set(better(compared(nothing, step())).values()) == {NEW}
    assert set(better(compared(step(), nothing)).values()) == {OLD}


def test_a_gate_is_told_what_got_worse() -> None:
    slower, failing = step(first=1.0), step(requests=(*step().requests, Request(0, 0, 0, 0, "503")))
    assert compared(step(), slower).exit_code == 0, "nobody asked"
    assert compared(step(), slower, no_worse=1.5).exit_code == 1
    assert compared(step(), slower, no_worse=50).exit_code == 0
    assert "1 of 11 requests fail" in compared(step(), failing, no_worse=50).misses[0]
    assert compared(failing, failing, no_worse=1).exit_code == 0


def test_a_server_that_could_be_measured_at_no_rate_was_not_measured() -> None:
    assert compared(step(), step(requests=(), problem="it did not answer")).exit_code == 2


def test_loads_that_are_not_the_same_are_not_compared() -> None:
    old, new = recorded.llamafactory(), recorded.sglang()
    with pytest.raises(DeployError, match="different loads"):
        compare_load(old, loaded(new, step()))
    with pytest.raises(DeployError, match="under no load"):
        compare_load(old, dataclasses.replace(new, load=None))


def test_rates_are_named_together() -> None:
    old = loaded(recorded.llamafactory(), step(1.0), step(4.0, first=0.5), step(math.inf, first=0.5))
    new = loaded(recorded.sglang(), step(1.0), step(4.0), step(math.inf))
    words = verdict(compare_load(old, new))
    assert "time to first token, p50 at 4 requests/s and all at once (by a factor of 5.0)" in words[NEW]
    assert "time to first token, p50 at 1 request/s" in words[EQUAL]
    assert len({one.name for one in METRICS}) == len(METRICS)
