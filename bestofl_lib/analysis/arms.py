"""What each strategy makes of a pool: per-problem figures at every budget.

An arm is a set of languages (pool) with a strategy and, for some strategies, a reward model. This file knows which
estimator serves which arm. It deliberately knows nothing of uncertainty and draws no charts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from bestofl_lib.analysis.best_of_k import best_of_k
from bestofl_lib.analysis.contest import Contest
from bestofl_lib.analysis.coverage import coverage_of_shares
from bestofl_lib.analysis.majority import majority
from bestofl_lib.analysis.pool import UNRANKED, Pool
from bestofl_lib.analysis.votes import Estimate, majority_of_shares, weighted_vote_of_shares

Array = np.ndarray
PLAIN = ("random", "oracle", "majority", "logprob", "shortest")  # strategies without a reward model
REWARDED = ("best_of_k", "weighted")
STRATEGIES = (*PLAIN, *REWARDED)
VOTE_WEIGHTS = ("logistic", "reward")


@dataclass(frozen=True)
class Values:
    """One arm's figures, problem by problem."""

    accuracy: Array  # (problems, budgets) in [0, 1]
    mc_error: Array  # (budgets,) Monte Carlo standard error of the mean over problems; 0 where exact


def arm_values(
    pool: Pool,
    name: str,
    strategy: str,
    reward_model: str | None = None,
    budgets: Sequence[int] = (1,),
    draws: int = 200,
    seed: int = 0,
    vote_weights: str = "logistic",
) -> Values | None:
    """Per-problem accuracy of one arm with equal shares at every budget.

    Args:
        pool: the stored candidates.
        name: which languages share the budget: a code, "mixed", "mixed-en", or codes joined by "+".
        strategy: random, oracle, majority, logprob, shortest, best_of_k or weighted.
        reward_model: for best_of_k and weighted; "mono" takes each language's own model.
        budgets: completions per problem over all languages.
        draws, seed: of the Monte Carlo that serves weighted votes, and majority over several languages.
        vote_weights: "logistic": a vote weighs 1 / (1 + exp(−reward)), the chance to be correct that a classifier's
            log-odds state; "reward": the reward itself, for models that already give a chance.

    Returns:
        Values, or None where the arm has no such numbers (a reward model that does not cover its languages, unknown
        log-probabilities or lengths).

    Raises:
        ValueError: unknown names, or a budget above the pool, with problem and language.
    """
    members = checked_arm(pool, name, strategy, reward_model, vote_weights)
    ids, ks = pool.problem_ids, np.asarray(list(budgets), int)
    correct = {code: pool.is_correct[code] for code in members}
    only = members[0] if len(members) == 1 else None
    exact = np.zeros(len(ks))
    if strategy == "oracle":
        return Values(coverage_of_shares(correct, budgets=ks, problem_ids=ids), exact)
    if strategy == "random":
        coverage_of_shares(correct, budgets=[int(ks.max())], problem_ids=ids)  # refuses a budget above the pool
        mean = np.mean([np.nansum(correct[c], 1) / pool.n_candidates(c) for c in members], 0)
        return Values(np.repeat(mean[:, None], len(ks), 1), exact)
    if strategy == "majority":
        answers = {code: pool.answers[code] for code in members}
        if only:
            return Values(majority(answers[only], pool.reference, budgets=ks, problem_ids=ids, language=only), exact)
        return _drawn(majority_of_shares(answers, pool.reference, ks.tolist(), draws, seed, problem_ids=ids))
    model = strategy if strategy in ("logprob", "shortest") else str(reward_model)
    rewards = pool.reward(model, members)
    if rewards is None:
        return None
    if strategy == "weighted":
        answers = {code: pool.answers[code] for code in members}
        weights = {code: vote_weight(table, vote_weights) for code, table in rewards.items()}
        return _drawn(
            weighted_vote_of_shares(weights, answers, pool.reference, ks.tolist(), draws, seed, problem_ids=ids)
        )
    if only:
        return Values(best_of_k(rewards[only], correct[only], budgets=ks, problem_ids=ids, language=only), exact)
    return Values(contest_of(pool, model, members).shares(ks), exact)


def vote_weight(rewards: Array, how: str = "logistic") -> Array:
    """What each vote weighs, see `arm_values`; nothing for a candidate that was set aside."""
    return expit(rewards) if how == "logistic" else np.where(rewards <= UNRANKED / 2, 0.0, rewards)


def contest_of(pool: Pool, model: str, members: Sequence[str]) -> Contest:
    """The candidates of some languages ranked by one reward, made once per pool.

    `model` "oracle" ranks by correctness itself, so that best-of-k is coverage.

    Raises:
        ValueError: the reward model does not cover these languages.
    """
    key = (model, tuple(members))
    if key not in pool._cache:
        correct = {code: pool.is_correct[code] for code in members}
        rewards = correct if model == "oracle" else pool.reward(model, members)
        if rewards is None:
            known = ", ".join(pool.reward_models) or "none"
            raise ValueError(f"reward model {model!r} does not cover {', '.join(members)}; known: {known}")
        pool._cache[key] = Contest.of(rewards, correct, pool.problem_ids)
    return pool._cache[key]


def arm_tokens(pool: Pool, name: str, budgets: Sequence[int]) -> Array | None:
    """(problems, budgets) expected generated tokens with equal shares; None where token counts are unknown."""
    means = pool.mean_tokens(pool.members(name))
    return None if means is None else means.mean(1)[:, None] * np.asarray(list(budgets), float)


def checked_arm(pool: Pool, name: str, strategy: str, reward_model: str | None, vote_weights: str) -> tuple[str, ...]:
    if strategy not in STRATEGIES:
        raise ValueError(f"unknown strategy {strategy!r}; known: {', '.join(STRATEGIES)}")
    if (strategy in REWARDED) != (reward_model is not None):
        need = "needs a reward model" if strategy in REWARDED else "takes no reward model"
        raise ValueError(f"strategy {strategy!r} {need}, found {reward_model!r}")
    if reward_model is not None and reward_model not in pool.reward_models:
        raise ValueError(f"no rewards by {reward_model!r}; known: {', '.join(pool.reward_models) or 'none'}")
    if vote_weights not in VOTE_WEIGHTS:
        raise ValueError(f"unknown vote_weights {vote_weights!r}; known: {', '.join(VOTE_WEIGHTS)}")
    return pool.members(name)


def _drawn(estimate: Estimate) -> Values:
    return Values(estimate.value, np.sqrt((estimate.standard_error**2).sum(0)) / len(estimate.value))
