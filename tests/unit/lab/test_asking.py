"""What a client saw, folded into outages."""

from __future__ import annotations

from tests.lab.asking import Answer, outages


def good(end: float) -> Answer:
    return Answer(end - 0.05, end, "sglang")


def bad(end: float) -> Answer:
    return Answer(end - 0.05, end, problem="ConnectError: refused")


def test_a_client_that_was_always_answered_saw_no_outage() -> None:
    assert outages([]) == outages([good(1), good(1.1), good(1.2), good(4.0)]) == []


def test_an_outage_goes_from_good_answer_to_good_answer_and_holds_what_failed() -> None:
    failed = (bad(1.2), bad(1.3), bad(5))
    (outage,) = outages([good(1), good(1.1), *failed, good(7), good(7.1)])
    assert (outage.start, outage.end, outage.failed) == (1.1, 7, failed)


def test_a_silence_is_an_outage_without_any_failure() -> None:
    (outage,) = outages([good(1), good(5)])
    assert (outage.seconds, outage.failed) == (4, ())


def test_failures_far_apart_are_two_outages_and_near_each_other_one() -> None:
    assert len(outages([good(1), bad(1.5), good(2), good(3.5), bad(3.6), good(3.7)])) == 2
    assert len(outages([good(1), bad(1.5), good(2), bad(2.1), good(2.2)])) == 1


def test_failures_at_the_beginning_and_the_end_count() -> None:
    first, last = outages([bad(1), good(2), good(4.5), bad(6)])
    assert (first.start, first.end, first.failed) == (0.95, 2, (bad(1),))
    assert (last.start, last.end, last.failed) == (4.5, 6, (bad(6),))
    (all_of_it,) = outages([bad(1), bad(2)])
    assert all_of_it.failed == (bad(1), bad(2))
