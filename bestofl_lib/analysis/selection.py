"""What each strategy makes of a pool: per-problem figures at every budget, and the concrete picks of one draw.

An arm is a set of languages (pool) with a strategy and, for some strategies, a reward model. This file knows which
estimator serves which arm. It deliberately knows nothing of uncertainty and draws no charts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from scipy.special import expit

from bestofl_lib.analysis import estimators as est
from bestofl_lib.analysis.pool import UNRANKED, Pool

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
    members = _check(pool, name, strategy, reward_model, vote_weights)
    ids, ks = pool.problem_ids, np.asarray(list(budgets), int)
    correct = {code: pool.is_correct[code] for code in members}
    only = members[0] if len(members) == 1 else None
    exact = np.zeros(len(ks))
    if strategy == "oracle":
        return Values(est.coverage_of_shares(correct, budgets=ks, problem_ids=ids), exact)
    if strategy == "random":
        est.coverage_of_shares(correct, budgets=[int(ks.max())], problem_ids=ids)  # refuses a budget above the pool
        mean = np.mean([np.nansum(correct[c], 1) / pool.n_candidates(c) for c in members], 0)
        return Values(np.repeat(mean[:, None], len(ks), 1), exact)
    if strategy == "majority":
        answers = {code: pool.answers[code] for code in members}
        if only:
            return Values(
                est.majority(answers[only], pool.reference, budgets=ks, problem_ids=ids, language=only), exact
            )
        return _drawn(est.majority_of_shares(answers, pool.reference, ks.tolist(), draws, seed, problem_ids=ids))
    model = strategy if strategy in ("logprob", "shortest") else str(reward_model)
    rewards = pool.reward(model, members)
    if rewards is None:
        return None
    if strategy == "weighted":
        answers = {code: pool.answers[code] for code in members}
        weights = {code: vote_weight(table, vote_weights) for code, table in rewards.items()}
        return _drawn(
            est.weighted_vote_of_shares(weights, answers, pool.reference, ks.tolist(), draws, seed, problem_ids=ids)
        )
    if only:
        return Values(est.best_of_k(rewards[only], correct[only], budgets=ks, problem_ids=ids, language=only), exact)
    return Values(contest(pool, model, members).shares(ks), exact)


def vote_weight(rewards: Array, how: str = "logistic") -> Array:
    """What each vote weighs, see `arm_values`; nothing for a candidate that was set aside."""
    return expit(rewards) if how == "logistic" else np.where(rewards <= UNRANKED / 2, 0.0, rewards)


def contest(pool: Pool, model: str, members: Sequence[str]) -> est.Contest:
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
        pool._cache[key] = est.Contest.of(rewards, correct, pool.problem_ids)
    return pool._cache[key]


def arm_tokens(pool: Pool, name: str, budgets: Sequence[int]) -> Array | None:
    """(problems, budgets) expected generated tokens with equal shares; None where token counts are unknown."""
    means = pool.mean_tokens(pool.members(name))
    return None if means is None else means.mean(1)[:, None] * np.asarray(list(budgets), float)


def selected_languages(
    pool: Pool,
    name: str = "mixed",
    reward_model: str = "cross",
    budgets: Sequence[int] = (4,),
    strategy: str = "best_of_k",
) -> pl.DataFrame:
    """How often the winner comes from each language, exactly.

    Returns:
        One row per language and budget: `language`, `share` (of wins), `strategy`, `reward_model`, `pool`, `budget`,
        `n_problems`. Empty where the reward model does not cover the pool.
    """
    members = _check(pool, name, strategy, reward_model if strategy == "best_of_k" else None, "logistic")
    rewards = pool.reward(strategy if strategy in ("logprob", "shortest") else reward_model, members)
    rows = []
    if rewards is not None:
        for code in members:
            mine = {c: np.where(pool.exists[c], float(c == code), np.nan) for c in members}
            shares = est.best_of_shares(rewards, mine, budgets=list(budgets), problem_ids=pool.problem_ids).mean(0)
            rows += [(code, float(s), int(k)) for s, k in zip(shares, budgets, strict=True)]
    return pl.DataFrame(
        rows, schema={"language": pl.String, "share": pl.Float64, "budget": pl.Int32}, orient="row"
    ).select(
        "language",
        "share",
        pl.lit(strategy).alias("strategy"),
        pl.lit(reward_model if strategy == "best_of_k" else None, pl.String).alias("reward_model"),
        pl.lit(name).alias("pool"),
        "budget",
        pl.lit(pool.n_problems, pl.Int32).alias("n_problems"),
    )


def selected_by_every_rule(pool: Pool, budget: int | None = None, name: str = "mixed") -> pl.DataFrame:
    """`selected_languages` of each reward model that covers the pool, of log-probability and of length.

    Args:
        budget: completions per problem; by default one of each language of the pool.
    """
    budgets = [len(pool.members(name)) if budget is None else budget]
    models = [
        selected_languages(pool, name, model, budgets)
        for model in pool.reward_models
        if pool.reward(model, pool.members(name))
    ]
    return pl.concat(
        [*models, *(selected_languages(pool, name, rule, budgets, rule) for rule in ("logprob", "shortest"))]
    )


def drawn(pool: Pool, allocation: Mapping[str, int], seed: int = 0) -> pl.DataFrame:
    """One random draw per problem with this allocation: which stored candidates it holds.

    Returns:
        One row per drawn candidate: `problem_id`, `language`, `sample_index`, `is_correct`.
    """
    rng = np.random.default_rng(seed)
    used = est._checked_allocation(allocation, pool.languages)
    rows = []
    for code, k in used.items():
        est._check_budget(pool.n_candidates(code), k, pool.problem_ids, code)
        order = np.argsort(np.where(pool.exists[code], rng.random(pool.exists[code].shape), np.inf), 1)[:, :k]
        index = np.take_along_axis(pool.sample_index[code], order, 1)
        right = np.take_along_axis(pool.is_correct[code], order, 1) > 0
        rows += [
            (problem, code, int(i), bool(c))
            for p, problem in enumerate(pool.problem_ids)
            for i, c in zip(index[p], right[p], strict=True)
        ]
    schema = {"problem_id": pl.String, "language": pl.String, "sample_index": pl.Int32, "is_correct": pl.Boolean}
    return pl.DataFrame(rows, schema=schema, orient="row").sort("problem_id", "language", "sample_index")


def picks(
    pool: Pool,
    allocation: Mapping[str, int],
    strategy: str = "best_of_k",
    reward_model: str | None = None,
    seed: int = 0,
    vote_weights: str = "logistic",
) -> pl.DataFrame:
    """The candidate that a strategy picks from one random draw per problem, for reading.

    Ties are broken by the seed. Votes pick one candidate of the winning answer. `oracle` picks a correct one if drawn.

    Returns:
        One row per problem: `problem_id`, `language`, `sample_index` (of the pick), `is_correct`, `strategy`,
        `reward_model`, `budget`. No row where a vote had no answer to count.
    """
    used = est._checked_allocation(allocation, pool.languages)
    _check(pool, "+".join(used), strategy, reward_model, vote_weights)
    members, table = tuple(used), drawn(pool, used, seed)
    model = strategy if strategy in ("logprob", "shortest") else reward_model
    rewards = pool.reward(model, members) if model else None
    if model and rewards is None:
        raise ValueError(f"{model!r} gives no numbers for {', '.join(members)}; choose another strategy or pool")
    row = {problem: p for p, problem in enumerate(pool.problem_ids)}
    places = {c: {(p, i): n for (p, n), i in np.ndenumerate(pool.sample_index[c]) if i >= 0} for c in members}
    value, answer = [], []
    for problem, code, index, right in table.iter_rows():
        at = (row[problem], places[code][(row[problem], index)])
        value.append(float(rewards[code][at]) if rewards else float(right) if strategy == "oracle" else 0.0)
        answer.append(int(pool.answers[code][at]))
    table = table.with_columns(
        value=pl.Series(value, dtype=pl.Float64),
        answer=pl.Series(answer, dtype=pl.Int64),
        lot=pl.Series(np.random.default_rng(seed + 1).random(len(table))),
    )
    if strategy in ("majority", "weighted"):
        each = vote_weight(table["value"].to_numpy(), vote_weights) if strategy == "weighted" else np.ones(len(table))
        table = table.with_columns(weight=pl.Series(each))
        tally = (
            table.filter(pl.col("answer") >= 0)
            .group_by("problem_id", "answer")
            .agg(pl.col("weight").sum().round(9).alias("votes"), pl.col("lot").min().alias("turn"))
            .sort("problem_id", "votes", "turn", descending=[False, True, False])
            .unique("problem_id", keep="first", maintain_order=True)
        )
        table = table.join(tally.select("problem_id", "answer"), on=["problem_id", "answer"], how="semi")
    return (
        table.sort("problem_id", "value", "lot", descending=[False, True, False])
        .unique("problem_id", keep="first", maintain_order=True)
        .select("problem_id", "language", "sample_index", "is_correct")
        .with_columns(
            strategy=pl.lit(strategy),
            reward_model=pl.lit(reward_model, pl.String),
            budget=pl.lit(sum(used.values()), pl.Int32),
        )
    )


def _drawn(estimate: est.Estimate) -> Values:
    return Values(estimate.value, np.sqrt((estimate.standard_error**2).sum(0)) / len(estimate.value))


def _check(pool: Pool, name: str, strategy: str, reward_model: str | None, vote_weights: str) -> tuple[str, ...]:
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
