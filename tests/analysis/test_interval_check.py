"""The simulation behind `make coverage`, small."""

from __future__ import annotations

import numpy as np
import polars as pl
import pytest
from scipy.stats import poisson

from bestofl_lib.analysis import interval_check
from bestofl_lib.analysis.interval_check import as_markdown, check

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def table() -> pl.DataFrame:
    return check(accuracies=(0.5, 0.98), problems=(50,), studies=120, replicates=400)


def test_intervals_cover_at_half_and_near_the_ceiling_and_true_nulls_stand(table):
    noise = 2 * (0.95 * 0.05 / 120) ** 0.5
    assert table["covered"].min() >= 0.93 - noise
    assert table["rejected"].max() <= 0.06 + noise


def test_every_kind_of_figure_is_looked_at(table):
    figures = set(table["figure"])
    assert {"best of 4", "H1 reward effect (null)", "H4 gain of a language", "Shapley value"} <= figures
    assert {"H3 best mix against alone", "break-even budget", "mean over 3 training seeds"} <= figures
    assert len(table) == 2 * len(figures)


def test_an_interval_that_is_too_narrow_would_be_seen(monkeypatch):
    honest = interval_check.un.mean_interval

    def narrow(values, **settings):
        found = honest(values, **settings)
        return found._replace(low=(found.low + found.estimate) / 2, high=(found.high + found.estimate) / 2)

    monkeypatch.setattr(interval_check.un, "mean_interval", narrow)
    found = check(accuracies=(0.5,), problems=(50,), studies=120, replicates=400)
    assert found.filter(pl.col("figure") == "best of 4")["covered"][0] < 0.85


def test_what_the_page_says_of_few_differing_problems_is_true():
    def rejected(least: int, mean: float) -> float:  # all of `least` or more that differ favour one side
        n = np.arange(least, 200)
        return float((poisson.pmf(n, mean) * 2 * 0.5**n).sum())

    assert max(rejected(3, mean) for mean in np.arange(0.1, 20, 0.1)) == pytest.approx(0.089, abs=5e-4)
    assert rejected(4, 1.7) < 0.01 < rejected(4, 1.8)


def test_the_page_says_how_it_was_made_and_holds_every_row(table):
    page = as_markdown(table, 400)
    assert "make coverage" in page
    assert page.count("\n| 0.") == len(table)
