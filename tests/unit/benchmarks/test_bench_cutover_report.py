"""What bench-cutover makes of its rounds."""

from __future__ import annotations

from tests.benchmarks.cutover.report import Round, last_line, ratio, within_limit


def test_the_best_outage_is_compared_with_the_best_time_by_hand() -> None:
    rounds = [Round(1, 30, 32, 0), Round(1, 29, 36, 0)]
    assert ratio(rounds) == 32 / 30
    assert within_limit(rounds)
    assert last_line(rounds) == "bench-cutover: ratio 1.07, limit 1.10"


def test_a_failure_outside_the_outage_is_beyond_the_limit_whatever_the_ratio() -> None:
    assert not within_limit([Round(1, 30, 31, 1)])
    assert not within_limit([Round(1, 30, 40, 0)])


def test_what_was_not_measured_has_proved_nothing() -> None:
    assert not within_limit([])
    assert last_line([]) == "bench-cutover: ratio not measured, limit 1.10"
