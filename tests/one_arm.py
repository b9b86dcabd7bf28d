"""One strategy for one allocation, as tests ask for it; the library ranks a pool once and counts several votes on the same draws."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from bestofl_lib.analysis.contest import Contest
from bestofl_lib.analysis.votes import DRAWS, Estimate, votes_of_shares

Table = Mapping[str, np.ndarray]


def best_of_allocation(rewards: Table, is_correct: Table, allocation: Mapping[str, int]) -> np.ndarray:
    """(problems,) chance that the highest reward among all candidates of the allocation belongs to a correct one."""
    used = {code: k for code, k in allocation.items() if k}
    return Contest.of({c: rewards[c] for c in used}, {c: is_correct[c] for c in used}).allocation(used)


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
