"""The four claims of the study, each with effect, interval, corrected p, detectable effect, verdict and one sentence.

H1  per target language, choosing with the cross-lingual reward model from the mixed pool beats choosing with that
    language's own reward model from its own pool, at equal budget;
H2  the gain holds for high-resource languages too;
H3  at small budgets a mixed pool beats an English-only pool of the same size;
H4  adding a language raises coverage by more than drawing English again does.

Verdicts follow one rule for every run. "supported": the effect is positive and its p-value, corrected by Holm over the
claims tested, is below 0.05. "not supported": the interval rules out a gain of `smallest_gain` (one point).
"undecided": neither. "not tested": the pool lacks what the claim needs, and the sentence says what.

This file knows the claims. It deliberately computes nothing itself: figures come from `arms` and
`complementarity`, intervals and tests from `uncertainty`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from bestofl_lib.analysis import uncertainty as un
from bestofl_lib.analysis.arms import arm_tokens, arm_values
from bestofl_lib.analysis.break_even import BreakEven, break_even
from bestofl_lib.analysis.complementarity import gain_budgets, gain_values
from bestofl_lib.analysis.curves import default_budgets
from bestofl_lib.analysis.pool import Pool
from bestofl_lib.analysis.votes import DRAWS
from bestofl_lib.languages import LANGUAGES, PIVOT, english_name, is_language
from bestofl_lib.text import signed

Array = np.ndarray

STATEMENTS = {
    "H1": "Cross-lingual reward and mixed pool beat each language's own reward and own pool, at equal budget.",
    "H2": "The gain of H1 holds for high-resource languages too.",
    "H3": "At small budgets a mixed pool beats an English-only pool of the same size.",
    "H4": "Adding a language raises coverage by more than drawing English again does.",
}
CLAIM_SCHEMA = pl.Schema(
    {
        "claim": pl.String,
        "statement": pl.String,
        "verdict": pl.String,
        "effect": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "p": pl.Float64,
        "p_holm": pl.Float64,
        "mde": pl.Float64,
        "budget": pl.String,
        "strategy": pl.String,
        "n_problems": pl.Int32,
        "break_even": pl.Float64,
        "break_even_low": pl.Float64,
        "break_even_high": pl.Float64,
        "break_even_tokens": pl.Float64,
        "break_even_tokens_low": pl.Float64,
        "break_even_tokens_high": pl.Float64,
        "sentence": pl.String,
    }
)
DETAIL_SCHEMA = pl.Schema(
    {
        "claim": pl.String,
        "language": pl.String,
        "budget": pl.Int32,
        "strategy": pl.String,
        "reward_model": pl.String,
        "against": pl.String,
        "effect": pl.Float64,
        "low": pl.Float64,
        "high": pl.Float64,
        "p": pl.Float64,
        "p_holm": pl.Float64,
        "mde": pl.Float64,
        "verdict": pl.String,
        "n_problems": pl.Int32,
    }
)


@dataclass(frozen=True)
class _Test:
    """One claim before correction: what was compared, problem by problem."""

    claim: str
    first: Array  # (problems,)
    second: Array  # (problems,)
    budget: str  # as text: "8" or "2, 4"
    strategy: str
    parts: list[dict]  # rows of the details, corrected among themselves
    breaks: dict[str, BreakEven]  # "completions", "tokens"


def claims(
    pool: Pool,
    budget: int | None = None,
    small_budgets: Sequence[int] = (2, 4),
    cross: str = "cross",
    mono: str = "mono",
    smallest_gain: float = 0.01,
    draws: int = DRAWS,
    replicates: int = 10_000,
    seed: int = 0,
) -> pl.DataFrame:
    """All four claims on one pool.

    Args:
        pool: made by `Pool.of`; without reward models H1 and H2 are "not tested" and H3 compares majorities.
        budget: completions per problem for H1, H2 and (at most) H4; by default the most every language can serve.
        small_budgets: H3's budgets; those that both pools can serve count, and are averaged.
        cross, mono: names of the reward models compared; "mono" is each language's own.
        smallest_gain: a gain worth having, in accuracy; below it a claim counts as not supported.

    Returns:
        One row per claim: `claim`, `statement`, `verdict`, `effect` (accuracy, not points) with `low`, `high` (95 %),
        `p`, `p_holm` (over the claims tested), `mde` (80 % power), `budget`, `strategy`, `n_problems`, `break_even*`
        (H3: the completions, and the tokens, up to which the mixed pool is ahead; null end: see the sentence) and
        `sentence`. Figures are null where a claim was not tested.
    """
    tests = _tests(pool, budget, small_budgets, cross, mono, draws, replicates, seed)
    done = {name: test for name, test in tests.items() if isinstance(test, _Test)}
    results = {n: un.paired_difference(t.first, t.second, replicates=replicates, seed=seed) for n, t in done.items()}
    corrected = dict(zip(results, un.holm([float(r.p) for r in results.values()]), strict=True))
    rows = []
    for name, statement in STATEMENTS.items():
        test = tests[name]
        if not isinstance(test, _Test):
            rows.append(
                {
                    "claim": name,
                    "statement": statement,
                    "verdict": "not tested",
                    "n_problems": pool.n_problems,
                    "sentence": f"{name} was not tested: {test}.",
                }
            )
            continue
        result, p = results[name], float(corrected[name])
        verdict = _verdict(float(result.effect), float(result.high), p, smallest_gain)
        parts = _corrected(test.parts, smallest_gain)
        row = {
            "claim": name,
            "statement": statement,
            "verdict": verdict,
            "effect": float(result.effect),
            "low": float(result.low),
            "high": float(result.high),
            "p": float(result.p),
            "p_holm": p,
            "mde": float(result.mde),
            "budget": test.budget,
            "strategy": test.strategy,
            "n_problems": pool.n_problems,
            "sentence": _sentence(name, result, verdict, test, parts, pool, cross, smallest_gain),
        }
        for unit, suffix in (("completions", ""), ("tokens", "_tokens")):
            if unit in test.breaks:
                found = test.breaks[unit]
                row |= {
                    f"break_even{suffix}": found.end,
                    f"break_even{suffix}_low": found.low,
                    f"break_even{suffix}_high": found.high,
                }
        rows.append(row)
    return pl.DataFrame(rows, schema=CLAIM_SCHEMA)


def claim_details(
    pool: Pool,
    budget: int | None = None,
    small_budgets: Sequence[int] = (2, 4),
    cross: str = "cross",
    mono: str = "mono",
    smallest_gain: float = 0.01,
    draws: int = DRAWS,
    replicates: int = 10_000,
    seed: int = 0,
) -> pl.DataFrame:
    """The comparisons behind the claims, one by one; arguments as in `claims`.

    Returns:
        One row per claim and language (H1, H2, H4) or budget and strategy (H3): `effect` of the first arm over
        `against`, interval, `p`, `p_holm` (over the rows of this claim), `mde`, `verdict`, `n_problems`.
    """
    tests = _tests(pool, budget, small_budgets, cross, mono, draws, replicates, seed)
    rows = [row for test in tests.values() if isinstance(test, _Test) for row in _corrected(test.parts, smallest_gain)]
    return pl.DataFrame(rows, schema=DETAIL_SCHEMA)


def _tests(
    pool: Pool,
    budget: int | None,
    small_budgets: Sequence[int],
    cross: str,
    mono: str,
    draws: int,
    replicates: int,
    seed: int,
) -> dict[str, _Test | str]:
    """Each claim's comparison, or why there is none."""
    most = min(pool.fewest(code) for code in pool.languages)
    k = most if budget is None else budget
    if len(pool.languages) < 2:
        why = f"the pool has one language only ({pool.languages[0]})"
        return dict.fromkeys(STATEMENTS, why)
    tests: dict[str, _Test | str] = {}
    lacking = [m for m in (cross, mono) if m not in pool.reward_models]
    covered = [code for code in pool.languages if mono in pool.reward_models and pool.reward(mono, [code]) is not None]
    if lacking or pool.reward(cross, pool.languages) is None or not covered:
        names = " and ".join(repr(m) for m in lacking) or repr(cross)
        tests["H1"] = tests["H2"] = f"the pool has no rewards by {names} for its languages"
    else:
        high = [code for code in covered if is_language(code) and LANGUAGES[code].resource == "high"]
        tests["H1"] = _own_pools("H1", pool, covered, k, cross, mono, replicates, seed)
        tests["H2"] = (
            _own_pools("H2", pool, high, k, cross, mono, replicates, seed)
            if high
            else "none of the pool's languages is a high-resource language"
        )
    tests["H3"] = _small_budgets(pool, small_budgets, cross, mono, draws, replicates, seed)
    tests["H4"] = _resampling(pool, k, replicates, seed)
    return tests


def _own_pools(
    claim: str, pool: Pool, targets: Sequence[str], k: int, cross: str, mono: str, replicates: int, seed: int
) -> _Test:
    mixed = _accuracy(pool, "mixed", "best_of_k", cross, [k])
    own = np.concatenate([_accuracy(pool, code, "best_of_k", mono, [k]) for code in targets], 1)
    test = un.paired_difference(np.repeat(mixed, len(targets), 1), own, replicates=replicates, seed=seed)
    parts = _parts(
        test,
        pool,
        claim,
        budget=[k] * len(targets),
        language=list(targets),
        strategy="best_of_k",
        reward_model=cross,
        against=f"own pool, {mono}",
    )
    return _Test(claim, mixed[:, 0], own.mean(1), str(k), f"best of k by {cross}", parts, {})


def _small_budgets(
    pool: Pool, budgets: Sequence[int], cross: str, mono: str, draws: int, replicates: int, seed: int
) -> _Test | str:
    if PIVOT not in pool.languages:
        return "the pool has no English candidates"
    reach = min(pool.fewest(PIVOT), pool.largest_budget("mixed"))
    ks = [k for k in sorted(set(budgets)) if k <= reach]
    if not ks:
        return (
            f"English has {pool.fewest(PIVOT)} candidate(s) per problem, fewer than the small budgets {list(budgets)}"
        )
    rewarded = cross in pool.reward_models and pool.reward(cross, pool.languages) is not None
    pairs: list[tuple[str, str | None, str, str | None]] = []  # mixed strategy and model, English strategy and model
    if rewarded:
        pairs.append(("best_of_k", cross, "best_of_k", cross))
        if mono in pool.reward_models and pool.reward(mono, [PIVOT]) is not None:
            pairs.append(("best_of_k", cross, "best_of_k", mono))
    pairs += [("majority", None, "majority", None), ("oracle", None, "oracle", None)]
    parts, headline = [], None
    for strategy, model, other, other_model in pairs:
        first = _accuracy(pool, "mixed", strategy, model, ks, draws, seed)
        second = _accuracy(pool, PIVOT, other, other_model, ks, draws, seed)
        headline = headline or (strategy, model, first.mean(1), second.mean(1))
        test = un.paired_difference(first, second, replicates=replicates, seed=seed)
        against = f"English only, {other_model or other}"
        parts += _parts(
            test,
            pool,
            "H3",
            budget=ks,
            language=[None] * len(ks),
            strategy=strategy,
            reward_model=model,
            against=against,
        )
    if headline is None:
        return "there is nothing to compare"
    strategy, model, first_mean, second_mean = headline
    grid = default_budgets(reach)
    mixed, english = (_accuracy(pool, name, strategy, model, grid, draws, seed) for name in ("mixed", PIVOT))
    breaks = {"completions": break_even(mixed, english, np.asarray(grid, float), seed=seed)}
    spent, spent_english = (arm_tokens(pool, name, grid) for name in ("mixed", PIVOT))
    if spent is not None and spent_english is not None:
        breaks["tokens"] = break_even(mixed, english, spent, spent_english, seed=seed)
    name = f"best of k by {model}" if model else strategy
    return _Test("H3", first_mean, second_mean, ", ".join(map(str, ks)), name, parts, breaks)


def _resampling(pool: Pool, k: int, replicates: int, seed: int) -> _Test | str:
    if PIVOT not in pool.languages:
        return "the pool has no English candidates"
    possible = gain_budgets(pool)
    if not possible:
        return f"English has {pool.fewest(PIVOT)} candidate(s) per problem, so it cannot be drawn again"
    at = max([b for b in possible if b <= k], default=possible[0])
    others = [code for code in pool.languages if code != PIVOT]
    pairs = [gain_values(pool, code, at) for code in others]
    both, again = np.stack([a for a, _ in pairs], 1), np.stack([b for _, b in pairs], 1)
    test = un.paired_difference(both, again, replicates=replicates, seed=seed)
    parts = _parts(
        test,
        pool,
        "H4",
        budget=[at] * len(others),
        language=others,
        strategy="oracle",
        reward_model=None,
        against="English again",
    )
    return _Test("H4", both.mean(1), again.mean(1), str(at), "oracle (coverage)", parts, {})


def _accuracy(
    pool: Pool, name: str, strategy: str, model: str | None, ks: Sequence[int], draws: int = DRAWS, seed: int = 0
) -> Array:
    values = arm_values(pool, name, strategy, model, ks, draws, seed)
    if values is None:
        raise ValueError(f"reward model {model!r} does not cover pool {name!r}; score its candidates")
    return values.accuracy


def _parts(
    test: un.Difference,
    pool: Pool,
    claim: str,
    budget: Sequence[int],
    language: Sequence[str | None],
    strategy: str,
    reward_model: str | None,
    against: str,
) -> list[dict]:
    return [
        {
            "claim": claim,
            "language": code,
            "budget": k,
            "strategy": strategy,
            "reward_model": reward_model,
            "against": against,
            "effect": float(test.effect[i]),
            "low": float(test.low[i]),
            "high": float(test.high[i]),
            "p": float(test.p[i]),
            "mde": float(test.mde[i]),
            "n_problems": pool.n_problems,
        }
        for i, (code, k) in enumerate(zip(language, budget, strict=True))
    ]


def _corrected(parts: list[dict], smallest_gain: float) -> list[dict]:
    adjusted = un.holm([part["p"] for part in parts])
    return [
        part | {"p_holm": float(p), "verdict": _verdict(part["effect"], part["high"], float(p), smallest_gain)}
        for part, p in zip(parts, adjusted, strict=True)
    ]


def _verdict(effect: float, high: float, p: float, smallest_gain: float) -> str:
    if effect > 0 and p < 0.05:
        return "supported"
    return "not supported" if high < smallest_gain else "undecided"


def _sentence(
    claim: str,
    result: un.Difference,
    verdict: str,
    test: _Test,
    parts: list[dict],
    pool: Pool,
    cross: str,
    smallest_gain: float,
) -> str:
    many = "1 problem" if pool.n_problems == 1 else f"{pool.n_problems} problems"
    interval = f"95 % interval {signed(result.low)} to {signed(result.high)}"
    size = f"{_points(result.effect)} ({interval}; {many})"
    side = "above" if result.effect >= 0 else "below"
    k = f"{' and '.join(test.budget.rsplit(', ', 1))} completion{'s' if test.budget != '1' else ''} per problem"
    if claim in ("H1", "H2"):
        kind = "high-resource languages" if claim == "H2" else "languages"
        count = (
            f"{len(parts)} {kind}"
            if len(parts) > 1
            else f"the one {kind.removesuffix('s')} {english_name(parts[0]['language'])}"
        )
        text = (
            f"At {k}, choosing from the mixed pool with the reward model '{cross}' is {size} {side} choosing from each "
            f"language's own pool with its own model, on average over {count}; {_who(parts)}."
        )
    elif claim == "H3":
        text = f"At {k}{' on average' if ',' in test.budget else ''}, the mixed pool is {size} {side} an English-only "
        text += f"pool of the same size ({test.strategy}); {_crossings(test.breaks)}."
    else:
        count = f"{len(parts)} languages" if len(parts) > 1 else english_name(parts[0]["language"])
        text = (
            f"At {k}, coverage with half of the completions in another language is {size} {side} coverage of English "
            f"alone, on average over {count}; {_who(parts)}."
        )
    why = {
        "supported": "Supported.",
        "not supported": f"Not supported: a gain of {100 * smallest_gain:g} point is ruled out.",
        "undecided": f"Undecided: this run would find a gain of {100 * float(result.mde):.1f} points with 80 % power.",
    }
    return f"{text} {why[verdict]}"


def _points(value: float | Array) -> str:
    return f"{abs(100 * float(value)):.1f} points"


def _who(parts: list[dict]) -> str:
    """Which languages gain or lose on their own, after Holm's correction."""
    gain = [english_name(p["language"]) for p in parts if p["p_holm"] < 0.05 and p["effect"] > 0]
    lose = [english_name(p["language"]) for p in parts if p["p_holm"] < 0.05 and p["effect"] < 0]
    words = []
    if gain:
        words.append(f"{', '.join(gain)} gain{'s' if len(gain) == 1 else ''}")
    if lose:
        words.append(f"{', '.join(lose)} lose{'s' if len(lose) == 1 else ''}")
    if not words:
        return "no language gains or loses by itself after Holm's correction"
    return " and ".join(words) + " individually after Holm's correction"


def _crossings(breaks: dict[str, BreakEven]) -> str:
    """Where the mixed pool's lead ends, in completions and, where they are known, in tokens."""
    if all(found.start is None for found in breaks.values()):
        return "it is nowhere ahead up to " + " or ".join(
            f"{found.largest:.0f} {unit}" for unit, found in breaks.items()
        )
    return "; ".join(_crossing(found, unit) for unit, found in breaks.items())


def _crossing(found: BreakEven, unit: str) -> str:
    most = f"{found.largest:.0f} {unit}"
    if found.start is None:
        return f"it is nowhere ahead up to {most}"
    if found.end is None:
        return f"it is still ahead at {most}, the most that can be compared"
    digits = ".1f" if unit == "completions" else ".0f"
    low = "never" if found.low is None else f"{found.low:{digits}}"
    high = f"beyond {most}" if found.high is None else f"{found.high:{digits}}"
    shown = f"{found.end:{digits}}"
    return f"it stays ahead up to {shown} {unit} (95 % interval {low} to {high})"
