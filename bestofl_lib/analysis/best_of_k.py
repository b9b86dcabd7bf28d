"""Best-of-k by reward: the chance that the highest reward of a budget belongs to a correct candidate, exactly.

Arrays are `(problems, candidates)`; NaN marks a candidate that does not exist (problems may have unequal numbers of
candidates); ties share equally. `budget` is one number and gives `(problems,)`, `budgets` is a sequence and gives
`(problems, budgets)`. A budget that several languages share: ask a `Contest`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bestofl_lib.analysis.checks import (
    check_budget,
    checked_budgets,
    checked_rewards,
)

Array = np.ndarray


def best_of_k(
    rewards: Array,
    is_correct: Array,
    budget: int | None = None,
    *,
    budgets: Sequence[int] | Array | None = None,
    problem_ids: Sequence[str] | None = None,
    language: str | None = None,
) -> Array:
    """Chance that the highest reward among `budget` candidates belongs to a correct one.

    Args:
        rewards: (problems, candidates) float; NaN: the candidate does not exist.
        is_correct: (problems, candidates) bool, or float with NaN where the candidate does not exist. With floats a
            NaN reward of a candidate that exists is an error; with bools a NaN reward means that none exists.
        budget: candidates kept per problem, 1..min(candidates).
        budgets: several of them at once, instead of `budget`.

    Returns:
        (problems,) float in [0, 1], or (problems, budgets).

    Raises:
        ValueError: naming the first candidate whose reward is infinite or NaN, or a problem with too few candidates.

    >>> best_of_k(np.array([[0.1, 0.9]]), np.array([[True, False]]), budgets=[1, 2])
    array([[0.5, 0. ]])
    """
    ks, single = checked_budgets(budget, budgets, least=1)
    rewards, payoff, exists = checked_rewards(rewards, is_correct, problem_ids, language)
    n = exists.sum(1)
    check_budget(n, int(ks.max()), problem_ids, language)
    order = np.argsort(rewards, axis=1, kind="stable")  # NaN last
    payoff = _tie_means(np.take_along_axis(rewards, order, 1), np.take_along_axis(payoff, order, 1))
    result = np.empty((len(n), len(ks)))
    for size in np.unique(n):
        rows = n == size
        result[rows] = payoff[rows, :size] @ _win_weights(int(size), ks)
    return result[:, 0] if single else result


def _tie_means(rewards: Array, payoff: Array) -> Array:
    """Payoffs sorted by reward, each replaced by the mean of its tie."""
    first = np.ones(rewards.shape, bool)
    first[:, 1:] = rewards[:, 1:] != rewards[:, :-1]
    group = np.cumsum(first.ravel()) - 1
    sizes = np.bincount(group)
    return (np.bincount(group, payoff.ravel()) / sizes)[group].reshape(payoff.shape)


def _win_weights(n: int, ks: Array) -> Array:
    """(n, budgets) chance that the candidate at rank i (1 = lowest) is the best of k: C(i−1, k−1) / C(n, k)."""
    i = np.arange(n, 1, -1)[:, None]
    factors = np.clip(i - ks, 0, None) / (i - 1)
    weights = np.cumprod(np.concatenate([(ks / n)[None], factors]), 0)
    return weights[::-1]
