"""Rewards at the places of their candidates: per reward model and language an array like those of `CandidateArrays`.

One model's rewards are in memory at a time, however many there are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from bestofl_lib.tables import KEYS

Array = np.ndarray


def seeded_rewards(
    rewards: pl.DataFrame | pl.LazyFrame | None, table: pl.DataFrame, columns: Mapping[str, Mapping[str, Array]]
) -> dict[str, Any]:
    """The fields `rewards`, `seeds` and `other_seeds` of `CandidateArrays`.

    Args:
        rewards: table `rewards`, or a scan of it.
        table: one row per candidate: key, and its `row` and `place` in its language's arrays.
        columns: the arrays of each language; of them `exists` is used.

    Raises:
        ValueError: models were trained with different seeds; a reward is missing or not finite: names the first.
    """
    if rewards is None:
        return {"rewards": {}, "seeds": ()}
    lazy = rewards.lazy()
    if "seed" not in lazy.collect_schema():
        lazy = lazy.with_columns(seed=pl.lit(None, pl.Int32))
    first_at = lazy.with_row_index().group_by("reward_model", "seed").agg(pl.col("index").min())
    known = first_at.collect(engine="streaming").sort("index")  # which there are, in order
    seeds = tuple(sorted(known["seed"].drop_nulls().unique()))
    for (model,), part in known.partition_by("reward_model", as_dict=True, maintain_order=True).items():
        lacking = set(seeds) - set(part["seed"])
        if len(seeds) > 1 and lacking and part["seed"].null_count() < len(part):
            raise ValueError(
                f"reward model {model!r} has no rewards of seed {', '.join(map(str, sorted(lacking)))}, other models "
                "have; train and score all models with the same seeds"
            )
    models = known["reward_model"].unique(maintain_order=True).to_list()
    places = table.select(*KEYS, "row", "place").partition_by("language", as_dict=True)
    first, *others = (_rewards(lazy, models, seed, places, columns) for seed in seeds or (None,))
    return {"rewards": first, "other_seeds": tuple(others), "seeds": seeds}


def _rewards(
    rewards: pl.LazyFrame,
    models: Sequence[str],
    seed: int | None,
    places: Mapping[Any, pl.DataFrame],
    columns: Mapping[str, Mapping[str, Array]],
) -> dict[str, dict[str, Array]]:
    """The rewards of one training seed, model by model, so that one model's are in memory."""
    result: dict[str, dict[str, Array]] = {}
    of_seed = rewards.filter(pl.col("seed").is_null() | pl.col("seed").eq_missing(pl.lit(seed, pl.Int32)))
    for model in models:
        mine = of_seed.filter(pl.col("reward_model") == model).select(*KEYS, "reward").collect()
        for (code,), rows in mine.partition_by("language", as_dict=True, maintain_order=True).items():
            if (code,) in places:
                array = _placed_rewards(str(model), str(code), rows, places[code,], columns[str(code)]["exists"])
                if array is not None:
                    result.setdefault(str(model), {})[str(code)] = array
    return result


def _placed_rewards(model: str, code: str, rewards: pl.DataFrame, places: pl.DataFrame, exists: Array) -> Array | None:
    """One model's rewards in one language; None without a single usable one: it does not cover the language."""
    part = rewards.join(places, on=KEYS, how="inner")
    bad = part.filter(pl.col("reward").is_nan() | (pl.col("reward") == np.inf))  # −∞ and null: set aside
    if len(bad):
        first = bad.sort(KEYS).row(0, named=True)
        raise ValueError(f"reward model {model!r} gives {first['reward']} to {who(bad)}; score it again or drop it")
    if part["reward"].null_count() == len(part):
        return None
    array = np.full(exists.shape, np.nan)
    array[part["row"].to_numpy(), part["place"].to_numpy()] = part["reward"].fill_null(-np.inf).to_numpy()
    if (exists & np.isnan(array)).any():
        lacking = places.join(part.select(KEYS), on=KEYS, how="anti")
        raise ValueError(
            f"reward model {model!r} lacks rewards for {len(lacking)} of {len(places)} candidates in {code}, "
            f"such as {who(lacking)}; score them"
        )
    return array


def who(table: pl.DataFrame) -> str:
    """The first candidate of a table by its key, for messages."""
    row = table.sort(KEYS).row(0, named=True)
    return f"{row['problem_id']} ({row['language']}) number {row['sample_index']}"
