"""What another choice of languages, budget, strategy, reward model or offsets would reach on a stored run.

One `Setting` in, figures with intervals out. Rankings are kept between questions, so that the next one takes a tenth of
a second. It words nothing and knows no page.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple, TypeVar

import numpy as np
import polars as pl

from bestofl_lib.analysis import uncertainty
from bestofl_lib.analysis.apportion import apportion
from bestofl_lib.analysis.arms import REWARDED, Values, arm_values, contest_of, vote_weight
from bestofl_lib.analysis.arrays import MEASURES, CandidateArrays
from bestofl_lib.analysis.contest import Winners
from bestofl_lib.analysis.coverage import coverage_of_allocation
from bestofl_lib.analysis.run_scan import Source
from bestofl_lib.analysis.votes import Estimate, majority_of_allocation, weighted_vote_of_allocation
from bestofl_lib.languages import in_order
from bestofl_lib.tables import KEYS

Array = np.ndarray
Kept = TypeVar("Kept")

LARGE = 3_000_000  # rewards read at once; a larger run reads one reward model when it is chosen


@dataclass(frozen=True)
class Setting:
    """One what-if question to the pool."""

    languages: tuple[str, ...]  # those that may be given completions
    budget: int  # completions per problem, over all languages
    allocation: dict[str, int] | None  # completions per language; None: equal shares, the odd ones at random
    strategy: str  # one of arms.STRATEGIES
    reward_model: str | None = None
    offsets: dict[str, float] = field(default_factory=dict)  # added to a language's rewards


class Numbers:
    """The pools of one run as arrays, read when a question first needs them; rankings are kept for the next question.

    Args:
        source: see `open_run`.
    """

    def __init__(self, source: Source):
        self.source = source
        self._kept: dict[Any, Any] = {}

    @property
    def most(self) -> dict[str, int]:
        """Per language the candidates that every problem has: what can be allocated to it."""
        n_problems = self.source.cells["problem_id"].n_unique()
        counted = self.source.cells.group_by("language").agg(pl.col("n").min(), pl.len().alias("problems"))
        most = {
            row["language"]: row["n"] if row["problems"] == n_problems else 0 for row in counted.iter_rows(named=True)
        }
        return {code: most[code] for code in self.source.languages}

    def arrays(self, model: str | None = None) -> CandidateArrays:
        """All candidates; with the rewards of all models, or in a large run of the one asked for.

        Raises:
            ValueError: a candidate without reading, or without a reward that is a number.
        """
        source = self.source
        rows = int(source.cells["n"].sum())
        name = None if rows * max(1, len(source.models)) <= LARGE else model

        def read() -> CandidateArrays:
            asked = source.candidates().join(source.readings.select(KEYS), on=KEYS, how="semi")
            candidates = asked.select(*KEYS, "n_tokens", "logprob").unique(KEYS).collect()
            readings = source.readings.select(*KEYS, "answer", "is_correct", "false_equations").collect()
            stored = source.rewards_of_seeds if name is None else source.rewards_by(name, of_seeds=True)
            if name is None and rows * len(source.models) > LARGE:
                stored = None
            rewards = (
                None if stored is None else stored.join(source.readings.select(KEYS), on=KEYS, how="semi").collect()
            )
            # as curves have them: votes are drawn alike
            usable = in_order([code for code, n in self.most.items() if n])
            return CandidateArrays.of(candidates, readings, rewards, split=None, languages=usable)

        return self.keep(("pool", name), read)

    def ranked(self, model: str | None, offsets: Mapping[str, float]) -> CandidateArrays:
        """The same with offsets added to the rewards of each language."""
        moved = tuple(sorted((code, offset) for code, offset in offsets.items() if offset))
        return self.keep(("shifted", model, moved), lambda: shifted(self.arrays(model), model, offsets))

    def keep(self, key: Any, make: Callable[[], Kept]) -> Kept:
        """The value for this key, computed at first use; the newest 24 are kept."""
        value = self._kept.pop(key) if key in self._kept else make()
        self._kept[key] = value
        while len(self._kept) > 24:
            self._kept.pop(next(iter(self._kept)))
        return value


def what_if(numbers: Numbers, setting: Setting) -> dict[str, Any]:
    """Accuracy of one setting over all problems, its curve over budgets, and which languages it selects.

    Returns:
        JSON: `accuracy`, `low`, `high` (95 % over problems and training seeds), `n_problems`, `error` (of a Monte
        Carlo; null: exact), `lines` (equal shares over the languages, and English alone or else the first language:
        points of budget, accuracy, low, high), `oracle` and `random` (at this setting), `selected` (share of problems
        won per language; null for votes and the oracle), `tokens` (expected per problem; null where not stored),
        `allocation`.

    Raises:
        ValueError: no language, a budget that the pool does not have, or a strategy whose numbers are not stored.
    """
    arrays, model, total, top = _checked(numbers, setting)
    languages, budget, most = setting.languages, setting.budget, numbers.most
    allocation = setting.allocation or apportion(budget, languages, most)
    budgets = curve_budgets(top, budget if setting.allocation is None else None)
    shares = _arm(numbers, arrays, setting, languages, budgets)
    found = problem_values(numbers, setting)
    if setting.allocation is None:
        oracle = arm_values(arrays, "+".join(languages), "oracle", None, [budget])
        ceiling = float(oracle.accuracy.mean()) if oracle else None
        weights = dict.fromkeys(languages, 1 / len(languages))
    else:
        correct = {code: arrays.is_correct[code] for code in languages}
        ceiling = float(coverage_of_allocation(correct, allocation).mean())
        weights = {code: allocation[code] / budget for code in languages}
    interval = uncertainty.mean_interval(found.values, of_seeds=found.of_seeds)
    lines = [{"languages": list(languages), "points": _points(budgets, shares)}]
    alone = arrays.base
    if languages != (alone,):
        own = curve_budgets(most[alone], None)
        lines.append({
            "languages": [alone],
            "points": _points(own, _arm(numbers, arrays, setting, (alone,), own)),
        })  # fmt: skip
    return {
        "accuracy": float(interval.estimate), "low": float(interval.low), "high": float(interval.high),
        "n_problems": arrays.n_problems, "error": found.error or None, "lines": lines, "oracle": ceiling,
        "random": float(guess(arrays, weights).mean()), "selected": selected(numbers, arrays, setting, model, weights),
        "tokens": _tokens(arrays, weights, budget), "allocation": allocation, "equal": setting.allocation is None,
        "budget": budget, "top": top, "total": total,
    }  # fmt: skip


class Chances(NamedTuple):
    """How often one setting is right."""

    values: Array  # (problems,) chance to be right, the mean over training seeds
    error: float  # of their mean by Monte Carlo; 0: exact
    of_seeds: Array | None  # (seeds,) mean over problems per training seed; None: one seed or no reward model


def problem_values(numbers: Numbers, setting: Setting) -> Chances:
    """How often one setting is right, problem by problem.

    Raises:
        ValueError: see `what_if`.
    """
    arrays, model, _, top = _checked(numbers, setting)
    if setting.allocation is not None:
        return allocated(arrays, setting, model)
    budgets = curve_budgets(top, setting.budget)
    shares, at = _arm(numbers, arrays, setting, setting.languages, budgets), budgets.index(setting.budget)
    seeds = None if shares.of_seeds is None else shares.of_seeds[:, at]
    return Chances(shares.accuracy[:, at], float(shares.mc_error[at]), seeds)


def settings_difference(numbers: Numbers, first: Setting, second: Setting) -> uncertainty.Difference:
    """The second setting's accuracy minus the first's, paired by problem, with its interval and p-value.

    Raises:
        ValueError: see `what_if`; or the settings cover different problems.
    """
    one, other = (problem_values(numbers, setting) for setting in (first, second))
    if len(one.values) != len(other.values):
        raise ValueError(
            f"the settings cover {len(one.values)} and {len(other.values)} problems; nothing can be paired"
        )
    means = [found.values.mean() if found.of_seeds is None else found.of_seeds for found in (one, other)]
    seeds = None if one.of_seeds is None and other.of_seeds is None else np.asarray(means[1] - means[0])
    return uncertainty.paired_difference(other.values, one.values, of_seeds=seeds)


def _checked(numbers: Numbers, setting: Setting) -> tuple[CandidateArrays, str | None, int, int]:
    """The ranked pool and reward model of a setting, all completions of its languages, and where equal shares end."""
    if not setting.languages:
        raise ValueError("no language is chosen; choose at least one")
    most = [numbers.most[code] for code in setting.languages]
    total, top = sum(most), len(most) * min(most)
    if not 1 <= setting.budget <= total:
        raise ValueError(
            f"budget {setting.budget} is outside 1 to {total}, what these languages have; draw more or choose another"
        )
    if setting.allocation is None and setting.budget > top:
        raise ValueError(
            f"equal shares end at a budget of {top} over these languages; lower the budget or move a slider"
        )
    rewarded = setting.strategy in REWARDED
    model = setting.reward_model if rewarded else None
    return numbers.ranked(model, setting.offsets if rewarded else {}), model, total, top


def shifted(arrays: CandidateArrays, model: str | None, offsets: Mapping[str, float]) -> CandidateArrays:
    """The pool with an offset added to the rewards that one model gives to each language."""
    moved = {code: offset for code, offset in offsets.items() if offset and code in arrays.languages}
    if model is None or not moved:
        return arrays
    return arrays.with_offsets(model, moved)


def averaged(arrays: CandidateArrays) -> CandidateArrays:
    """The pool with one reward per candidate, the mean over training seeds: to look at candidates, not for figures."""
    tables = (arrays.rewards, *arrays.other_seeds)
    means = {
        model: {code: np.mean([table[model][code] for table in tables], 0) for code in of_model}
        for model, of_model in arrays.rewards.items()
    }
    return replace(arrays, rewards=means, other_seeds=(), seeds=(), _kept={})


def allocated(arrays: CandidateArrays, setting: Setting, model: str | None) -> Chances:
    """How often a setting with a given allocation is right."""
    pools = arrays.by_seed if model else (arrays,)
    found = [_allocated_of_seed(pool, setting, model) for pool in pools]
    values = np.stack([values for values, _ in found])
    seeds = values.mean(1) if len(pools) > 1 else None
    return Chances(values.mean(0), float(np.mean([error for _, error in found])), seeds)


def _allocated_of_seed(arrays: CandidateArrays, setting: Setting, model: str | None) -> tuple[Array, float]:
    """(problems,) chance to be right by the rewards of one training seed, and the error of its mean."""
    allocation = {code: k for code, k in (setting.allocation or {}).items() if k}
    if not allocation:
        raise ValueError("the allocation is empty; give a language a completion")
    members, ids = tuple(allocation), arrays.problem_ids
    if setting.strategy == "oracle":
        return coverage_of_allocation({c: arrays.is_correct[c] for c in members}, allocation, problem_ids=ids), 0.0
    if setting.strategy == "random":
        return guess(arrays, {code: k / setting.budget for code, k in allocation.items()}), 0.0
    answers = {code: arrays.answers[code] for code in members}
    if setting.strategy == "majority":
        found = majority_of_allocation(answers, arrays.reference, allocation, problem_ids=ids)
        return found.value, _mean_error(found)
    name = setting.strategy if setting.strategy in MEASURES else str(model)
    if setting.strategy == "weighted":
        rewards = arrays.reward(name, members)
        if rewards is None:
            raise ValueError(f"no rewards by {name!r} in all of {', '.join(members)}; choose another reward model")
        weights = {code: vote_weight(values) for code, values in rewards.items()}
        found = weighted_vote_of_allocation(weights, answers, arrays.reference, allocation, problem_ids=ids)
        return found.value, _mean_error(found)
    return contest_of(arrays, name, setting.languages).allocation(allocation), 0.0


def guess(arrays: CandidateArrays, weights: Mapping[str, float]) -> Array:
    """(problems,) share of correct candidates, languages weighted: what a random choice reaches."""
    used = {code: weight for code, weight in weights.items() if weight}
    return np.sum([weight * np.nanmean(arrays.is_correct[code], 1) for code, weight in used.items()], 0)


def curve_budgets(top: int, also: int | None) -> list[int]:
    """Budgets of a curve up to `top`: dense at first, then two per doubling, and the one asked about.

    >>> curve_budgets(48, 5)
    [1, 2, 3, 4, 5, 6, 8, 11, 16, 23, 32, 45, 48]
    """
    steps = {k for k in (1, 2, 3, 4, 6) if k <= top}
    k = 8.0
    while k <= top:
        steps.add(round(k))
        k *= 2**0.5
    return sorted(steps | ({top} if top else set()) | ({also} if also and also <= top else set()))


def selected(
    numbers: Numbers, arrays: CandidateArrays, setting: Setting, model: str | None, weights: Mapping[str, float]
) -> list[dict[str, Any]] | None:
    """Per language the share of problems whose chosen candidate comes from it; None for votes and the oracle."""
    languages = setting.languages
    if setting.strategy in ("majority", "weighted", "oracle"):
        return None
    if setting.strategy == "random":
        shares = [weights[code] for code in languages]
    else:
        name = setting.strategy if setting.strategy in MEASURES else str(model)
        moved = tuple(sorted((c, o) for c, o in setting.offsets.items() if o)) if model else ()
        pools = arrays.by_seed if model else (arrays,)
        of_seeds = [pool.reward(name, languages) for pool in pools]
        winners = numbers.keep(
            ("winners", name, moved, languages),
            lambda: [Winners.of(rewards, arrays.problem_ids) for rewards in of_seeds if rewards is not None],
        )
        if not winners:
            return None
        given = setting.allocation
        chances = [one.shares(setting.budget) if given is None else one.allocation(given) for one in winners]
        shares = np.mean([of_problems.mean(0) for of_problems in chances], 0).tolist()
    return [{"language": c, "share": s, "given": weights[c]} for c, s in zip(languages, shares, strict=True)]


def _arm(
    numbers: Numbers, arrays: CandidateArrays, setting: Setting, languages: tuple[str, ...], budgets: list[int]
) -> Values:
    """Equal shares over `languages` at many budgets; kept until the ranking changes."""
    rewarded = setting.strategy in REWARDED
    model = setting.reward_model if rewarded else None
    moved = (
        tuple(sorted((c, o) for c, o in setting.offsets.items() if o and c in languages and len(languages) > 1))
        if rewarded
        else ()
    )
    key = ("arm", setting.strategy, model, moved, languages, tuple(budgets))
    pool = "+".join(in_order(languages))
    found = numbers.keep(key, lambda: arm_values(arrays, pool, setting.strategy, model, budgets))
    if found is None:
        what = f"rewards by {model!r}" if model else f"numbers for {setting.strategy!r}"
        raise ValueError(
            f"run {numbers.source.run.name!r} has no {what} in all of {', '.join(languages)}; choose another strategy "
            "or model"
        )
    return found


def _mean_error(estimate: Estimate) -> float:
    return float(np.sqrt((estimate.standard_error**2).sum()) / len(estimate.value))


def _tokens(arrays: CandidateArrays, weights: Mapping[str, float], budget: int) -> float | None:
    used = [code for code, weight in weights.items() if weight]
    means = arrays.mean_tokens(used)
    return None if means is None else float(budget * sum(weights[c] * means[:, i].mean() for i, c in enumerate(used)))


def _points(budgets: Sequence[int], found: Values) -> list[list[float]]:
    interval = uncertainty.mean_interval(found.accuracy, of_seeds=found.of_seeds)
    rows = zip(budgets, interval.estimate, interval.low, interval.high, strict=True)
    return [[int(k), float(mean), float(low), float(high)] for k, mean, low, high in rows]
