"""Which language an analysis is about: that of the question, of the thinking or of the answer.

A run keeps candidates by `language`. Here its tables are keyed anew by one of the three axes, so that everything else
in this folder works on that axis without knowing it.
"""

from __future__ import annotations

from typing import TypeVar

import polars as pl

from bestofl_lib.tables import KEY

Frame = TypeVar("Frame", pl.DataFrame, pl.LazyFrame)
AXES = ("question", "thinking", "answer")
_CELL = ["problem_id", "language"]


def on_axis(
    axis: str,
    candidates: pl.DataFrame,
    readings: pl.DataFrame,
    rewards: Frame | None,
    problems: pl.DataFrame,
) -> tuple[pl.DataFrame, pl.DataFrame, Frame | None, pl.DataFrame]:
    """The tables of a run with `language` on one axis; candidates of one problem and language are numbered anew.

    Args:
        axis: one of AXES, or empty for the tables as they are.
        candidates, readings, rewards, problems: tables of a run. A candidate that does not say its language on the axis
            has that of its key. Reward models that are there for single languages only ("mono-en") know another axis
            and are left out where the axis moves a candidate.

    Raises:
        ValueError: no such axis.
    """
    if not axis:
        return candidates, readings, rewards, problems
    if axis not in AXES:
        raise ValueError(f"unknown axis {axis!r}; use one of: {', '.join(AXES)}")
    moved = (
        candidates.sort(*KEY)
        .select(*KEY, axis=pl.coalesce(f"{axis}_language", "language"))
        .with_columns(place=pl.int_range(pl.len(), dtype=pl.Int32).over("problem_id", "axis"))
    )
    if (moved["axis"] == moved["language"]).all():
        return candidates, readings, rewards, problems
    if rewards is not None:
        rewards = _moved(rewards.filter(~pl.col("reward_model").str.starts_with("mono-")), moved)
    return _moved(candidates, moved), _moved(readings, moved), rewards, _problems(problems, moved)


def _moved(table: Frame, moved: pl.DataFrame) -> Frame:
    other = moved if isinstance(table, pl.DataFrame) else moved.lazy()
    joined = table.join(other, on=list(KEY), how="inner", maintain_order="left")
    return joined.with_columns(language="axis", sample_index="place").drop("axis", "place")


def _problems(problems: pl.DataFrame, moved: pl.DataFrame) -> pl.DataFrame:
    """One row per problem and language of the axis: the question in that language, else one that its candidates were
    asked.
    """
    asked = moved.select("problem_id", "language", "axis").unique(maintain_order=True)
    table = asked.join(problems, on=_CELL, how="inner", maintain_order="left")
    own_first = table.sort("problem_id", "axis", pl.col("language") != pl.col("axis"), maintain_order=True)
    revised = pl.col("is_revised").any().over("problem_id", "axis")
    kept = own_first.with_columns(is_revised=revised).unique(["problem_id", "axis"], keep="first", maintain_order=True)
    return kept.with_columns(language="axis").select(problems.columns)
