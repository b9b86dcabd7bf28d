"""Steps of a completion, and one reward out of the rewards of its steps.

It knows texts and numbers; it knows no models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import polars as pl

AGGREGATIONS = ("last", "min", "product", "mean")
MOST_STEPS = 64  # of a completion; any further ones are merged into the last

# a sign that ends sentences, or the space that does so in Thai
_SENTENCE = re.compile(r"(?<=[.!?。！？।])\s+|(?<=[。！？।])|(?<=[\u0e00-\u0e7f])\s+(?=[\u0e00-\u0e7f])")
_LINES = (_SENTENCE, re.compile(r"\n"))
_LABEL = re.compile(r"\W*(\d{1,2}|[A-Za-z])[.)]\W*")  # of an enumeration: no sentence


def split_steps(completion: str) -> list[str]:
    """The steps of a completion: its paragraphs, or its lines if it has one paragraph, or its sentences if it has one
    line.

    Returns:
        At least one step, and at most 64; none is blank unless the completion is.

    >>> split_steps("First: 2 + 3 = 5.\\n\\nThe answer is 5.")
    ['First: 2 + 3 = 5.', 'The answer is 5.']
    >>> split_steps("First: 2 + 3 = 5. The answer is 5.")
    ['First: 2 + 3 = 5.', 'The answer is 5.']
    """
    text = completion.strip()
    for parts in (re.split(r"\n\s*\n", text), text.split("\n"), _SENTENCE.split(text)):
        steps = [part.strip() for part in parts if part.strip()]
        if len(steps) > 1:
            return [*steps[: MOST_STEPS - 1], "\n".join(steps[MOST_STEPS - 1 :])] if len(steps) > MOST_STEPS else steps
    return [text]


def step_ends(completion: str) -> list[int]:
    """Where the steps of a completion end, in characters, where each line and each sentence is a step: what a policy
    can continue. `split_steps` cuts as public process reward models expect it, which may be far coarser.

    Returns:
        At least one end and at most 64, ascending; the last is that of the text without white space behind it.

    >>> step_ends("First: 2 + 3 = 5. So 5.\\nThe answer is 5.\\n")
    [17, 23, 40]
    """
    cuts = [match.start() for line in _LINES for match in line.finditer(completion)]
    ends: list[int] = []
    for cut in sorted(cuts):
        end = len(completion[:cut].rstrip())
        begin = ends[-1] if ends else 0
        if end > begin and not _LABEL.fullmatch(completion[begin:end]):
            ends.append(end)
    last = len(completion.rstrip())
    return [*[end for end in ends if end < last][: MOST_STEPS - 1], last]


def beginnings(candidates: pl.DataFrame) -> pl.DataFrame:
    """The beginnings of completions that end with a step, the whole one included.

    Returns:
        One row per candidate and step: the columns of the candidates, with `completion` up to there, `step` (counts
        from 0) and `end`, its length in characters.
    """
    ends = pl.Series([step_ends(text) for text in candidates["completion"]], dtype=pl.List(pl.Int32))
    table = candidates.with_columns(end=ends, step=pl.int_ranges(ends.list.len(), dtype=pl.Int32))
    table = table.explode("step", "end")
    return table.with_columns(pl.col("completion").str.slice(0, pl.col("end")))


def aggregate_steps(rewards: np.ndarray, how: str) -> np.ndarray:
    """One reward per candidate.

    Args:
        rewards: (candidates, steps) in [0, 1], NaN where a candidate has fewer steps; its last step stands last.
        how: "last", "min", "product" or "mean".

    Returns:
        (candidates,) float64, NaN for a candidate without any step.

    Raises:
        ValueError: an unknown aggregation.

    >>> aggregate_steps(np.array([[np.nan, 0.5, 0.8]]), "product").tolist()
    [0.4]
    """
    if how not in AGGREGATIONS:
        raise ValueError(f"unknown aggregation {how!r}; use one of: {', '.join(AGGREGATIONS)}")
    rewards = rewards.astype(np.float64)
    known = ~np.isnan(rewards)
    some = known.any(1)
    result = np.full(len(rewards), np.nan)
    part, has = rewards[some], known[some]
    if how == "last":
        result[some] = part[:, -1]
    elif how == "min":
        result[some] = np.nanmin(part, axis=1) if len(part) else part[:, 0]
    elif how == "product":
        result[some] = np.where(has, part, 1.0).prod(1)
    else:
        result[some] = np.where(has, part, 0.0).sum(1) / has.sum(1)
    return result


def numbered_steps(rewards: Sequence[float]) -> list[tuple[int, float]]:
    """Number and reward of each step that has one, in order.

    >>> numbered_steps([float("nan"), 0.5, 0.25])
    [(0, 0.5), (1, 0.25)]
    """
    known = [float(reward) for reward in rewards if not np.isnan(reward)]
    return list(enumerate(known))
