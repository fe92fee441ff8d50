"""What a load comes to."""

from __future__ import annotations

from ansible_collections.deployer.sglang.plugins.module_utils.measuring import figures
from ansible_collections.deployer.sglang.plugins.module_utils.measuring.measurement import Request, Step


def test_percentiles_are_numpys() -> None:
    found = figures.percentiles([4.0, 1.0, 3.0, 2.0])
    assert found is not None
    assert (found.p50, round(found.p90, 6), round(found.p99, 6)) == (2.5, 3.7, 3.97)
    assert figures.percentiles([]) is None
    assert figures.percentiles([7.0]) == figures.Percentiles(7.0, 7.0, 7.0)


def test_failed_and_empty_answers_are_counted_and_have_no_times() -> None:
    requests = (
        Request(0.2, 1.2, 11, 11),
        Request(0, 0, 0, 0, "TimeoutError"),
        Request(0, 0, 0, 0, "TimeoutError"),
        Request(0, 0, 0, 0),
    )
    found = figures.figures(Step(2.0, 4.0, requests))
    assert (found.sent, found.failed, found.empty, found.errors) == (4, 2, 1, ("TimeoutError",))
    assert found.first_token is not None and found.first_token.p99 == 0.2
    assert found.token is not None and round(found.token.p50, 6) == 0.1
    assert (found.tokens_per_second, found.requests_per_second, found.tokens) == (2.75, 0.5, 5.5)


def test_an_answer_in_one_piece_says_nothing_of_the_time_of_a_token() -> None:
    found = figures.figures(Step(1.0, 1.0, (Request(0.5, 0.5, pieces=1, tokens=40), Request(0.5, 0.6, 2, tokens=40))))
    assert (found.bursts, found.token) == (2, None)
    assert found.latency is not None
