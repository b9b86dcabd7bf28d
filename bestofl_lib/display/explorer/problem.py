"""What the explorer shows of one problem: questions, candidates, and what each strategy picks of one draw and why."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl
from scipy.special import expit

from bestofl_lib.analysis.arms import REWARDED
from bestofl_lib.analysis.arrays import CandidateArrays
from bestofl_lib.analysis.picks import draw_once, pick_candidates
from bestofl_lib.analysis.run_scan import Source, candidates_of, reward_of, tally
from bestofl_lib.analysis.what_if import shifted
from bestofl_lib.display.text import formulas, segments
from bestofl_lib.display.words import STRATEGIES
from bestofl_lib.tables import KEYS
from bestofl_lib.text import counted, percent, unsigned


def problem_view(
    source: Source,
    problem_id: str,
    *,
    allocation: Mapping[str, int],
    seed: int = 0,
    reward_model: str | None = None,
    offsets: Mapping[str, float] | None = None,
    table: pl.DataFrame | None = None,
    labels: pl.DataFrame | None = None,
) -> dict[str, Any]:
    """Everything the problem view shows, as JSON.

    Args:
        allocation: completions per language.
        seed: of the draw.
        reward_model: that best-of-k and the weighted vote use.
        offsets: added to the rewards of a language.
        table: the problem's rows where they were read before (see `candidates_of`).
        labels: table `labels`, for people's judgements of the readings.

    Returns:
        `reference`; `formulas` (answers that are LaTeX, typeset); `columns` (one per language: question, counts,
        `cards`); `picks` (one per strategy); `votes`.
    """
    table = candidates_of(source, problem_id) if table is None else table
    questions = {
        row["language"]: row for row in source.problems.filter(pl.col("problem_id") == problem_id).iter_rows(named=True)
    }
    offsets = offsets or {}
    arrays, trouble = _one_problem(table, reward_model, offsets)
    available = {code: int((table["language"] == code).sum()) for code in source.languages}
    allocation = {code: min(k, available[code]) for code, k in allocation.items() if min(k, available.get(code, 0))}
    drawn = set()
    if arrays and allocation:
        drawn = set(draw_once(arrays, allocation, seed).select("language", "sample_index").iter_rows())
    judged = _judged(labels, problem_id)
    cards: dict[tuple[str, int], dict[str, Any]] = {}
    taken: dict[tuple[str, int], dict[str, Any]] = {}
    for row in table.iter_rows(named=True):
        code, at = row["language"], (row["language"], row["sample_index"])
        reward = reward_of(row["rewards"], reward_model, code) if reward_model else None
        reward = None if reward is None else reward + offsets.get(code, 0.0)
        cards[at] = _card(row, reward, at in drawn) | {"judged": judged.get(at)}
        if at in drawn:
            taken[at] = row | {"reward": reward, "where": f"{code} #{row['sample_index']}"}
    picks = []
    for strategy in STRATEGIES:
        if strategy in REWARDED and not reward_model:
            continue
        chosen, why = None, trouble or "nothing was drawn; give a language a completion"
        if arrays and taken:
            model = reward_model if strategy in REWARDED else None
            chosen, why = _pick(arrays, allocation, strategy, model, seed, taken)
        found = (cards[chosen], taken[chosen]) if chosen is not None else (None, None)
        picks.append(_picked(strategy, why, *found))
    reference = next((row["reference"] for row in questions.values()), None)
    return {
        "id": problem_id,
        "reference": reference,
        "formulas": formulas([reference, *(card["answer"] for card in cards.values())]),
        "columns": [_column(code, questions.get(code, {}), cards) for code in source.languages],
        "picks": picks,
        "votes": tally(table, list(taken.values())),
        "n_drawn": len(taken),
        "n": len(table),
    }


def precision(table: pl.DataFrame) -> str:
    """One line on how people judged the reader so far; empty without judgements. See `precision_of_reader`."""
    if table.is_empty():
        return ""
    row = table.row(0, named=True)
    if not row["n"]:
        return f"{counted(row['n_outdated'], 'judgement')} outdated: the answers are now read differently"
    share = (
        f"{row['n_right']} of {counted(row['n'], 'reading')} right, {percent(row['precision'])} "
        f"[{unsigned(row['low'])}, {unsigned(row['high'])}]"
    )
    return share + (f"; {row['n_outdated']} outdated" if row["n_outdated"] else "")


def _picked(
    strategy: str, why: str, card: dict[str, Any] | None = None, row: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What a strategy chose, if anything; the card that it chose is marked."""
    entry: dict[str, Any] = {"strategy": strategy, "label": STRATEGIES[strategy], "why": why, "card": None}
    if card is None or row is None:
        return entry
    card["picked"].append(strategy)
    return entry | {
        "card": card["id"], "language": row["language"], "where": row["where"], "answer": row["answer"],
        "correct": bool(row["is_correct"]),
    }  # fmt: skip


def _column(code: str, question: Mapping[str, Any], cards: Mapping[tuple[str, int], dict[str, Any]]) -> dict[str, Any]:
    """One language: its question, counts, and its cards with those drawn first."""
    mine = [card for (language, _), card in cards.items() if language == code]
    return {
        "language": code,
        "question": segments(question.get("question") or ""),
        "revised": bool(question.get("is_revised", False)),
        "n": len(mine),
        "correct": sum(card["correct"] for card in mine),
        "unread": sum(not card["read"] for card in mine),
        "drawn": sum(card["drawn"] for card in mine),
        "cards": sorted(mine, key=lambda card: (not card["drawn"], -(card["reward"] or 0.0), card["index"])),
    }


def explain(taken: Sequence[Mapping[str, Any]], chosen: Mapping[str, Any], strategy: str) -> str:
    """Why a strategy picked this one of the candidates drawn, in words and numbers.

    Args:
        taken: the candidates drawn: `answer`, `is_correct`, `reward` (None where it was set aside), `logprob`,
            `n_tokens` (None where unknown: then lengths count), `false_equations`, `completion`, `where` (such as "de
            #3").
        chosen: the one that was picked.
        strategy: one of STRATEGIES.
    """
    if strategy == "random":
        return f"one of {len(taken)} at random"
    if strategy == "oracle":
        right = sum(bool(row["is_correct"]) for row in taken)
        return f"{right} of {len(taken)} are correct" if right else f"none of {len(taken)} is correct"
    if strategy == "arithmetic":
        sound = sum(not row["false_equations"] for row in taken)
        return f"{sound} of {len(taken)} without a false equation" + (", one at random" if sound != 1 else "")
    if strategy in ("majority", "weighted"):
        weigh = (
            (lambda row: 0.0 if row["reward"] is None else expit(row["reward"]))
            if strategy == "weighted"
            else (lambda row: 1)
        )
        sums: dict[str, float] = {}
        for row in taken:
            if row["answer"] is not None:
                sums[row["answer"]] = sums.get(row["answer"], 0) + float(weigh(row))
        mine = sums.pop(chosen["answer"])
        tied = sum(abs(total - mine) < 1e-9 for total in sums.values())
        shown = "{:.2f}" if strategy == "weighted" else "{:.0f}"
        what = f"{shown.format(mine)} {'of ' + shown.format(mine + sum(sums.values()))} votes for {chosen['answer']}"
        if tied:
            return f"{what}; {tied + 1} answers tie, one at random"
        return what + (f"; next {shown.format(max(sums.values()))}" if sums else "")
    counted = all(row["n_tokens"] is not None for row in taken)
    measure, label, sign, shown = {
        "best_of_k": (lambda row: row["reward"], "highest reward", 1, "{:.2f}"),
        "logprob": (lambda row: row["logprob"], "highest log-probability", 1, "{:.2f}"),
        "shortest": (
            lambda row: row["n_tokens"] if counted else len(row["completion"]),
            f"fewest {'tokens' if counted else 'characters'}", -1, "{:.0f}",
        ),
    }[strategy]  # fmt: skip
    mine = measure(chosen)
    if mine is None:
        return f"none of {len(taken)} has a usable reward, one at random"
    tied = sum(measure(row) == mine for row in taken) - 1
    rest = [row for row in taken if measure(row) not in (mine, None)]
    what = f"{label}, {shown.format(mine)}"
    if tied:
        return f"{what}; {tied + 1} tie, one at random"
    if not rest:
        return f"{what}; the only one"
    follower = max(rest, key=lambda row: sign * measure(row))
    return f"{what}; next {follower['where']} with {shown.format(measure(follower))}"


def _judged(labels: pl.DataFrame | None, problem_id: str) -> dict[tuple[str, int], bool]:
    if labels is None:
        return {}
    mine = labels.filter(pl.col("problem_id") == problem_id)
    return {
        (code, index): right for code, index, right in mine.select("language", "sample_index", "is_right").iter_rows()
    }


def _one_problem(
    table: pl.DataFrame, model: str | None, offsets: Mapping[str, float]
) -> tuple[CandidateArrays | None, str]:
    """The arrays of one problem's candidates, or None and the reason."""
    rewards = table.select(*KEYS, "rewards").explode("rewards").drop_nulls("rewards").unnest("rewards")
    # set aside here; other problems may have rewards
    rewards = rewards.with_columns(pl.col("reward").fill_null(-math.inf))
    try:
        return shifted(CandidateArrays.of(table, table, rewards, split=None), model, offsets), ""
    except ValueError as error:
        return None, str(error)


def _pick(
    arrays: CandidateArrays,
    allocation: Mapping[str, int],
    strategy: str,
    model: str | None,
    seed: int,
    taken: Mapping[tuple[str, int], Mapping[str, Any]],
) -> tuple[tuple[str, int] | None, str]:
    try:
        found = pick_candidates(arrays, allocation, strategy, model, seed)
    except ValueError as error:
        return None, str(error)
    if found.is_empty():
        return None, "no answer among those drawn could be read"
    row = found.row(0, named=True)
    at = (row["language"], row["sample_index"])
    if strategy == "oracle" and not row["is_correct"]:
        return None, explain(list(taken.values()), taken[at], strategy)
    return at, explain(list(taken.values()), taken[at], strategy).replace(" -", " −")


def _card(row: Mapping[str, Any], reward: float | None, drawn: bool) -> dict[str, Any]:
    code = row["language"]
    return {
        "id": f"{code}-{row['sample_index']}",
        "index": row["sample_index"],
        "drawn": drawn,
        "picked": [],
        "pieces": segments(row["completion"], row["start"], row["end"]),
        "length": len(row["completion"]),
        "answer": row["answer"],
        "rule": row["rule"],
        "note": row["note"] or "",
        "correct": bool(row["is_correct"]),
        "read": row["answer"] is not None,
        "reward": reward,
        "rewards": [[r["reward_model"], _finite(r["reward"])] for r in _in_order(row["rewards"], code)],
        "logprob": _finite(row["logprob"]),
        "tokens": row["n_tokens"],
        "finish": row["finish_reason"],
        "condition": row["condition"],
        "trace": row["trace_language"],
        "strays": row["trace_language"] is not None and row["trace_language"] != code,
    }


def _finite(value: float | None) -> float | None:
    return None if value is None or not np.isfinite(value) else float(value)


def _in_order(rewards: Iterable[Mapping[str, Any]] | None, code: str) -> list[Mapping[str, Any]]:
    order = {"cross": 0, "multi": 1, f"mono-{code}": 2}
    return sorted(rewards or [], key=lambda row: (order.get(row["reward_model"], 3), row["reward_model"]))
