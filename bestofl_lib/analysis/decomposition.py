"""Is it the pool or the reward model? The gain of H1 as a sum of two effects.

For a language and a budget, accuracy is known in four cells: its own pool or the mixed pool, chosen from by the reward
models of single languages (mono) or by the cross-lingual one (cross).

    pool effect   = ½ [(mixed, mono) − (own, mono) + (mixed, cross) − (own, cross)]
    reward effect = ½ [(own, cross) − (own, mono) + (mixed, cross) − (mixed, mono)]
    total         = (mixed, cross) − (own, mono) = pool effect + reward effect, exactly

What one would try instead is in `controls.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bestofl_lib.analysis.arrays import CandidateArrays
from bestofl_lib.analysis.figures import Figures, arm_figures, side_by_side

Array = np.ndarray
PARTS = ("total", "pool", "reward")


@dataclass(frozen=True)
class Cells:
    """The 2 × 2 of pool and selector at one budget; figures are target languages."""

    targets: tuple[str, ...]
    budget: int
    own_mono: Figures
    own_cross: Figures
    mixed_mono: Figures
    mixed_cross: Figures

    @property
    def own(self) -> Figures:
        """Mean of the own pool's cells: what the pool effect starts from."""
        return (self.own_mono + self.own_cross).half()

    @property
    def mono(self) -> Figures:
        """Mean of the mono cells: what the reward effect starts from."""
        return (self.own_mono + self.mixed_mono).half()

    @property
    def mixed(self) -> Figures:
        return (self.mixed_mono + self.mixed_cross).half()

    @property
    def cross(self) -> Figures:
        return (self.own_cross + self.mixed_cross).half()

    def pair(self, part: str) -> tuple[Figures, Figures]:
        """The two figures whose difference is the total, the pool effect or the reward effect."""
        pairs = {
            "total": (self.mixed_cross, self.own_mono),
            "pool": (self.mixed, self.own),
            "reward": (self.cross, self.mono),
        }
        return pairs[part]


def cells_of(
    arrays: CandidateArrays, targets: Sequence[str], budget: int, cross: str = "cross", mono: str = "mono"
) -> Cells:
    """The four cells for each target language.

    Raises:
        ValueError: a reward model does not cover the languages, or a budget above the pool.
    """
    own = {
        model: side_by_side([arm_figures(arrays, code, "best_of_k", model, [budget]) for code in targets])
        for model in (mono, cross)
    }
    mixed = {}
    for model in (mono, cross):
        one = arm_figures(arrays, "mixed", "best_of_k", model, [budget])
        mixed[model] = Figures(np.repeat(one.values, len(targets), 2))
    return Cells(tuple(targets), budget, own[mono], own[cross], mixed[mono], mixed[cross])
