"""Training pairs: a correct and a wrong candidate of the same problem.

It knows keys and labels only; it does not look at texts or models.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import polars as pl

from bestofl_lib.languages import language as language_record

VARIANTS = ("mono", "multi", "cross")
CROSS_SHARES = ("natural", "equal")

PAIRS = pl.Schema(
    {
        "problem_id": pl.String,
        "chosen_language": pl.String,
        "chosen_index": pl.Int32,  # sample_index of a correct candidate
        "rejected_language": pl.String,
        "rejected_index": pl.Int32,  # sample_index of a wrong (or unreadable) one
    }
)


def reward_model_names(variants: Iterable[str], languages: Iterable[str]) -> list[str]:
    """Names of the models that variants stand for: "mono" is one model per language.

    >>> reward_model_names(["mono", "cross"], ["en", "sw"])
    ['mono-en', 'mono-sw', 'cross']

    Raises:
        ValueError: an unknown variant, naming those that exist.
    """
    names: list[str] = []
    known = list(languages)
    for variant in variants:
        if variant == "mono":
            names += [f"mono-{code}" for code in known]
        elif variant in ("multi", "cross"):
            names.append(variant)
        elif variant.startswith("mono-"):
            names.append(f"mono-{language_record(variant.removeprefix('mono-')).code}")
        else:
            raise ValueError(
                f"unknown reward model variant {variant!r}; use 'mono', 'multi', 'cross' or 'mono-<language>'"
            )
    return list(dict.fromkeys(names))


def by_cell(readings: pl.DataFrame) -> pl.DataFrame:
    """One row per problem and language, sorted: `right` and `wrong`, lists of sample_index in order.

    Pairs of a large table are drawn from this many times faster than from the table.
    """
    right = pl.col("is_correct")
    grouped = readings.sort("problem_id", "language", "sample_index").group_by(
        "problem_id", "language", maintain_order=True
    )
    return grouped.agg(
        right=pl.col("sample_index").filter(right).cast(pl.Int32),
        wrong=pl.col("sample_index").filter(~right).cast(pl.Int32),
    )


def available_pairs(readings: pl.DataFrame, name: str) -> int:
    """How many different rows the reward model `name` could be trained on; `readings` as for `training_pairs`.

    For "multi" the languages have equal shares, so the language with the fewest pairs decides (languages without a
    single pair are left out); for the others every pair counts.
    """
    sizes = [int(cells["size"].sum()) for cells in _strata(_cells(readings), name).values()]
    if name == "multi":
        return len(sizes) * min(sizes, default=0)
    return sum(sizes)


def training_pairs(
    readings: pl.DataFrame, name: str, rows: int, seed: int = 0, cross_shares: str = "natural"
) -> pl.DataFrame:
    """One row per training pair of the reward model `name`; no pair occurs twice.

    Pairs are spread over problems as evenly as their numbers of correct and wrong candidates allow. An unreadable
    answer is a wrong candidate.

    Args:
        readings: one row per training candidate, with is_correct; or `by_cell` of them.
        name: "mono-<language>": both candidates in that language. "multi": both in one language, all languages in equal
            shares. "cross": the two in different languages.
        rows: number of pairs.
        seed: of the draw.
        cross_shares: of the ordered pairs of languages in "cross". "natural": as many as their candidates make, so that
            the model also learns which language to trust; "equal": as far as they have pairs, so that no reward is
            earned by writing in the stronger language.

    Returns:
        (rows) of PAIRS, in random order.

    Raises:
        ValueError: fewer pairs exist than asked for, or shares of no known kind.
    """
    if cross_shares not in CROSS_SHARES:
        raise ValueError(f"unknown cross_shares {cross_shares!r}; use {' or '.join(map(repr, CROSS_SHARES))}")
    if rows < 1:
        raise ValueError(f"rows={rows}: a reward model needs at least one training pair")
    have = available_pairs(readings, name)
    if rows > have:
        raise ValueError(f"{name}: {rows} training pairs asked, {have} exist; lower rows or draw more candidates")
    cells = _cells(readings)
    strata = _strata(cells, name)
    rng = np.random.default_rng([seed, *name.encode()])
    codes = sorted(strata)
    sizes = np.array([int(strata[code]["size"].sum()) for code in codes])
    quotas = _in_proportion(sizes, rows) if name == "cross" and cross_shares == "natural" else _fill(sizes, rows, rng)
    found: list[tuple[str, str, int, str, int]] = []  # places in the lists of right and of wrong candidates
    for code, quota in zip(codes, quotas, strict=True):
        ids, n_wrong, size = (strata[code][name] for name in ("problem_id", "n_wrong", "size"))
        takes = _fill(size.to_numpy(), int(quota), rng)
        for cell in np.flatnonzero(takes).tolist():
            for place in rng.choice(size[cell], size=int(takes[cell]), replace=False):
                i, j = divmod(int(place), n_wrong[cell])
                found.append((ids[cell], code[0], i, code[1], j))
    table = pl.DataFrame(found, schema=PAIRS, orient="row")
    for side, kind in (("chosen", "right"), ("rejected", "wrong")):
        lists = cells.select("problem_id", pl.col("language").alias(f"{side}_language"), kind)
        table = table.join(lists, on=["problem_id", f"{side}_language"], how="left", maintain_order="left")
        table = table.with_columns(pl.col(kind).list.get(pl.col(f"{side}_index")).alias(f"{side}_index")).drop(kind)
    return table[rng.permutation(table.height)]


def _cells(readings: pl.DataFrame) -> pl.DataFrame:
    return readings if "right" in readings.columns else by_cell(readings)


def _strata(cells: pl.DataFrame, name: str) -> dict[tuple[str, str], pl.DataFrame]:
    """(chosen language, rejected language) -> one row per problem that has such pairs: n_right, n_wrong, size."""
    right, wrong = (
        cells.select("problem_id", "language", pl.col(side).list.len().cast(pl.Int64).alias(f"n_{side}")).filter(
            pl.col(f"n_{side}") > 0
        )
        for side in ("right", "wrong")
    )
    if name.startswith("mono-"):
        code = name.removeprefix("mono-")
        right, wrong = right.filter(pl.col("language") == code), wrong.filter(pl.col("language") == code)
    joined = right.join(wrong, on="problem_id", suffix="_wrong", maintain_order="left")
    same = pl.col("language") == pl.col("language_wrong")
    joined = joined.filter(~same if name == "cross" else same).with_columns(size=pl.col("n_right") * pl.col("n_wrong"))
    return {
        (str(a), str(b)): part
        for (a, b), part in joined.partition_by("language", "language_wrong", as_dict=True, maintain_order=True).items()
    }


def _fill(sizes: np.ndarray, total: int, rng: np.random.Generator) -> np.ndarray:
    """Spread total over bins as evenly as their sizes allow; what does not divide falls to random bins.

    >>> _fill(np.array([1, 5, 5]), 7, np.random.default_rng(0)).tolist()
    [1, 3, 3]
    """
    taken = np.zeros(len(sizes), dtype=np.int64)
    left = int(min(total, sizes.sum()))
    while left:
        open_bins = np.flatnonzero(taken < sizes)
        share = left // len(open_bins)
        if share == 0:
            taken[rng.choice(open_bins, size=left, replace=False)] += 1
            break
        step = np.minimum(sizes[open_bins] - taken[open_bins], share)
        taken[open_bins] += step
        left -= int(step.sum())
    return taken


def _in_proportion(sizes: np.ndarray, total: int) -> np.ndarray:
    """Spread total over bins in proportion to their sizes; what does not divide goes to the largest remainders.

    >>> _in_proportion(np.array([1, 5, 5]), 4).tolist()
    [0, 2, 2]
    """
    exact = sizes * total / sizes.sum()
    taken = np.floor(exact).astype(np.int64)
    taken[np.argsort(taken - exact, kind="stable")[: total - taken.sum()]] += 1
    return taken
