"""Per-problem figures of an arm for each training seed, and comparisons of two arms that keep the seeds apart."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from bestofl_lib.analysis import uncertainty as un
from bestofl_lib.analysis.arms import arm_values
from bestofl_lib.analysis.arrays import CandidateArrays
from bestofl_lib.analysis.bootstrap import REPLICATES
from bestofl_lib.analysis.votes import DRAWS

Array = np.ndarray


@dataclass(frozen=True)
class Figures:
    """(seeds, problems, figures) values; one seed where no reward model is involved or a single one was trained."""

    values: Array

    @property
    def of_problems(self) -> Array:
        """(problems, figures) mean over seeds."""
        return self.values.mean(0)

    @property
    def of_seeds(self) -> Array | None:
        """(seeds, figures) mean over problems; None where there is one seed."""
        return self.values.mean(1) if len(self.values) > 1 else None

    def __sub__(self, other: Figures) -> Figures:
        return Figures(self.values - other.values)

    def __add__(self, other: Figures) -> Figures:
        return Figures(self.values + other.values)

    def half(self) -> Figures:
        return Figures(self.values / 2)

    def average(self) -> Figures:
        """The mean over figures, as one figure."""
        return Figures(self.values.mean(2, keepdims=True))

    def at(self, figure: int) -> Figures:
        return Figures(self.values[..., [figure]])


def side_by_side(figures: Sequence[Figures]) -> Figures:
    """Figures of several arms as columns of one table."""
    seeds = max(len(part.values) for part in figures)
    return Figures(np.concatenate([np.repeat(p.values, seeds // len(p.values), 0) for p in figures], 2))


def arm_figures(
    arrays: CandidateArrays,
    name: str,
    strategy: str,
    model: str | None,
    budgets: Sequence[int],
    draws: int = DRAWS,
    seed: int = 0,
) -> Figures:
    """`arm_values` as figures.

    Raises:
        ValueError: the arm has no such numbers.
    """
    values = arm_values(arrays, name, strategy, model, budgets, draws, seed)
    if values is None:
        what = f"reward model {model!r}" if model else f"strategy {strategy!r}"
        raise ValueError(f"{what} has no numbers for all of {name!r}; score its candidates")
    return Figures(values.accuracy[None] if values.by_seed is None else values.by_seed)


def compared(
    difference: Figures, null: float = 0.0, tests: int = 1, replicates: int = REPLICATES, seed: int = 0
) -> un.Difference:
    """Interval, p-value and detectable effect of differences that may have several training seeds."""
    table = difference.of_problems
    return un.paired_difference(
        table,
        np.zeros_like(table),
        null=null,
        tests=tests,
        replicates=replicates,
        seed=seed,
        of_seeds=difference.of_seeds,
    )


def equal_folds(n_problems: int, folds: int = 5, seed: int = 0) -> Array:
    """(problems,) fold of each problem, of nearly equal sizes; fewer folds where there are fewer problems.

    For choices made and judged within one analysis. Reward models are trained on `problems.folds.fold_of`, which keeps
    a problem in its fold when others are added.

    Raises:
        ValueError: a single problem cannot be held out.
    """
    if n_problems < 2:
        raise ValueError("holding problems out needs at least 2: one to choose on and one to judge on")
    return np.random.default_rng(seed).permutation(n_problems) % min(folds, n_problems)


def best_on_other_folds(arms: Mapping[str, Figures], fold: Array) -> tuple[Figures, list[list[str]]]:
    """At every figure the arm that does best on the problems of all other folds.

    Args:
        arms: by name, all with the same problems and figures (budgets).
        fold: (problems,) as `equal_folds` gives them.

    Returns:
        Figures of the chosen arms, each problem judged by a choice made without it, and the names per fold and figure.
    """
    names = list(arms)
    seeds = max(len(arm.values) for arm in arms.values())
    every = np.stack([np.repeat(arm.values, seeds // len(arm.values), 0) for arm in arms.values()])
    result, chosen = np.empty(every.shape[1:]), []
    for part in np.unique(fold):
        inside = fold != part
        best = every[:, :, inside].mean((1, 2)).argmax(0)  # (figures,)
        chosen.append([names[b] for b in best])
        for figure, b in enumerate(best):
            result[:, ~inside, figure] = every[b][:, ~inside, figure]
    return Figures(result), chosen
