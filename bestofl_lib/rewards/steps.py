"""Steps of a completion, and one reward out of the rewards of its steps.

It knows texts and numbers; it knows no models.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np

AGGREGATIONS = ("last", "min", "product", "mean")
MOST_STEPS = 64  # of a completion; any further ones are merged into the last

_SENTENCE = re.compile(r"(?<=[.!?。！？।])\s+|(?<=[。！？।])")


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
