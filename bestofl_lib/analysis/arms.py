"""What each strategy makes of a pool: per-problem figures at every budget.

An arm is a set of languages (pool) with a strategy and, for some strategies, a reward model. This file knows which
estimator serves which arm, and averages the training seeds of a reward model. It deliberately knows nothing of
uncertainty and draws no charts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from bestofl_lib.analysis.arrays import MEASURES, CandidateArrays
from bestofl_lib.analysis.best_of_k import best_of_k
from bestofl_lib.analysis.contest import Contest
from bestofl_lib.analysis.coverage import coverage_of_shares
from bestofl_lib.analysis.majority import EXACT, majority
from bestofl_lib.analysis.votes import DRAWS, Kind, Tally, votes_of_shares

Array = np.ndarray
UNREWARDED = ("random", "oracle", "majority", *MEASURES)  # strategies without a reward model
REWARDED = ("best_of_k", "weighted")
STRATEGIES = (*UNREWARDED, *REWARDED)
VOTE_WEIGHTS = ("logistic", "reward")


@dataclass(frozen=True)
class Values:
    """One arm's figures, problem by problem."""

    accuracy: Array  # (problems, budgets) in [0, 1]; the mean over training seeds
    mc_error: Array  # (budgets,) Monte Carlo standard error of the mean over problems; 0 where exact
    by_seed: Array | None = None  # (seeds, problems, budgets) accuracy per training seed; None: one seed or no model

    @property
    def of_seeds(self) -> Array | None:
        """(seeds, budgets) mean over problems per training seed."""
        return None if self.by_seed is None else self.by_seed.mean(1)


def arm_values(
    arrays: CandidateArrays,
    name: str,
    strategy: str,
    reward_model: str | None = None,
    budgets: Sequence[int] = (1,),
    draws: int = DRAWS,
    seed: int = 0,
    vote_weights: str = "logistic",
) -> Values | None:
    """Per-problem accuracy of one arm at every budget.

    Args:
        arrays: the stored candidates.
        name: which languages share the budget equally: a code, "mixed", "mixed-en", codes joined by "+", or "half-en"
            (English gets half, rounded up, and all others share the rest).
        strategy: random, oracle, majority, logprob, shortest, arithmetic, best_of_k or weighted.
        reward_model: for best_of_k and weighted; "mono" takes each language's own model.
        budgets: completions per problem over all languages.
        draws, seed: of the Monte Carlo that serves weighted votes, majority over several languages, and majority in one
            language above a budget of 64.
        vote_weights: "logistic": a vote weighs 1 / (1 + exp(−reward)), the chance to be correct that a classifier's
            log-odds state; "reward": the reward itself, for models that already give a chance.

    Returns:
        Values, or None where the arm has no such numbers (a reward model that does not cover its languages, unknown
        log-probabilities, lengths or equations).

    Raises:
        ValueError: unknown names, or a budget above the pool, with problem and language.
    """
    checked_arm(arrays, name, strategy, reward_model, vote_weights)
    if strategy == "weighted":
        return votes_of(arrays, name, budgets, draws, seed, vote_weights).get(reward_model)
    if strategy not in REWARDED or len(arrays.by_seed) == 1:
        return _values(arrays, name, strategy, reward_model, budgets, draws, seed)
    found = [_values(p, name, strategy, reward_model, budgets, draws, seed) for p in arrays.by_seed]
    trained = [values for values in found if values is not None]
    if len(trained) < len(found):
        return None
    return Values(
        np.mean([values.accuracy for values in trained], 0),
        np.sqrt(np.sum([values.mc_error**2 for values in trained], 0)) / len(trained),
        np.stack([values.accuracy for values in trained]),
    )


def _values(
    arrays: CandidateArrays,
    name: str,
    strategy: str,
    reward_model: str | None,
    budgets: Sequence[int],
    draws: int,
    seed: int,
) -> Values | None:
    """`arm_values` of one training seed, for all strategies but weighted votes."""
    members, half, ids = arrays.members(name), arrays.half(name), arrays.problem_ids
    ks = np.asarray(list(budgets), int)
    exact = np.zeros(len(ks))
    if strategy == "random":
        return Values(_random(arrays, name, ks), exact)
    if strategy == "oracle":
        if half:
            return Values(contest_of(arrays, "oracle", members).shares(ks, members, half), exact)
        correct = {code: arrays.is_correct[code] for code in members}
        return Values(coverage_of_shares(correct, budgets=ks, problem_ids=ids), exact)
    if strategy == "majority":
        return majority_values(arrays, name, budgets, draws, seed)
    model = strategy if strategy in MEASURES else str(reward_model)
    rewards = arrays.reward(model, members)
    if rewards is None:
        return None
    if len(members) == 1:
        return Values(
            best_of_k(rewards[name], arrays.is_correct[name], budgets=ks, problem_ids=ids, language=name), exact
        )
    every = arrays.languages  # most of them: the ranking of all serves, rather than one more
    ranked = every if 2 * len(members) > len(every) and arrays.reward(model, every) is not None else members
    return Values(contest_of(arrays, model, ranked).shares(ks, members, half), exact)


def majority_values(
    arrays: CandidateArrays,
    name: str,
    budgets: Sequence[int],
    draws: int = DRAWS,
    seed: int = 0,
    vote_weights: str | None = None,
) -> Values:
    """Majority of an arm: exact for budgets up to 64 in one language, else simulated.

    Args:
        vote_weights: given where weighted votes of the same arm are wanted too: all are then counted on the same draws.
    """
    ks = np.asarray(list(budgets), int)
    exact = (ks <= EXACT) & (len(arrays.members(name)) == 1)
    if not exact.any():
        return votes_of(arrays, name, budgets, draws, seed, vote_weights)[None]
    values, error = np.empty((arrays.n_problems, len(ks))), np.zeros(len(ks))
    answers, ids = arrays.answers[name], arrays.problem_ids
    values[:, exact] = majority(answers, arrays.reference, budgets=ks[exact], problem_ids=ids, language=name)
    if not exact.all():
        drawn = votes_of(arrays, name, budgets, draws, seed, vote_weights)[None]
        values[:, ~exact], error[~exact] = drawn.accuracy[:, ~exact], drawn.mc_error[~exact]
    return Values(values, error)


def votes_of(
    arrays: CandidateArrays,
    name: str,
    budgets: Sequence[int],
    draws: int = DRAWS,
    seed: int = 0,
    vote_weights: str | None = "logistic",
) -> dict[str | None, Values]:
    """Simulated votes of an arm, all on the same draws, made once per pool: by reward model, and None for the majority.

    Args:
        vote_weights: as in `arm_values`; None: the majority alone. The majority of a single language is exact up to a
            budget of 64, and simulated only above.
    """
    members, ks = arrays.members(name), tuple(int(k) for k in budgets)

    def simulate() -> dict[str | None, Values]:
        kinds: dict[str | None, Kind] = {None: [None]} if len(members) > 1 or max(ks) > EXACT else {}
        for model in arrays.reward_models if vote_weights else ():
            found = [one.reward(model, members) for one in arrays.by_seed]
            tables = [rewards for rewards in found if rewards is not None]
            if len(tables) == len(found):
                kinds[model] = [{c: vote_weight(r, str(vote_weights)) for c, r in table.items()} for table in tables]
        if not kinds:
            return {}
        answers, half, ids = {code: arrays.answers[code] for code in members}, arrays.half(name), arrays.problem_ids
        every = list(kinds.values())
        tallies = votes_of_shares(answers, every, arrays.reference, ks, draws, seed, problem_ids=ids, half=half)
        return {model: _simulated(tally) for model, tally in zip(kinds, tallies, strict=True)}

    return arrays.remember(("votes", name, ks, draws, seed, vote_weights), simulate)


def _simulated(tally: Tally) -> Values:
    error = np.sqrt((tally.error**2).sum(0)) / len(tally.error)
    return Values(tally.by_seed.mean(0), error, tally.by_seed if len(tally.by_seed) > 1 else None)


def _random(arrays: CandidateArrays, name: str, ks: Array) -> Array:
    """(problems, budgets) share correct: each language weighs as much as its share of the budget."""
    members, half = arrays.members(name), arrays.half(name)
    largest = arrays.largest_budget(name)
    if ks.max() > largest:
        # refuses, naming problem and language
        coverage_of_shares(
            {code: arrays.is_correct[code] for code in members}, budgets=[int(ks.max())], problem_ids=arrays.problem_ids
        )
    share = {code: np.nansum(arrays.is_correct[code], 1) / arrays.n_candidates(code) for code in members}
    if half is None:
        return np.repeat(np.mean(list(share.values()), 0)[:, None], len(ks), 1)
    weight = (ks + 1) // 2 / ks
    others = np.mean([share[code] for code in members if code != half], 0)
    return share[half][:, None] * weight + others[:, None] * (1 - weight)


def vote_weight(rewards: Array, how: str = "logistic") -> Array:
    """What each vote weighs, see `arm_values`; nothing for a candidate that was set aside."""
    return expit(rewards) if how == "logistic" else np.where(np.isneginf(rewards), 0.0, rewards)


def contest_of(arrays: CandidateArrays, model: str, members: Sequence[str]) -> Contest:
    """The candidates of some languages ranked by one reward, made once per pool.

    `model` "oracle" ranks by correctness itself, so that best-of-k is coverage.

    Raises:
        ValueError: the reward model does not cover these languages.
    """

    def rank() -> Contest:
        correct = {code: arrays.is_correct[code] for code in members}
        rewards = correct if model == "oracle" else arrays.reward(model, members)
        if rewards is None:
            known = ", ".join(arrays.reward_models) or "none"
            raise ValueError(f"reward model {model!r} does not cover {', '.join(members)}; known: {known}")
        return Contest.of(rewards, correct, arrays.problem_ids)

    return arrays.remember(("contest", model, tuple(members)), rank)


def arm_tokens(arrays: CandidateArrays, name: str, budgets: Sequence[int]) -> Array | None:
    """(problems, budgets) expected generated tokens with equal shares; None where token counts are unknown."""
    members, half = arrays.members(name), arrays.half(name)
    means, ks = arrays.mean_tokens(members), np.asarray(list(budgets), float)
    if means is None or half is None:
        return None if means is None else means.mean(1)[:, None] * ks
    position = members.index(half)
    others = np.delete(means, position, 1).mean(1)
    return means[:, [position]] * np.ceil(ks / 2) + others[:, None] * np.floor(ks / 2)


def checked_arm(
    arrays: CandidateArrays, name: str, strategy: str, reward_model: str | None, vote_weights: str
) -> tuple[str, ...]:
    if strategy not in STRATEGIES:
        raise ValueError(f"unknown strategy {strategy!r}; known: {', '.join(STRATEGIES)}")
    if (strategy in REWARDED) != (reward_model is not None):
        need = "needs a reward model" if strategy in REWARDED else "takes no reward model"
        raise ValueError(f"strategy {strategy!r} {need}, found {reward_model!r}")
    if reward_model is not None and reward_model not in arrays.reward_models:
        raise ValueError(f"no rewards by {reward_model!r}; known: {', '.join(arrays.reward_models) or 'none'}")
    if vote_weights not in VOTE_WEIGHTS:
        raise ValueError(f"unknown vote_weights {vote_weights!r}; known: {', '.join(VOTE_WEIGHTS)}")
    return arrays.members(name)
