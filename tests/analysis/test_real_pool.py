"""The whole analysis on real completions, a small sample of them; `-s` prints the figures."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from bestofl_lib.analysis.arrays import CandidateArrays
from bestofl_lib.analysis.claims import claims_of
from bestofl_lib.analysis.complementarity import gain_over_resampling, shapley, sole_solvers
from bestofl_lib.analysis.curves import curves
from bestofl_lib.analysis.planner import plans

DATA = Path(__file__).resolve().parents[1] / "data"
FILE = DATA / "pools" / "s1_mgsm_sample.parquet"


@pytest.fixture(scope="module")
def arrays() -> CandidateArrays:
    pools = pytest.importorskip("bestofl_lib.candidates.pools")
    from bestofl_lib.answers.columns import read_answers
    from bestofl_lib.problems.load import load

    problems = load("mgsm", folder=DATA / "mgsm", revised=DATA / "mgsm_rev2_replaced.json", limit=10)
    found = pools.read_pool(FILE, model="32B", axis="question", problems=problems)
    return CandidateArrays.of(found.candidates, read_answers(found.candidates, found.problems), problems=found.problems)


def test_a_real_pool_without_reward_models_gives_every_table(arrays):
    assert len(arrays.languages) == 11
    with pl.Config(tbl_rows=80, tbl_cols=20, tbl_width_chars=220, fmt_str_lengths=900):
        gains = gain_over_resampling(arrays, budgets=[2, 4])
        print(gains.drop("base", "added", "p").with_columns(pl.selectors.float().round(4)))
        found = claims_of(arrays)
        judged = found.claims.filter(pl.col("high_resource").is_null() | (pl.col("high_resource") == "fixed"))
        print(*judged["sentence"], sep="\n")
        print(found.details.drop("reward_model", "n_problems"))
        table = curves(arrays)
        print(table.filter(pl.col("budget").is_in([2, 4]) & pl.col("pool").is_in(["en", "mixed", "planned"])))
        print(shapley(arrays), sole_solvers(arrays).group_by("cause").agg(pl.col("problems").sum()))
        print(plans(arrays, [2, 4]).plan)
    assert table.select(pl.col("accuracy", "low", "high").is_finite().all()).row(0) == (True, True, True)
    assert gains["language"].n_unique() == 10
    assert set(judged["verdict"][:2]) == {"not tested"}
    assert "not tested" not in judged["verdict"][2:]
    assert (gains["coverage_again"] > 0.5).all()
