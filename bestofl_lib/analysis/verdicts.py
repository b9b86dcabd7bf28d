"""From a comparison to a verdict: the one rule for all verdicts.

"supported": the effect is positive and its p-value, corrected by Holm over the comparisons of its family, is below
0.05. "not supported": the effect is shown to be a loss, or a gain of `smallest_gain` is ruled out; corrected in the
same way. "no room": neither, and even a perfect arm would gain less over the other one than this comparison can detect.
"undecided": none of these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from bestofl_lib.analysis import uncertainty as un
from bestofl_lib.analysis.bootstrap import REPLICATES
from bestofl_lib.analysis.figures import Figures, compared

Array = np.ndarray
SMALLEST_GAIN = 0.01  # a gain in accuracy or coverage worth having
LEVEL = 0.05
_NUMBERS = ("effect", "low", "high", "p", "p_holm", "mde", "room")


@dataclass(frozen=True)
class Judged:
    """Comparisons of one family with their verdicts, each (figures,)."""

    effect: Array
    low: Array
    high: Array
    p: Array
    p_holm: Array
    mde: Array
    room: Array  # 1 − the mean of the arm compared with: what a perfect arm would gain
    verdict: tuple[str, ...]

    def rows(self) -> list[dict]:
        """One dictionary per figure."""
        return [
            {name: float(getattr(self, name)[i]) for name in _NUMBERS} | {"verdict": verdict}
            for i, verdict in enumerate(self.verdict)
        ]

    def gains(self) -> dict[str, Any]:
        """The same as columns of a table that calls the effect a gain."""
        columns = {name: getattr(self, name) for name in _NUMBERS} | {"verdict": self.verdict}
        return {"gain": columns.pop("effect")} | columns


def judge(
    first: Figures,
    second: Figures,
    smallest_gain: float = SMALLEST_GAIN,
    replicates: int = REPLICATES,
    seed: int = 0,
    room: Array | None = None,
) -> Judged:
    """The verdict on each figure of `first` over `second`; all figures are one family.

    Args:
        room: (figures,) what a perfect arm would gain; by default 1 − the mean of `second`.
    """
    difference = first - second
    tests = difference.values.shape[2]
    found = compared(difference, tests=tests, replicates=replicates, seed=seed)
    gain = compared(difference, null=smallest_gain, replicates=replicates, seed=seed)
    left = 1 - second.of_problems.mean(0) if room is None else room
    p_holm, ruled_out = holm(found.p), holm(gain.p)
    verdicts = tuple(
        verdict_of(float(e), float(p), float(q), float(r), float(m), smallest_gain)
        for e, p, q, r, m in zip(found.effect, p_holm, ruled_out, left, found.mde, strict=True)
    )
    return Judged(found.effect, found.low, found.high, found.p, p_holm, found.mde, left, verdicts)


def holm(p: Sequence[float | None] | Array) -> Array:
    """Holm's correction: the adjusted p-values in the given order; tests without a value (None, NaN) stay NaN.

    >>> holm([0.01, 0.04, 0.03])
    array([0.03, 0.06, 0.06])
    """
    values = np.array([np.nan if x is None else float(x) for x in p])
    told = np.flatnonzero(~np.isnan(values))
    order = told[np.argsort(values[told], kind="stable")]
    adjusted = np.full(len(values), np.nan)
    adjusted[order] = np.minimum(np.maximum.accumulate(values[order] * (len(order) - np.arange(len(order)))), 1.0)
    return adjusted


def verdict_of(effect: float, p: float, p_gain: float, room: float, mde: float, smallest_gain: float) -> str:
    """The rule at the top of this file.

    Args:
        effect: observed difference.
        p: corrected p-value against no difference.
        p_gain: corrected p-value against a difference of `smallest_gain`.
        room: what a perfect arm would gain.
        mde: minimum detectable effect of this comparison.
    """
    if p < LEVEL:
        return "supported" if effect > 0 else "not supported"
    if room < mde:
        return "no room"
    return "not supported" if effect < smallest_gain and p_gain < LEVEL else "undecided"


def weakest_of(judged: Judged, chosen: Sequence[int]) -> tuple[int, float, float, str]:
    """Intersection–union: the claim that *every* chosen figure is positive is as strong as its weakest.

    Each is tested at the full level: all of them have to pass, so no correction is needed.

    Args:
        judged: a family of comparisons.
        chosen: positions of those that must all be positive.

    Returns:
        Position of the weakest, the joint p-value, the effect in each that is found in all with 80 % power, the
        verdict.
    """
    # ordered from clearly negative to clearly positive
    strength = {i: np.sign(judged.effect[i]) * (1 - judged.p[i]) for i in chosen}
    weakest = min(chosen, key=lambda i: (strength[i], judged.effect[i]))
    p = float(judged.p[weakest]) if judged.effect[weakest] > 0 else 1.0
    mde = max(float(un.minimum_detectable_effect(judged.low[i], judged.high[i], jointly=len(chosen))) for i in chosen)
    verdicts = [judged.verdict[i] for i in chosen]
    if p < LEVEL:
        return weakest, p, mde, "supported"
    for verdict in ("not supported", "undecided", "no room"):
        if verdict in verdicts:
            return weakest, p, mde, verdict
    return weakest, p, mde, "undecided"
