"""Whether a gain can be told from noise, and with how many users it could."""

from __future__ import annotations

import numpy as np
import pytest

from perfit.evaluation.aggregate import Interval
from perfit.evaluation.noise import noise_of, sign_test


def test_the_sign_test_is_the_binomial_one() -> None:
    stats = pytest.importorskip("scipy.stats")
    for better, worse in ((25, 8), (0, 6), (3, 3), (4, 5), (1, 0)):
        assert sign_test(better, worse) == pytest.approx(stats.binomtest(better, better + worse).pvalue)
    assert sign_test(0, 0) is None


def test_a_gain_whose_interval_leaves_out_0_can_be_told() -> None:
    sums, counts = [1.0, 2.0, 3.0, 0.0, 1.0, 1.0, -1.0], [5, 5, 5, 5, 5, 5, 5]
    found = noise_of(sums, counts, Interval(0.2, 0.05, 0.35), "accuracy")
    assert (found.told, found.users_needed) == (True, None)
    assert found.sentence == (
        "the gain of +0.200 in accuracy can be told from noise (95 % interval +0.050 to +0.350 over 7 users, "
        "sign test p = 0.219)"
    )
    loss = noise_of([-s for s in sums], counts, Interval(-0.2, -0.35, -0.05), "mae")
    assert loss.told
    assert loss.sentence.startswith("the loss of -0.200 in mae can be told from noise (95 % interval -0.350 to -0.050")


def test_the_users_needed_follow_from_the_spread_of_users_with_unlike_queries() -> None:
    # Residuals of a ratio: sums - gain * counts over the mean count; gain 4 / 20 = .2.
    sums, counts = [4.0, -3.0, 2.0, 1.0, -1.0, 1.0], [8, 4, 2, 3, 1, 2]
    residuals = (np.array(sums) - 0.2 * np.array(counts)) / (20 / 6)
    wanted = (2.8 * residuals.std(ddof=1) / 0.2) ** 2
    assert 80 < wanted < 120
    found = noise_of(sums, counts, Interval(0.2, -0.1, 0.5), "accuracy")
    assert not found.told
    assert found.users_needed is not None
    assert wanted <= found.users_needed < wanted * 1.1
    assert found.sentence.endswith(f"; about {found.users_needed} users would be needed")
    assert "the gain of +0.200 in accuracy cannot be told from noise (" in found.sentence


def test_fewer_than_six_users_tell_nothing_however_alike_they_are() -> None:
    found = noise_of([1.0] * 5, [2] * 5, Interval(0.5, 0.5, 0.5), "accuracy")
    assert (found.told, found.users_needed) == (False, 6)
    assert noise_of([1.0] * 6, [2] * 6, Interval(0.5, 0.5, 0.5), "accuracy").told


def test_one_user_and_no_difference_have_sentences_of_their_own() -> None:
    one = noise_of([1.0], [4], Interval(0.25, None, None), "accuracy")
    assert (one.told, one.users_needed) == (False, None)
    assert one.sentence == "the gain of +0.250 in accuracy cannot be told from noise (1 users, sign test p = 1.000)"
    none = noise_of([1.0, -1.0], [2, 2], Interval(0.0, -0.5, 0.5), "rougeL")
    assert none.sentence == "there is no gain in rougeL to be told from noise: the difference over 2 users is 0"
    assert none.users_needed is None


def test_the_number_is_rounded_up_to_two_digits() -> None:
    sums = [30.0, -29.0] * 10
    found = noise_of(sums, [100] * 20, Interval(0.005, -0.1, 0.1), "accuracy")
    assert found.users_needed is not None
    assert found.users_needed > 20_000
    assert found.users_needed % 1000 == 0
    assert f"about {found.users_needed:,} users" in found.sentence
