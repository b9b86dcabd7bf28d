"""The text baseline: a reward from the text alone, for pools without a model; a sanity check that takes seconds.

Hashed character n-grams of a completion's ending and a few facts of its shape, and a linear reward on top, trained on
the same kinds of pairs as the real reward models and cross-fitted by problem. It knows no language and no model, reads
no question, and never sees how many candidates agree on an answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np
import polars as pl
from sklearn.feature_extraction.text import HashingVectorizer

from bestofl_lib.languages import check_languages
from bestofl_lib.problems.folds import check_families, fold_of
from bestofl_lib.rewards.heads import fit_head
from bestofl_lib.rewards.pairs import available_pairs, reward_model_names, training_pairs
from bestofl_lib.tables import KEY, SCHEMAS, check_table
from bestofl_lib.text import counted, valid_unicode

NGRAM_BUCKETS = 512
NGRAM_SIZES = (2, 3)
ENDING = 300  # characters at the end whose n-grams are counted: what is specific to a problem stands earlier
_STRENGTH = 0.1
_SHAPE = 10
_CHUNK = 10_000  # texts at once, to bound memory
_ONE_DIGIT = dict.fromkeys(map(ord, "123456789"), "0")
_NGRAMS = HashingVectorizer(
    analyzer="char",
    ngram_range=NGRAM_SIZES,
    lowercase=False,
    n_features=NGRAM_BUCKETS,
    alternate_sign=False,
    norm=None,
    dtype=np.float32,
)


def score_text_baseline(
    candidates: pl.DataFrame,
    readings: pl.DataFrame,
    *,
    variants: Sequence[str] = ("mono", "multi", "cross"),
    loss: str = "pairwise",
    rows: int = 2000,
    cross_shares: str = "natural",
    folds: int = 5,
    trainings: int = 3,
    seed: int = 0,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Train the text baseline on a pool by cross-fitting, and score the pool with it.

    Every fold's model learns from the problems of the other folds only, whatever their language. A mono model scores
    its own language.

    Args:
        candidates, readings: tables as in `bestofl_lib.tables`; a candidate without a reading is an error.
        variants: as for `train_reward_models`; all get the same number of training rows, also over folds.
        rows: pairs per model at most.
        cross_shares: of the pairs of languages in "cross", see `pairs.training_pairs`.
        folds: by problem.
        trainings: of each model, on draws of pairs with the seeds seed, seed + 1, …

    Returns:
        The rewards table, and the table `baseline`, one row per reward model (rows 0: some fold has no pairs, so there
        are no rewards either). Without any pairs the rewards table is empty.

    Raises:
        ValueError: candidates without readings, or no training at all.
    """
    if trainings < 1:
        raise ValueError(f"trainings={trainings} trains nothing; use 1 or more")
    table = candidates.filter(pl.col("finish_reason").ne_missing("error")).select(*KEY, "completion")
    table = table.join(readings.select(*KEY, "answer", "is_correct"), on=list(KEY), how="left", maintain_order="left")
    if table["is_correct"].null_count():
        raise ValueError(
            f"{table['is_correct'].null_count():,} of {counted(table.height, 'candidate')} without a reading; run "
            "03_check_answers first"
        )
    names = reward_model_names(variants, check_languages(sorted(table["language"].unique())))
    ids = table["problem_id"].unique().to_list()
    check_families(ids, ids, "the text baseline", "import one set without variants, or bring rewards with the pool")
    table = table.with_columns(fold=pl.Series(fold_of(table["problem_id"], folds, seed))).with_row_index("row")
    learning = {k: table.filter(pl.col("fold") != k) for k in sorted(table["fold"].unique())}
    available = {name: min(available_pairs(part, name) for part in learning.values()) for name in names}
    used = min([rows, *(n for n in available.values() if n)])
    features = text_features(table["completion"].to_list(), table["answer"].is_not_null().to_numpy())
    parts = [pl.DataFrame(schema=SCHEMAS["rewards"])]
    learnt: dict[str, list[tuple[int, int]]] = {name: [(0, 0)] for name in names if not available[name]}
    for name, training, k in product([n for n in names if available[n]], range(seed, seed + trainings), learning):
        part = learning[k]
        pairs = training_pairs(part, name, used, training, cross_shares)
        chosen, rejected = (_rows(pairs, side, part) for side in ("chosen", "rejected"))
        groups = pairs["problem_id"].rank("dense").to_numpy()
        head = fit_head(features[chosen], features[rejected], groups, loss, strengths=(_STRENGTH,))
        learnt.setdefault(name, []).append((int(groups.max()), len(np.union1d(chosen, rejected))))
        mine = table.filter(pl.col("fold") == k)
        if name.startswith("mono-"):
            mine = mine.filter(pl.col("language") == name.removeprefix("mono-"))
        reward = pl.Series("reward", head.rewards(features[mine["row"].to_numpy()]), dtype=pl.Float64)
        named = mine.select(*KEY).with_columns(pl.lit(name).alias("reward_model"), reward)
        parts.append(named.with_columns(seed=pl.lit(training, pl.Int32)))
    told = [
        {
            "reward_model": name,
            "rows": used if available[name] else 0,
            "available": available[name],
            "n_problems": min(problems for problems, _ in learnt[name]),
            "n_candidates": min(count for _, count in learnt[name]),
            "status": "trained" if available[name] else "no pairs of a correct and a wrong candidate in some fold",
        }
        for name in names
    ]
    return check_table("rewards", pl.concat(parts)), check_table("baseline", pl.DataFrame(told))


def rewards_of_pool(
    given: pl.DataFrame, candidates: pl.DataFrame, readings: pl.DataFrame, *, beside: bool = False, **training: Any
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The rewards that rank a pool's candidates: those it brought, else the text baseline's.

    Args:
        given: table `given_rewards`.
        candidates, readings: see `score_text_baseline`.
        beside: train the baseline also where rewards were given, as reward models beside them.
        training: how the baseline is trained, see `score_text_baseline`.

    Returns:
        As `score_text_baseline`; without a baseline the second table has no rows.

    Raises:
        ValueError: a given reward is not about these candidates, lacks some, or has the name of a baseline's model.
    """
    if given.is_empty():
        return score_text_baseline(candidates, readings, **training)
    whole = candidates.filter(pl.col("finish_reason").ne_missing("error")).select(list(KEY))
    for (name,), part in given.partition_by("reward_model", as_dict=True, maintain_order=True).items():
        if lacking := len(whole.join(part, on=list(KEY), how="anti")) + len(part.join(whole, on=list(KEY), how="anti")):
            raise ValueError(
                f"given rewards of {name!r} do not fit the run's candidates in {lacking:,} rows; run 02_import_pool "
                "again"
            )
    if not beside:
        return check_table("rewards", given), SCHEMAS["baseline"].to_frame()
    made, told = score_text_baseline(candidates, readings, **training)
    if both := sorted(set(given["reward_model"]) & set(made["reward_model"])):
        raise ValueError(
            f"given rewards are named {', '.join(both)}, like the baseline's reward models; rename them, such as "
            f"rewards='mine={both[0]}'"
        )
    return check_table("rewards", pl.concat([check_table("rewards", given), made])), told


def text_features(completions: Sequence[str], has_answer: np.ndarray) -> np.ndarray:
    """(completions, 10 + 512) float32: shape of the text, and square roots of the counts of hashed n-grams of its
    ending.

    All digits 0 to 9 count as one character, so that the numbers of single problems cannot be memorised.

    Args:
        completions: raw texts.
        has_answer: (completions,) bool, whether an answer could be read.
    """
    features = np.empty((len(completions), _SHAPE + NGRAM_BUCKETS), dtype=np.float32)
    for start in range(0, len(completions), _CHUNK):
        part = slice(start, start + _CHUNK)
        texts = [valid_unicode(text) for text in completions[part]]
        features[part, :_SHAPE] = [
            _shape(text, answered) for text, answered in zip(texts, has_answer[part], strict=True)
        ]
        endings = [text[-ENDING:].translate(_ONE_DIGIT) for text in texts]
        features[part, _SHAPE:] = np.sqrt(_NGRAMS.transform(endings).toarray())
    return features


def _shape(text: str, has_answer: bool) -> tuple[float, ...]:
    """What the text looks like, whatever its language."""
    tail, last = text[-ENDING:], text.rstrip()[-1:]
    n = max(len(tail), 1)
    return (
        has_answer,
        np.log1p(len(text)),
        np.log1p(text.count("\n")),
        sum(map(tail.count, "0123456789")) / n,
        np.log1p(tail.count("=")),
        (len(tail) - len(tail.encode("ascii", "ignore"))) / n,
        last.isdigit(),
        last in ".。।!?！？",
        "\\boxed" in text,
        len(set(tail)) / n,
    )


def _rows(pairs: pl.DataFrame, side: str, table: pl.DataFrame) -> np.ndarray:
    keys = pairs.select("problem_id", language=f"{side}_language", sample_index=f"{side}_index")
    return keys.join(table.select("row", *KEY), on=list(KEY), how="left", maintain_order="left")["row"].to_numpy()
