"""The page of a report that answers back without Python: what another budget, allocation or way of choosing would reach.

Packs ranks and correctness of every candidate; `assets/estimators.js` computes from them what the library computes, to nine digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from markupsafe import Markup
from scipy.stats import rankdata

from bestofl_lib.analysis.pool import MEASURES, Pool
from bestofl_lib.display import words
from bestofl_lib.display.report.atlas import pack
from bestofl_lib.display.report.pages import render
from bestofl_lib.languages import english_name

MOST_CANDIDATES = 60_000  # of a pool that is packed: about 0.4 MB


def whatif_data(pool: Pool, atlas: str) -> dict[str, Any] | None:
    """Ranks and correctness of a pool as JSON.

    Args:
        pool: see `pool_of_run`.
        atlas: address of a problem in the atlas, with `{}` for its id.

    Returns:
        `ids`, `languages` (code, name, n), `base` (number of the base language), `ways` (name, text), `correct` (per language and
        problem: 0 or 1 of each candidate), `answers` (the same: codes, 0 the right one, -1 unread), `ranks` (per way, training seed,
        language and problem; equal rewards have equal ranks). None where the pool is too large for a page.
    """
    codes = pool.languages
    if sum(int(pool.exists[code].sum()) for code in codes) > MOST_CANDIDATES:
        return None
    ranks: dict[str, list[Any]] = {}
    for name in (*sorted(pool.reward_models, key=lambda name: name != "cross"), *MEASURES):
        seeds = pool.by_seed if name in pool.reward_models else (pool,)
        rewards = [found for one in seeds if (found := one.reward(name, codes)) is not None]
        if len(rewards) == len(seeds):
            ranks[name] = [_ranks(pool, found) for found in rewards]
    ways = [
        (name, words.strategy("best_of_k", name) if name not in MEASURES else words.strategy(name)) for name in ranks
    ]
    ways += [(name, words.strategy(name)) for name in ("majority", "oracle", "random")]
    return {
        "ids": list(pool.problem_ids), "atlas": atlas, "ways": [{"name": name, "text": text} for name, text in ways], "ranks": ranks,
        "languages": [{"code": c, "name": english_name(c), "n": int(pool.n_candidates(c).min())} for c in codes],
        "base": codes.index(pool.base), "answers": [[_row(pool.answers[c][p], pool.exists[c][p]) for p in range(pool.n_problems)] for c in codes],
        "correct": [[_row(pool.is_correct[c][p], pool.exists[c][p]) for p in range(pool.n_problems)] for c in codes],
    }  # fmt: skip


def whatif_body(data: Mapping[str, Any]) -> Markup:
    """The body of the page: words, and the data that its script computes with."""
    return render("whatif.html.j2", n=len(data["ids"]), languages=len(data["languages"]), packed=pack(data))


def _row(values: np.ndarray, exists: np.ndarray) -> list[int]:
    return values[exists].astype(int).tolist()


def _ranks(pool: Pool, rewards: Mapping[str, np.ndarray]) -> list[list[list[int]]]:
    """Per language and problem the rank of each candidate among all of the problem's, the highest reward highest."""
    made: dict[str, list[list[int]]] = {code: [] for code in pool.languages}
    for p in range(pool.n_problems):
        parts = [rewards[code][p][pool.exists[code][p]] for code in pool.languages]
        rank = rankdata(np.concatenate(parts), method="dense").astype(int)
        ends = np.cumsum([len(part) for part in parts])[:-1]
        for code, mine in zip(pool.languages, np.split(rank, ends), strict=True):
            made[code].append(mine.tolist())
    return [made[code] for code in pool.languages]
