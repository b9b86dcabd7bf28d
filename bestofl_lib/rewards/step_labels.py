"""Labels the steps of training candidates by how often the policy still reaches the right answer from there.

Wang et al. 2024, Math-Shepherd, arXiv:2312.08935. It cuts completions of training problems into steps, has the policy
continue them, and reads the answers; it trains nothing.
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

from bestofl_lib.answers.columns import read_answers
from bestofl_lib.candidates.rollouts import draw_rollouts
from bestofl_lib.candidates.sampling import AXES
from bestofl_lib.candidates.store import Store
from bestofl_lib.models.contract import Sampler, Sampling
from bestofl_lib.rewards.steps import beginnings
from bestofl_lib.tables import KEY, KEYS, check_table

_INDEX = ["problem_id", "language", "sample_index", "step"]


def label_steps(
    candidates: pl.DataFrame,
    readings: pl.DataFrame,
    problems: pl.DataFrame,
    store: Store,
    sampler: Sampler,
    rollouts: int = 4,
    settings: Sampling | None = None,
    *,
    samples: int = 0,
    seed: int = 0,
    style: str = "native",
    system_prompt: str = "",
    memory: Path | None = None,
    progress: bool = True,
) -> pl.DataFrame:
    """Continue every step of the training candidates and count how often the answer comes out right.

    The last step is labelled by the completion's own answer. Unreadable answers are wrong; rollouts that ended with an
    error count for nothing.

    Args:
        candidates, readings, problems: tables as in `bestofl_lib.tables`; only those of the split "train" are used.
        store, sampler, settings, seed, style, system_prompt: see `draw_rollouts`.
        rollouts: continuations per step.
        samples: candidates per problem and language, those of the lowest indices; 0: all.
        memory: see `read_answers`.

    Returns:
        Table `step_labels`: one row per candidate and step, sorted by key.

    Raises:
        ValueError: no candidates of training problems, candidates without readings; see `draw_rollouts`.
    """
    train = problems.filter(pl.col("split") == "train")
    steps = _steps(candidates, readings, train, samples)
    is_last = pl.col("step") == pl.col("step").max().over(KEYS)
    asked = train.select("problem_id", "language", "question")
    drawn = draw_rollouts(
        steps.filter(~is_last).join(asked, on=["problem_id", "language"], how="left"),
        store, sampler, rollouts, settings, seed=seed, style=style, system_prompt=system_prompt, progress=progress,
    )  # fmt: skip
    drawn = drawn.filter(pl.col("finish_reason") != "error").with_row_index("number")
    one_each = drawn.with_columns(sample_index=pl.col("number").cast(pl.Int32))
    is_right = read_answers(one_each, train, memory)["is_correct"]
    continued = (
        drawn.with_columns(right=is_right).group_by(_INDEX).agg(pl.len().alias("rollouts"), pl.col("right").sum())
    )
    ended = steps.filter(is_last).select(
        *_INDEX, rollouts=pl.lit(1, pl.UInt32), right=pl.col("is_correct").cast(pl.UInt32)
    )
    labels = steps.select(*_INDEX, "end").join(pl.concat([continued, ended]), on=_INDEX, how="left").sort(_INDEX)
    whole = pl.col("rollouts").is_not_null().all().over(KEYS)  # all rollouts of a step may have ended with an error
    return check_table("step_labels", labels.filter(whole))


def _steps(candidates: pl.DataFrame, readings: pl.DataFrame, train: pl.DataFrame, samples: int) -> pl.DataFrame:
    """The beginnings of the training candidates: KEY, languages, `beginning`, is_correct, `step` and its `end`."""
    chosen = candidates.join(train, on=["problem_id", "language"], how="semi")
    chosen = chosen.filter(pl.col("finish_reason").ne_missing("error"))
    if samples:
        chosen = chosen.filter(pl.col("sample_index").rank("ordinal").over("problem_id", "language") <= samples)
    if chosen.is_empty():
        raise ValueError(
            "no candidates of training problems, and steps of other problems are never labelled; draw some with "
            "01_generate_candidates (-p train_problems=300)"
        )
    judged = chosen.join(readings.select(*KEY, "is_correct"), on=KEYS, how="left")
    if unread := judged["is_correct"].null_count():
        raise ValueError(
            f"{unread:,} of {len(judged):,} training candidates without a reading; run 03_check_answers first"
        )
    return beginnings(judged).select(*KEY, *AXES, "is_correct", "step", "end", beginning="completion")
