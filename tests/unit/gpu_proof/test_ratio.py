"""When two ways of doing the same can be told apart."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from tests.gpu_proof.ratio import Ratio, ratio_of

STARTS = Path(__file__).parents[2] / "recordings" / "sglang" / "h200-0.5.15.post1.json"


def test_nine_starts_on_an_h200_do_not_tell_whether_a_limit_is_kept() -> None:
    pairs = json.loads(STARTS.read_text())["start"]
    ratio = ratio_of([one["package"] for one in pairs], [one["hand"] for one in pairs])
    assert str(ratio) == "0.996 (95% interval 0.921 to 1.068, 9 pairs)"
    assert ratio.within(1.02) is None


def test_the_interval_is_that_of_the_signed_ranks() -> None:
    # Of 10 pairs, Wilcoxon's table has 8 for 5 % on two sides: the 9th of the 55 means from either end.
    powers = list(range(1, 11))
    ratio = ratio_of([2.0**power for power in powers], [1.0] * 10)
    means = sorted((one + other) / 2 for one in powers for other in powers if one <= other)
    bounds = (math.log2(ratio.lower), math.log2(ratio.estimate), math.log2(ratio.upper))
    assert bounds == pytest.approx((means[8], 5.5, means[-9]))
    assert ratio.pairs == 10


def test_what_both_of_a_pair_share_cancels_out() -> None:
    slow = [30.0, 45.0, 33.0, 60.0, 31.0, 40.0, 38.0]
    ratio = ratio_of([1.01 * seconds for seconds in slow], slow)
    assert (ratio.lower, ratio.estimate, ratio.upper) == pytest.approx((1.01, 1.01, 1.01))
    assert ratio.within(1.02) is True


def test_one_start_that_hung_decides_nothing() -> None:
    ratio = ratio_of([40.1] * 19 + [400.0], [40.0] * 20)
    assert ratio.estimate == pytest.approx(40.1 / 40)
    assert ratio.within(1.02) is True


@pytest.mark.parametrize("pairs", [1, 2, 5])
def test_of_a_few_pairs_nothing_can_be_told(pairs: int) -> None:
    ratio = ratio_of([50.0] * pairs, [40.0] * pairs)
    assert ratio.within(1.02) is None
    assert json.loads(json.dumps(ratio.as_dict(), allow_nan=False)) == {
        "estimate": 1.25,
        "lower": 0,
        "upper": None,
        "pairs": pairs,
    }
    assert "too few" in str(ratio)


@pytest.mark.parametrize(
    ("lower", "upper", "within"), [(0.98, 1.02, True), (0.98, 1.03, None), (1.02, 1.05, None), (1.021, 1.05, False)]
)
def test_a_limit_inside_the_interval_is_neither_kept_nor_broken(
    lower: float, upper: float, within: bool | None
) -> None:
    assert Ratio(1.0, lower, upper, 10).within(1.02) is within


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    chance = random.Random(1)
    inside = 0
    for _ in range(400):
        ratio = ratio_of(
            [chance.lognormvariate(0, 0.1) for _ in range(8)], [chance.lognormvariate(0, 0.1) for _ in range(8)]
        )
        inside += ratio.lower <= 1 <= ratio.upper
    assert 370 <= inside <= 395
