"""Which language wins: the fast count against one exact contest per language."""

from __future__ import annotations

import numpy as np
import pytest

from bestofl_lib.analysis.contest import Contest, Winners


@pytest.mark.parametrize("ties", [False, True])
def test_each_language_wins_as_often_as_a_contest_that_pays_for_it(ties):
    rng = np.random.default_rng(1)
    rewards = {
        c: rng.integers(0, 4, (7, 5)).astype(float) if ties else rng.normal(size=(7, 5)) for c in ("bn", "de", "en")
    }
    rewards["de"][3, 2:] = np.nan
    winners = Winners.of(rewards)
    allocation = {"bn": 2, "de": 2, "en": 1}
    assert bool(winners.tied) is ties
    assert winners.allocation(allocation).sum(1) == pytest.approx(1)
    for place, code in enumerate(rewards):
        slow = Contest.of(rewards, {c: np.where(np.isnan(x), np.nan, float(c == code)) for c, x in rewards.items()})
        assert winners.allocation(allocation)[:, place] == pytest.approx(slow.allocation(allocation), abs=1e-12)
        assert winners.allocation({"bn": 3})[:, place] == pytest.approx(float(code == "bn"), abs=1e-12)
        assert winners.shares(4)[:, place] == pytest.approx(slow.shares([4])[:, 0], abs=1e-12)
        assert winners.shares(3, ["bn", "en"])[:, place] == pytest.approx(
            slow.shares([3], ["bn", "en"])[:, 0], abs=1e-12
        )


def test_a_language_short_of_candidates_is_named():
    with pytest.raises(ValueError, match=r"budget 3 exceeds the 2 candidates of problem p0 \(sw\)"):
        Winners.of({"sw": np.array([[0.1, 0.2]])}, ["p0"]).allocation({"sw": 3})
