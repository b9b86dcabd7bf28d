"""The controls beside the gain of H1: what one would try instead of the mixed pool and the cross-lingual model.

They are voting, log-probability, a model of all languages with fitted language intercepts, trusting the language that
was best elsewhere, cross without its preference between languages, and asking in the base language. Whatever is fitted
is fitted on problems that are not judged: on the dev split where one was drawn; else the language prior on the training
split, and intercepts and means on other folds. Those cannot come from training problems: a reward model knows them, so
that its rewards there are too good, and models of other folds have offsets of their own, since the loss of multi leaves
the offset between languages open. What is chosen (the best way to use the base language) is chosen on other folds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from sklearn.linear_model import LogisticRegression

from bestofl_lib.analysis.arrays import CandidateArrays
from bestofl_lib.analysis.bootstrap import REPLICATES
from bestofl_lib.analysis.contest import Contest
from bestofl_lib.analysis.decomposition import Cells
from bestofl_lib.analysis.figures import Figures, arm_figures, best_on_other_folds, compared, equal_folds, side_by_side
from bestofl_lib.analysis.uncertainty import mean_interval
from bestofl_lib.analysis.verdicts import holm
from bestofl_lib.analysis.votes import DRAWS
from bestofl_lib.tables import SCHEMAS

Array = np.ndarray
Seen = Mapping[str, tuple[Array, Array]]  # per language rewards and correctness of the problems that may be looked at
Moves = dict[str, Callable[[Array], Array]]  # per language how its rewards are changed


def control_table(
    arrays: CandidateArrays,
    cells: Cells,
    cross: str = "cross",
    mono: str = "mono",
    replicates: int = REPLICATES,
    seed: int = 0,
    outside: CandidateArrays | None = None,
) -> pl.DataFrame:
    """Every cell and control: accuracy, and gain over the own pool chosen from by the own model.

    Args:
        outside: candidates of problems that are not judged, see `claims.claims_of`.

    Returns:
        Table `claim_controls`: one row per arm and target language, and one for the mean over languages (language
        null). Holm is over all rows of one language. Arms that the pool has no numbers for are absent.
    """
    arms = _control_arms(arrays, cells, cross, mono, seed, outside)
    every = side_by_side([side_by_side([arm, arm.average()]) for arm in arms.values()])
    start = side_by_side([cells.own_mono, cells.own_mono.average()])
    gains = side_by_side([side_by_side([arm, arm.average()]) - start for arm in arms.values()])
    level = mean_interval(every.of_problems, replicates=replicates, seed=seed, of_seeds=every.of_seeds)
    gain = compared(gains, replicates=replicates, seed=seed)
    languages = [*cells.targets, None]
    rows = []
    for place, (name, selector, held) in enumerate(arms):
        itself = (name, selector) == ("own", mono)  # what the others are compared with: 0 for certain
        for offset, code in enumerate(languages):
            i = place * len(languages) + offset
            rows.append(
                {
                    "language": code,
                    "pool": name if name != "own" or code is None else code,
                    "selector": selector,
                    "fitted": held,
                    "budget": 1 if selector == "one draw" else cells.budget,
                    "accuracy": level.estimate[i],
                    "low": level.low[i],
                    "high": level.high[i],
                    "gain": gain.effect[i],
                    "gain_low": 0.0 if itself else gain.low[i],
                    "gain_high": 0.0 if itself else gain.high[i],
                    "p": None if itself else gain.p[i],
                    "n_problems": arrays.n_problems,
                }
            )
    table = pl.DataFrame(rows, infer_schema_length=None)
    corrected = table.select(
        pl.col("p").map_batches(lambda p: pl.Series(holm(p.to_list())), return_dtype=pl.Float64).over("language")
    )
    return table.with_columns(p_holm=corrected["p"].fill_nan(None)).select(SCHEMAS["claim_controls"].names())


def _control_arms(
    arrays: CandidateArrays, cells: Cells, cross: str, mono: str, seed: int, outside: CandidateArrays | None
) -> dict[tuple[str, str, bool], Figures]:
    """Figures per (pool, selector, whether something was fitted), one column per target."""
    k, count = cells.budget, len(cells.targets)

    def wide(figures: Figures) -> Figures:
        return Figures(np.repeat(figures.values, count, 2))

    arms = {
        ("own", mono, False): cells.own_mono,
        ("own", cross, False): cells.own_cross,
        ("mixed", mono, False): cells.mixed_mono,
        ("mixed", cross, False): cells.mixed_cross,
    }
    for strategy in ("majority", "logprob", "arithmetic"):
        if strategy != "majority" and arrays.reward(strategy, arrays.languages) is None:
            continue
        own = [arm_figures(arrays, code, strategy, None, [k], DRAWS, seed) for code in cells.targets]
        arms["own", strategy, False] = side_by_side(own)
        arms["mixed", strategy, False] = wide(arm_figures(arrays, "mixed", strategy, None, [k], DRAWS, seed))
    fold = equal_folds(arrays.n_problems, seed=seed)
    multi = arrays.reward("multi", arrays.languages) is not None
    if multi:
        arms["mixed", "multi", False] = wide(arm_figures(arrays, "mixed", "best_of_k", "multi", [k]))
        arms["mixed", "multi with intercepts", True] = wide(
            _refitted(arrays, k, "multi", with_intercepts, fold, outside)
        )
    arms["mixed", f"{cross} without language means", True] = wide(
        _refitted(arrays, k, cross, without_language_means, fold, outside)
    )
    arms["mixed", "language prior", True] = wide(_refitted(arrays, k, cross, language_prior, fold, outside))
    best, _ = best_on_other_folds(base_ways(arrays, [k], cross, mono, seed), fold)
    arms[arrays.base, "best way", True] = wide(best)
    arms[arrays.base, "one draw", False] = wide(arm_figures(arrays, arrays.base, "random", None, [1]))
    return arms


def base_ways(
    arrays: CandidateArrays, budgets: Sequence[int], cross: str, mono: str, seed: int = 0
) -> dict[str, Figures]:
    """The ways to use a budget in the base language alone: own model, cross, log-probability, arithmetic check,
    majority.
    """
    ways = {"majority": arm_figures(arrays, arrays.base, "majority", None, budgets, DRAWS, seed)}
    for measure in ("logprob", "arithmetic"):
        if arrays.reward(measure, [arrays.base]) is not None:
            ways[measure] = arm_figures(arrays, arrays.base, measure, None, budgets)
    for model in (mono, cross):
        if model in arrays.reward_models and arrays.reward(model, [arrays.base]) is not None:
            ways[model] = arm_figures(arrays, arrays.base, "best_of_k", model, budgets)
    return ways


def _refitted(
    arrays: CandidateArrays,
    budget: int,
    model: str,
    refit: Callable[[Seen], Moves],
    fold: Array,
    outside: CandidateArrays | None = None,
) -> Figures:
    """Best-of-k in the mixed pool by rewards that were refitted on other problems than those they are used on."""
    every = arrays.by_seed
    known = [None] * len(every) if outside is None else _seen_outside(outside, arrays, model, refit)
    values = []
    for one, seen in zip(every, known, strict=True):
        rewards = one.reward(model, one.languages)
        if rewards is None:
            raise ValueError(f"reward model {model!r} does not cover {', '.join(one.languages)}; score its candidates")
        correct = {code: one.is_correct[code] for code in one.languages}
        changed = {code: np.full_like(table, np.nan) for code, table in rewards.items()}
        for part in np.unique(fold):
            judged = fold == part
            inside = {code: (table[~judged], correct[code][~judged]) for code, table in rewards.items()}
            for code, move in refit(seen or inside).items():
                kept = rewards[code][judged]
                changed[code][judged] = np.where(np.isneginf(kept), kept, move(kept))
        values.append(Contest.of(changed, correct, one.problem_ids).shares([budget]))
    return Figures(np.stack(values))


def _seen_outside(
    outside: CandidateArrays, arrays: CandidateArrays, model: str, refit: Callable[[Seen], Moves]
) -> list[Seen | None]:
    """Rewards and correctness of problems outside, per training seed; None where it lacks languages or rewards."""
    codes, correct = arrays.languages, outside.is_correct
    if not set(codes) <= set(outside.languages):
        return [None] * len(arrays.by_seed)
    if refit is language_prior:  # needs no rewards
        return [{code: (correct[code], correct[code]) for code in codes}] * len(arrays.by_seed)
    found = [one.reward(model, codes) for one in outside.by_seed]
    if outside.seeds != arrays.seeds or any(rewards is None for rewards in found):
        return [None] * len(arrays.by_seed)
    return [{code: (rewards[code], correct[code]) for code in codes} for rewards in found if rewards is not None]


@dataclass(frozen=True)
class _Line:
    """slope × reward + intercept; NaN stays NaN: no candidate."""

    slope: float
    intercept: float

    def __call__(self, rewards: Array) -> Array:
        return self.slope * rewards + self.intercept


def with_intercepts(seen: Seen) -> Moves:
    """Logistic regression of correctness on the reward and the language: rewards become comparable across languages."""
    x, y, language = [], [], []
    for position, (reward, correct) in enumerate(seen.values()):
        exists = np.isfinite(reward) & ~np.isnan(correct)
        x.append(reward[exists])
        y.append(correct[exists])
        language.append(np.full(exists.sum(), position))
    rewards, right, place = np.concatenate(x), np.concatenate(y), np.concatenate(language)
    if right.min() == right.max():
        return {code: _Line(1.0, 0.0) for code in seen}
    mean, scale = float(rewards.mean()), float(rewards.std()) or 1.0
    table = np.concatenate([((rewards - mean) / scale)[:, None], np.eye(len(seen))[place]], 1)
    fit = LogisticRegression(C=1e3, fit_intercept=False, solver="newton-cholesky").fit(table, right)
    slope, intercepts = float(fit.coef_[0, 0]), fit.coef_[0, 1:]
    return {
        code: _Line(slope / scale, float(b) - slope * mean / scale) for code, b in zip(seen, intercepts, strict=True)
    }


def without_language_means(seen: Seen) -> Moves:
    """Each language's mean reward is subtracted: what remains is the ranking within languages."""
    means = {code: float(reward[np.isfinite(reward)].mean()) for code, (reward, _) in seen.items()}
    return {code: _Line(1.0, -mean) for code, mean in means.items()}


def language_prior(seen: Seen) -> Moves:
    """The accuracy of the language is the reward: any candidate of the best language drawn wins."""
    shares = {code: float(np.nanmean(correct)) for code, (_, correct) in seen.items()}
    return {code: _Line(0.0, share) for code, share in shares.items()}
