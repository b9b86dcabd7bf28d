"""One kind of vote alone, as the tests of votes ask for it; the library counts several kinds on the same draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bestofl_lib.analysis.votes import DRAWS, Estimate, votes_of_shares

Table = Mapping[str, np.ndarray]


def majority_of_shares(
    answers: Table, reference: np.ndarray, budgets: Sequence[int], draws: int = DRAWS, seed: int = 0, **how: object
) -> Estimate:
    return votes_of_shares(answers, [[None]], reference, budgets, draws, seed, **how)[0].estimate


def weighted_vote_of_shares(
    weights: Table,
    answers: Table,
    reference: np.ndarray,
    budgets: Sequence[int],
    draws: int = DRAWS,
    seed: int = 0,
    **how: object,
) -> Estimate:
    return votes_of_shares(answers, [[weights]], reference, budgets, draws, seed, **how)[0].estimate
