"""The sentences about each claim: its statement, its result, its basis, and what it is not evidence for.

Sentences are made from the same rows that the tables hold, so they are true for whichever run is shown.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from bestofl_lib.analysis.arrays import CandidateArrays
from bestofl_lib.analysis.break_even import BreakEven
from bestofl_lib.languages import english_name
from bestofl_lib.text import counted, points, signed, unsigned

STATEMENTS = {
    "H1": "At equal budget, a mixed pool chosen by the cross-lingual reward model beats a language's own pool chosen "
    "by its own model: pool effect plus reward effect.",
    "H2": "The gain of H1 and each of its parts hold for each high-resource language.",
    "H3": "At small budgets, a mix that holds the base language beats the strongest way to use the base language "
    "alone.",
    "H4": "The best allocation over languages covers more than the base language alone.",
}


def sentence(
    row: Mapping[str, Any], breaks: Mapping[str, BreakEven], cross: str, mono: str, smallest_gain: float
) -> str:
    """The result of one tested claim.

    Args:
        row: one row of table `claims`, as far as it is known.
        breaks: break-even budgets by unit (H3).
        cross: name of the reward model that chooses from the mixed pool.
        mono: name of those that choose from each language's own; the same as `cross` where one model does both.
        smallest_gain: a gain worth having.
    """
    text = {"H1": _first, "H2": _second, "H3": _third, "H4": _fourth}[row["claim"]](row, cross)
    if mono == cross:
        text = text.replace("with its own model", "with the same model")
    if breaks:
        text += f" {_crossings(breaks)}"
    why = {
        "supported": "Supported.",
        "not supported": "Not supported: this is a loss."
        if row["high"] < 0
        else f"Not supported: a gain of {100 * smallest_gain:g} point is ruled out.",
        "no room": f"No room: even a perfect arm would gain only {points(row['room'])}, and this run finds "
        f"{unsigned(row['mde'])} with 80 % power.",
        "undecided": f"Undecided: this run would find a gain of {points(row['mde'])} with 80 % power.",
    }
    return f"{text} {why[row['verdict']]}"


def bounds(
    claim: str,
    arrays: CandidateArrays,
    n_seeds: int,
    n_arms: int,
    cross: str,
    trained: pl.DataFrame | None,
    outside: CandidateArrays | None,
) -> str:
    """What a verdict rests on: problems, candidates, arms looked at, training data and seeds of the reward models, and
    what its controls were fitted on.
    """
    fewest = {code: arrays.fewest(code) for code in arrays.languages}
    least, most = min(fewest.values()), max(fewest.values())
    held = f"{least}" if least == most else f"{least} to {most}"
    parts = [f"{counted(arrays.n_problems, 'problem')} with {held} candidates per language"]
    if n_arms > 1:
        parts.append(f"{n_arms} arms looked at, chosen on other folds")
    if claim != "H4" and arrays.reward_models:
        parts.append(_learnt_from(trained, cross))
        parts.append(counted(n_seeds, "training seed"))
    if claim == "H1":
        parts.append(_fitted_on(arrays, cross, outside))
    return "; ".join(parts)


def _fitted_on(arrays: CandidateArrays, cross: str, outside: CandidateArrays | None) -> str:
    """The problems that the controls' intercepts, means and language prior come from."""
    known = outside is not None and set(arrays.languages) <= set(outside.languages)
    if outside is None or not known:
        return f"controls fitted by cross-fitting over the same problems: {_WHY_CROSS_FITTED}"
    there = counted(outside.n_problems, "other problem")
    if outside.seeds == arrays.seeds and outside.reward(cross, arrays.languages) is not None:
        return f"controls fitted on {there}, which are not judged"
    return (
        f"the language prior fitted on {there}, which are not judged; language intercepts and means cross-fitted over "
        f"the judged ones: {_WHY_CROSS_FITTED}"
    )


_WHY_CROSS_FITTED = (
    "an offset between languages belongs to one training, so it is fitted on problems that this training never saw and "
    "used on others; on its own training problems rewards are too good, and other trainings have other offsets"
)


def not_evidence_for(claim: str, part: str, base: str) -> str:
    """What a verdict is no evidence for."""
    name = english_name(base)
    text = {
        ("H1", "total"): "that the cross-lingual model chooses better: a vote over the mixed pool may gain as much",
        (
            "H1",
            "pool",
        ): "for cross-lingual training: any rule that may use the other languages' candidates can gain this",
        ("H1", "reward"): "of better judgement of solutions: knowing which language to trust counts as well (compare "
        "the control without language means)",
        ("H2", "total"): "for languages outside this pool, nor for the reward model alone",
        ("H2", "pool"): "for cross-lingual training",
        ("H2", "reward"): "of better judgement of solutions: knowing which language to trust counts as well",
        ("H3", "total"): f"for larger budgets, nor for mixes without {name}",
        ("H4", "total"): "for accuracy: coverage is what a perfect selector would reach",
    }[claim, part]
    return f"No evidence {text}. One policy model and one set of problems were looked at."


def _learnt_from(trained: pl.DataFrame | None, cross: str) -> str:
    if trained is None or trained.is_empty():
        return "what the reward models learnt from is not recorded"
    compared = trained.filter((pl.col("reward_model") == cross) | pl.col("reward_model").str.starts_with("mono-"))
    compared = compared.filter(pl.col("rows") > 0).drop_nulls(["n_problems", "n_candidates"])
    if compared.is_empty():
        return "what the reward models learnt from is not recorded"
    return (
        f"reward models learnt from {_range(compared, 'rows')} rows, {_range(compared, 'n_candidates')} distinct "
        f"candidates of {_range(compared, 'n_problems')} problems each"
    )


def _range(table: pl.DataFrame, column: str) -> str:
    least, most = (int(x) for x in table.select(pl.col(column).min(), most=pl.col(column).max()).row(0))
    return f"{least:,}" if least == most else f"{least:,} to {most:,}"


def _first(row: Mapping[str, Any], cross: str) -> str:
    size, k = _size(row), _completions(row["budget"])
    what = {
        "total": f"choosing from the mixed pool with the reward model '{cross}' is {size} choosing from each "
        "language's own pool with its own model",
        "pool": f"the mixed pool is {size} each language's own pool, whichever model chooses",
        "reward": f"the reward model '{cross}' is {size} the models of single languages, whichever the pool",
    }[row["part"]]
    return f"At {k}, {what}, on average over languages; {_who(row)}."


def _second(row: Mapping[str, Any], cross: str) -> str:
    name = english_name(row["language"])
    which = (
        "on the list of high-resource languages"
        if row["high_resource"] == "fixed"
        else "among those this policy is best at"
    )
    what = {"total": "the gain", "pool": "the pool effect", "reward": "the reward effect"}[row["part"]]
    among = f"Of {counted(row['n_compared'], 'language')} {which}"
    return f"{among}, {what} is weakest in {name}: {signed(row['effect'])} points ({_interval(row)}); {_who(row)}."


def _third(row: Mapping[str, Any], cross: str) -> str:
    average = " on average" if "," in row["budget"] else ""
    by = "a majority vote" if row["strategy"] == "majority" else f"the reward model '{cross}'"
    base = english_name(row["base"])
    return (
        f"At {_completions(row['budget'])}{average}, the best mix that holds {base}, chosen from by {by}, is "
        f"{_size(row)} the best way to use {base} alone (both found on other folds, {row['n_arms']} arms looked at)."
    )


def _fourth(row: Mapping[str, Any], cross: str) -> str:
    base = english_name(row["base"])
    return (
        f"At {_completions(row['budget'])}, the allocation planned on other folds covers {_size(row, 'more', 'less')} "
        f"than {base} alone; with half of the completions in one other language, {_who(row)}."
    )


def paraphrases(rows: Sequence[Mapping[str, Any]], base: str, count: int) -> str:
    """H4's control by several wordings: against one wording, and the allocation over languages against it."""
    first, second = rows
    return (
        f"{english_name(base)} asked in {count} wordings covers {_size(first, 'more', 'less')} than in one; the "
        f"allocation over languages covers {_size(second, 'more', 'less')} than these wordings."
    )


def _size(row: Mapping[str, Any], more: str = "above", less: str = "below") -> str:
    side = more if row["effect"] >= 0 else less
    size = f"{points(abs(row['effect']))} {side}"
    return f"{size} ({_interval(row)}; {counted(row['n_problems'], 'problem')})"


def _interval(row: Mapping[str, Any]) -> str:
    return f"95 % interval {signed(row['low'])} to {signed(row['high'])}"


def _completions(budget: str) -> str:
    return f"{' and '.join(budget.rsplit(', ', 1))} completion{'' if budget == '1' else 's'} per problem"


def _who(row: Mapping[str, Any]) -> str:
    """Which languages gain or lose for themselves, after the correction."""
    gain, lose = (_names(row[side]) for side in ("gaining", "losing"))
    words = []
    if gain:
        words.append(f"{', '.join(gain)} gain{'s' if len(gain) == 1 else ''}")
    if lose:
        words.append(f"{', '.join(lose)} lose{'s' if len(lose) == 1 else ''}")
    if not words:
        return "no language gains or loses for itself after Holm's correction"
    return " and ".join(words) + " after Holm's correction"


def _names(codes: str) -> Sequence[str]:
    return [english_name(code) for code in codes.split(", ") if code]


def _crossings(breaks: Mapping[str, BreakEven]) -> str:
    """Where the best pair's lead ends, in completions and, where they are known, in tokens."""
    told = "; ".join(_crossing(found, unit) for unit, found in breaks.items())
    return f"With one other language, the mix {told}."


def _crossing(found: BreakEven, unit: str) -> str:
    digits = ".1f" if unit == "completions" else ".0f"
    most = f"{found.largest:.0f} {unit}"
    low = "never" if found.low is None else f"{found.low:{digits}}"
    high = f"beyond {most}" if found.high is None else f"{found.high:{digits}}"
    interval = f"95 % interval {low} to {high}"
    if found.start is None:
        return f"is nowhere ahead up to {most} ({interval})"
    if found.end is None:
        return f"is still ahead at {most}, the most that can be compared ({interval})"
    return f"stays ahead up to {found.end:{digits}} {unit} ({interval})"
