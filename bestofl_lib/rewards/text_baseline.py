"""The text baseline: a reward from the text alone, for pools without a model; a sanity check that takes seconds.

Hashed character n-grams of a completion's ending and a few facts of its shape, and a linear reward on top, trained on
the same kinds of pairs as the real reward models and cross-fitted by problem. It knows no language and no model, reads
no question, and never sees how many candidates agree on an answer.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import polars as pl
from sklearn.feature_extraction import FeatureHasher

from bestofl_lib.languages import check_languages
from bestofl_lib.problems.folds import check_families, fold_of
from bestofl_lib.rewards.heads import LinearHead, fit_head
from bestofl_lib.rewards.pairs import available_pairs, by_cell, reward_model_names, training_pairs
from bestofl_lib.tables import KEY, SCHEMAS, check_table
from bestofl_lib.text import counted, valid_unicode

NGRAM_BUCKETS = 512
NGRAM_SIZES = (2, 3)
ENDING = 300  # characters at the end whose n-grams are counted: what is specific to a problem stands earlier
_STRENGTH = 0.1
_SHAPE = 10
_CHUNK = 10_000  # texts at once, to bound memory
_HASHER = FeatureHasher(NGRAM_BUCKETS, input_type="string", alternate_sign=False, dtype=np.float32)
Trained = tuple[str, int, int]  # reward model, seed of its training, fold that it scores


def score_text_baseline(
    candidates: Sequence[pl.DataFrame],
    readings: pl.DataFrame,
    *,
    variants: Sequence[str] = ("mono", "multi", "cross"),
    loss: str = "pairwise",
    rows: int = 2000,
    cross_shares: str = "natural",
    folds: int = 5,
    trainings: int = 3,
    seed: int = 0,
) -> tuple[pl.LazyFrame, pl.DataFrame]:
    """Train the text baseline on a pool by cross-fitting, and score the pool with it.

    Every fold's model learns from the problems of the other folds only, whatever their language. A mono model scores
    its own language. Features are made of the candidates of sampled pairs, then of a few at a time to be scored.

    Args:
        candidates: the table `candidates` in one or several tables, see `Store.parts`.
        readings: table `readings`; a candidate without a reading is an error.
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
    table = _judged(candidates, readings, folds, seed)
    names = reward_model_names(variants, check_languages(sorted(table["language"].unique())))
    cells = by_cell(table).join(table.select("problem_id", "fold").unique(), on="problem_id", maintain_order="left")
    learning = {k: cells.filter(pl.col("fold") != k) for k in sorted(table["fold"].unique())}
    available = {name: min(available_pairs(part, name) for part in learning.values()) for name in names}
    used = min([rows, *(n for n in available.values() if n)])
    trained = [name for name in names if available[name]]
    drawn = {
        (name, training, k): training_pairs(learning[k], name, used, training, cross_shares)
        for name, training, k in product(trained, range(seed, seed + trainings), learning)
    }
    heads, learnt = _heads(drawn, candidates, table, loss)
    told = [
        {
            "reward_model": name,
            "rows": used if available[name] else 0,
            "available": available[name],
            "n_problems": min([problems for problems, _ in learnt.get(name, [(0, 0)])]),
            "n_candidates": min([count for _, count in learnt.get(name, [(0, 0)])]),
            "status": "trained" if available[name] else "no pairs of a correct and a wrong candidate in some fold",
        }
        for name in names
    ]
    return _scored(heads, candidates, table), check_table("baseline", pl.DataFrame(told))


def _judged(candidates: Sequence[pl.DataFrame], readings: pl.DataFrame, folds: int, seed: int) -> pl.DataFrame:
    """One row per candidate that did not end in an error, in order: KEY, answered, is_correct, fold, row."""
    table = pl.concat(_unfailed(part).select(*KEY) for part in candidates)
    read = readings.select(*KEY, "is_correct", answered=pl.col("answer").is_not_null())
    table = table.join(read, on=list(KEY), how="left", maintain_order="left")
    if table["is_correct"].null_count():
        raise ValueError(
            f"{table['is_correct'].null_count():,} of {counted(table.height, 'candidate')} without a reading; run "
            "03_check_answers first"
        )
    ids = table["problem_id"].unique(maintain_order=True).to_list()
    check_families(ids, ids, "the text baseline", "import one set without variants, or bring rewards with the pool")
    fold = pl.DataFrame({"problem_id": ids, "fold": fold_of(ids, folds, seed)}, schema_overrides={"fold": pl.Int16})
    return table.join(fold, on="problem_id", maintain_order="left").with_row_index("row")


def _unfailed(candidates: pl.DataFrame) -> pl.DataFrame:
    return candidates.filter(pl.col("finish_reason").ne_missing("error"))


def _heads(
    drawn: Mapping[Trained, pl.DataFrame], candidates: Sequence[pl.DataFrame], table: pl.DataFrame, loss: str
) -> tuple[dict[Trained, LinearHead], dict[str, list[tuple[int, int]]]]:
    """A linear reward for each set of pairs; and per reward model the problems and candidates it learnt from, each
    time.
    """
    heads: dict[Trained, LinearHead] = {}
    learnt: dict[str, list[tuple[int, int]]] = {}
    if not drawn:
        return heads, learnt
    pairs = pl.concat(drawn.values())
    sides = [_rows(pairs, side, table) for side in ("chosen", "rejected")]
    needed = np.unique(np.concatenate(sides))
    features = np.concatenate(
        [text_features(texts, answered) for texts, answered, _ in _pieces(candidates, table[needed])]
    )
    chosen, rejected = (np.searchsorted(needed, rows) for rows in sides)
    start = 0
    for trained, part in drawn.items():
        mine = slice(start, start := start + len(part))
        groups = part["problem_id"].rank("dense").to_numpy()
        heads[trained] = fit_head(
            features[chosen[mine]], features[rejected[mine]], groups, loss, strengths=(_STRENGTH,)
        )
        count = len(np.union1d(chosen[mine], rejected[mine]))
        learnt.setdefault(trained[0], []).append((int(groups.max()), count))
    return heads, learnt


def _pieces(
    candidates: Sequence[pl.DataFrame], rows: pl.DataFrame
) -> Iterator[tuple[list[str], np.ndarray, np.ndarray]]:
    """Texts, whether an answer was read, and row of some candidates, `_CHUNK` at a time, in the order of the tables."""
    for part in candidates:
        mine = part.select(*KEY, "completion").join(rows, on=list(KEY), how="inner", maintain_order="left")
        for piece in mine.iter_slices(_CHUNK):
            yield piece["completion"].to_list(), piece["answered"].to_numpy(), piece["row"].to_numpy()


def _scored(
    heads: Mapping[Trained, LinearHead], candidates: Sequence[pl.DataFrame], table: pl.DataFrame
) -> pl.LazyFrame:
    """The table `rewards`: every candidate by the models that did not learn from its problem."""
    fold, language, n = table["fold"].to_numpy(), table["language"].to_numpy(), len(table)
    groups: dict[tuple[int, str], list[tuple[str, int]]] = {}  # (fold, language or all) -> models that score it
    for name, training, k in heads:
        groups.setdefault((k, name.removeprefix("mono-") if name.startswith("mono-") else ""), []).append(
            (name, training)
        )
    rewards = {(_kind(name), training): np.full(n, np.nan) for name, training, _ in heads}
    for texts, answered, row in _pieces(candidates, table) if heads else ():
        features = text_features(texts, answered).astype(np.float64)
        for (k, code), models in groups.items():
            mine = (fold[row] == k) & (language[row] == code if code else True)
            if mine.any():
                mine, rows = features[mine], row[mine]
                for name, training in models:
                    head = heads[name, training, k]
                    rewards[_kind(name), training][rows] = mine @ head.weights + head.offset
    keys, parts = table.select(*KEY), [SCHEMAS["rewards"].to_frame().lazy()]
    for name, training in dict.fromkeys((name, training) for name, training, _ in heads):
        scored, reward = keys, pl.Series("reward", rewards[_kind(name), training])
        if name.startswith("mono-"):
            own = table["language"] == name.removeprefix("mono-")
            scored, reward = keys.filter(own), reward.filter(own)
        named = scored.with_columns(reward).lazy().with_columns(reward_model=pl.lit(name))
        parts.append(named.select(*KEY, "reward_model", "reward", seed=pl.lit(training, pl.Int32)))
    return pl.concat(parts)


def _kind(name: str) -> str:
    """All models of single languages have one column: no two of them score the same candidate."""
    return "mono" if name.startswith("mono-") else name


def rewards_of_pool(
    given: pl.DataFrame,
    candidates: Sequence[pl.DataFrame],
    readings: pl.DataFrame,
    *,
    beside: bool = False,
    **training: Any,
) -> tuple[pl.LazyFrame, pl.DataFrame]:
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
    whole = pl.concat(_unfailed(part).select(*KEY) for part in candidates)
    for (name,), part in given.partition_by("reward_model", as_dict=True, maintain_order=True).items():
        if lacking := len(whole.join(part, on=list(KEY), how="anti")) + len(part.join(whole, on=list(KEY), how="anti")):
            raise ValueError(
                f"given rewards of {name!r} do not fit the run's candidates in {lacking:,} rows; run 02_import_pool "
                "again"
            )
    brought = check_table("rewards", given)
    if not beside:
        return brought.lazy(), SCHEMAS["baseline"].to_frame()
    made, told = score_text_baseline(candidates, readings, **training)
    if both := sorted(set(given["reward_model"]) & set(told.filter(pl.col("rows") > 0)["reward_model"])):
        raise ValueError(
            f"given rewards are named {', '.join(both)}, like the baseline's reward models; rename them, such as "
            f"rewards='mine={both[0]}'"
        )
    return pl.concat([brought.lazy(), made]), told


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
        endings = [text[-ENDING:] for text in texts]
        owner = np.repeat(np.arange(len(texts)), [len(text) for text in endings])
        code = np.frombuffer("".join(endings).encode("utf-32-le"), np.uint32)
        features[part, :_SHAPE] = _shape(texts, has_answer[part], owner, code)
        features[part, _SHAPE:] = np.sqrt(_ngram_counts(len(texts), owner, code))
    return features


def _shape(texts: Sequence[str], has_answer: np.ndarray, owner: np.ndarray, code: np.ndarray) -> np.ndarray:
    """(texts, 10) what texts look like, whatever their language; for owner and code see `_ngram_counts`."""
    size = np.maximum(np.bincount(owner, minlength=len(texts)), 1)
    letters, n_letters, _ = _numbered(code, sys.maxunicode + 1)
    seen = np.zeros((len(texts), n_letters), bool)
    seen[owner, letters] = True
    last = [text.rstrip()[-1:] for text in texts]
    return np.stack([
        has_answer,
        np.log1p([len(text) for text in texts]),
        np.log1p([text.count("\n") for text in texts]),
        np.bincount(owner[(code >= ord("0")) & (code <= ord("9"))], minlength=len(texts)) / size,
        np.log1p(np.bincount(owner[code == ord("=")], minlength=len(texts))),
        np.bincount(owner[code > 127], minlength=len(texts)) / size,
        [text.isdigit() for text in last],
        [text in ".。।!?！？" for text in last],
        ["\\boxed" in text for text in texts],
        seen.sum(1) / size,
    ], 1)  # fmt: skip


def _ngram_counts(n_texts: int, owner: np.ndarray, code: np.ndarray) -> np.ndarray:
    """(texts, NGRAM_BUCKETS) float32: what scikit-learn's `HashingVectorizer` counts with the analyzer "char" in texts
    whose digits are all 0, but each distinct n-gram is hashed once.

    Args:
        owner, code: (characters of all texts,) the text that each is of, and its code point.
    """
    code = np.where((code > ord("0")) & (code <= ord("9")), ord("0"), code)
    letters, n_letters, first = _numbered(code, sys.maxunicode + 1)
    blank = np.array([chr(c).isspace() for c in code[first]], bool)[letters]
    again = blank.copy()  # blanks behind a blank: several count as one space
    again[1:] &= blank[:-1] & (owner[1:] == owner[:-1])
    again[:1] = False
    code = np.where(blank & np.append(again[1:], False), ord(" "), code)[~again]
    owner = owner[~again]
    joined = code.astype(np.uint32).tobytes().decode("utf-32-le")
    letters, n_letters, _ = _numbered(code, sys.maxunicode + 1)
    grams, n_grams, found = letters, n_letters, []
    for size in range(2, NGRAM_SIZES[1] + 1):  # each n-gram is one of size - 1 and a letter
        grams, n_grams, first = _numbered(grams[:-1] * n_letters + letters[size - 1 :], n_grams * n_letters)
        if len(first):
            whole = np.flatnonzero(owner[: len(grams)] == owner[size - 1 :])  # not over the end of a text
            bucket = _HASHER.transform([[joined[at : at + size]] for at in first]).indices
            found.append(owner[whole] * NGRAM_BUCKETS + bucket[grams[whole]])
    counts = np.bincount(np.concatenate([owner[:0], *found]), minlength=n_texts * NGRAM_BUCKETS)
    return counts.reshape(n_texts, NGRAM_BUCKETS).astype(np.float32)


def _numbered(values: np.ndarray, most: int) -> tuple[np.ndarray, int, np.ndarray]:
    """Values below `most` as numbers from 0 of those that occur, how many these are, and where each is first."""
    first = np.full(most, -1)
    first[values[::-1]] = np.arange(len(values) - 1, -1, -1)
    there = np.flatnonzero(first >= 0)
    places = first[there]
    first[there] = np.arange(len(there))
    return first[values], len(there), places


def _rows(pairs: pl.DataFrame, side: str, table: pl.DataFrame) -> np.ndarray:
    keys = pairs.select("problem_id", language=f"{side}_language", sample_index=f"{side}_index")
    return keys.join(table.select("row", *KEY), on=list(KEY), how="left", maintain_order="left")["row"].to_numpy()
