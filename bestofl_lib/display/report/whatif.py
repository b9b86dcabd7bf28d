"""The What-if page of a report, without Python: what another budget, allocation or way of choosing would reach.

Packs ranks and correctness of every candidate; `assets/estimators.js` computes from them what the library computes, to
nine digits. `assets/intervals.js` is the library's own construction of intervals with random numbers of its own, so the
ends differ by the noise of 2,000 resamplings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup
from scipy.special import stdtrit
from scipy.stats import rankdata

from bestofl_lib.analysis.arrays import MEASURES, CandidateArrays
from bestofl_lib.analysis.bootstrap import LEVEL
from bestofl_lib.display import words
from bestofl_lib.display.report.atlas import pack
from bestofl_lib.display.report.pages import render
from bestofl_lib.languages import english_name

MOST_CANDIDATES = 60_000  # of a pool that is packed: about 0.4 MB


def whatif_data(arrays: CandidateArrays, atlas: str) -> dict[str, Any] | None:
    """Ranks and correctness of a pool as JSON.

    Args:
        arrays: see `arrays_of_run`.
        atlas: address of a problem in the atlas, with `{}` for its id.

    Returns:
        `ids`, `languages` (code, name, n; the most accurate first), `base` (number of the base language), `t`
        (Student's t for the intervals), `ways` (name, text), `correct` (per language and problem: 0 or 1 of each
        candidate), `answers` (the same: codes, 0 the right one, -1 unread), `ranks` (per way, training seed, language
        and problem; equal rewards have equal ranks). None where the pool is too large for a page.
    """
    best = {code: float(np.nanmean(arrays.is_correct[code])) for code in arrays.languages}
    codes = sorted(arrays.languages, key=lambda code: (-best[code], code))  # as in every chart: the most accurate first
    if sum(int(arrays.exists[code].sum()) for code in codes) > MOST_CANDIDATES:
        return None
    ranks: dict[str, list[Any]] = {}
    for name in (*sorted(arrays.reward_models, key=lambda name: name != "cross"), *MEASURES):
        seeds = arrays.by_seed if name in arrays.reward_models else (arrays,)
        rewards = [found for one in seeds if (found := one.reward(name, codes)) is not None]
        if len(rewards) == len(seeds):
            ranks[name] = [_ranks(arrays, found, codes) for found in rewards]
    ways = [
        (name, words.strategy("best_of_k", name) if name not in MEASURES else words.strategy(name)) for name in ranks
    ]
    ways += [(name, words.strategy(name)) for name in ("majority", "oracle", "random")]
    return {
        "ids": list(arrays.problem_ids),
        "atlas": atlas,
        "ways": [{"name": name, "text": text} for name, text in ways],
        "ranks": ranks,
        "languages": [{"code": c, "name": english_name(c), "n": int(arrays.n_candidates(c).min())} for c in codes],
        "base": codes.index(arrays.base),
        "t": float(stdtrit(max(arrays.n_problems - 1, 1), (1 + LEVEL) / 2)),
        "answers": [[_row(arrays.answers[c][p], arrays.exists[c][p]) for p in range(arrays.n_problems)] for c in codes],
        "correct": [
            [_row(arrays.is_correct[c][p], arrays.exists[c][p]) for p in range(arrays.n_problems)] for c in codes
        ],
    }


def whatif_body(data: Mapping[str, Any]) -> Markup:
    """The body of the page: words, and the data that its script computes with."""
    return render("whatif.html.j2", n=len(data["ids"]), languages=len(data["languages"]), packed=pack(data))


def _row(values: np.ndarray, exists: np.ndarray) -> list[int]:
    return values[exists].astype(int).tolist()


def _ranks(arrays: CandidateArrays, rewards: Mapping[str, np.ndarray], codes: Sequence[str]) -> list[list[list[int]]]:
    """Per language and problem the rank of each candidate among all of the problem's, the highest reward highest."""
    made: dict[str, list[list[int]]] = {code: [] for code in codes}
    for p in range(arrays.n_problems):
        parts = [rewards[code][p][arrays.exists[code][p]] for code in codes]
        rank = rankdata(np.concatenate(parts), method="dense").astype(int)
        ends = np.cumsum([len(part) for part in parts])[:-1]
        for code, mine in zip(codes, np.split(rank, ends), strict=True):
            made[code].append(mine.tolist())
    return [made[code] for code in codes]
