from __future__ import annotations

import numpy as np
import polars as pl
import pytest

from bestofl_lib.analysis.claims import CLAIM_SCHEMA, claim_details, claims


def verdicts(pool, **settings):
    table = claims(pool, replicates=2000, draws=60, **settings)
    return dict(table.select("claim", "verdict").iter_rows()), table


@pytest.fixture(scope="module")
def true_pool(make_pool):
    """Languages succeed on different problems and the cross-lingual reward can tell."""
    rng = np.random.default_rng(1)
    rates = {code: np.where(rng.random(200) < 0.6, 0.9, 0.03) for code in ("en", "de", "sw", "th")}
    return make_pool(n_problems=200, n=4, rates=rates, quality={"mono": 0.5, "cross": 3})


@pytest.fixture(scope="module")
def false_pool(make_pool):
    """Other languages succeed only where English does, less often, and the cross-lingual reward is blind."""
    rng = np.random.default_rng(2)
    english = np.where(rng.random(200) < 0.7, 0.75, 0.1)
    rates = {"en": english, "de": 0.75 * english, "sw": 0.3 * english, "th": 0.3 * english}
    return make_pool(n_problems=200, n=4, rates=rates, quality={"mono": 3, "cross": 0})


def test_claims_that_are_true_of_a_pool_are_supported(true_pool):
    got, table = verdicts(true_pool)
    assert got == dict.fromkeys(["H1", "H2", "H3", "H4"], "supported")
    assert (table["low"] > 0).all()
    assert table["sentence"].str.ends_with("Supported.").all()


def test_claims_that_are_false_of_a_pool_are_not_supported(false_pool):
    got, table = verdicts(false_pool)
    assert got == dict.fromkeys(["H1", "H2", "H3", "H4"], "not supported")
    assert (table["effect"] < 0).all()
    assert table["sentence"].str.contains("Not supported: a gain of 1 point is ruled out", literal=True).all()


def test_too_few_problems_leave_a_claim_undecided_and_say_what_would_be_found(make_pool):
    same = np.full(12, 0.5)
    rates = dict.fromkeys(("en", "de", "sw", "th"), same)
    pool = make_pool(n_problems=12, rates=rates, quality={"mono": 1, "cross": 1})
    got, table = verdicts(pool)
    assert got["H4"] == "undecided"
    assert table["mde"][3] > 0.05
    assert "with 80 % power" in table["sentence"][3]


def test_a_pool_without_reward_models_tests_what_it_can(make_pool):
    got, table = verdicts(make_pool(n_problems=30))
    assert got["H1"] == got["H2"] == "not tested"
    assert "not tested" not in (got["H3"], got["H4"])
    assert "no rewards by 'cross' and 'mono'" in table["sentence"][0]
    assert table["effect"][0] is None
    assert table["strategy"][2] == "majority"


@pytest.mark.parametrize(
    ("settings", "untested", "why"),
    [
        ({"languages": ("en",)}, "H1 H2 H3 H4", "one language only (en)"),
        ({"languages": ("th", "sw")}, "H2 H3 H4", "no English candidates"),
        ({"n": 1}, "H3 H4", "1 candidate"),
        ({"n_problems": 1}, "", ""),
        ({"rates": {"sw": np.zeros(10)}}, "", ""),
        ({"n": {"en": [5, 3, 4, 6, 2, 2, 2, 2, 2, 2], "de": [1] * 10, "sw": [2] * 10, "th": [4] * 10}}, "", ""),
    ],
    ids=["one language", "no English", "one candidate", "one problem", "never correct", "unequal"],
)
def test_thin_pools_get_a_verdict_or_a_reason(make_pool, settings, untested, why):
    got, table = verdicts(make_pool(**({"n_problems": 10} | settings), quality={"mono": 1, "cross": 1}))
    assert {claim for claim, verdict in got.items() if verdict == "not tested"} == set(untested.split())
    assert why in " ".join(table["sentence"])
    for column in table.select(pl.selectors.float()).columns:
        assert table[column].drop_nulls().is_finite().all()
    assert table.schema == CLAIM_SCHEMA


def test_break_even_is_stated_in_completions_and_tokens(make_pool):
    """A mixed pool whose languages solve half of the problems each beats English early and loses late."""
    rng = np.random.default_rng(3)
    easy = rng.random(150) < 0.5
    rates = {"en": np.full(150, 0.45), "th": np.where(easy, 0.95, 0.0)}
    pool = make_pool(languages=("en", "th"), n_problems=150, rates=rates, n=8, quality={"mono": 8, "cross": 8})
    row = claims(pool, replicates=1000, draws=40).row(2, named=True)
    assert 1 < row["break_even"] < 8
    assert row["break_even_low"] is None or row["break_even_low"] <= row["break_even"]
    assert row["break_even_tokens"] == pytest.approx(60 * row["break_even"], rel=0.1)
    assert "stays ahead up to" in row["sentence"]


def test_details_stand_behind_the_headline(true_pool):
    table = claims(true_pool, replicates=500, draws=40)
    details = claim_details(true_pool, replicates=500, draws=40)
    first = details.filter(pl.col("claim") == "H1")
    assert first["language"].to_list() == list(true_pool.languages)
    assert first["effect"].mean() == pytest.approx(table["effect"][0])
    fourth = details.filter(pl.col("claim") == "H4")
    assert fourth["effect"].mean() == pytest.approx(table["effect"][3])
    assert set(details.filter(pl.col("claim") == "H2")["language"]) == {"en", "de"}
    assert (details["p_holm"] >= details["p"] - 1e-12).all()


def test_the_smallest_gain_moves_the_verdict(make_pool):
    pool = make_pool(n_problems=12, rates=dict.fromkeys(("en", "de", "sw", "th"), np.full(12, 0.5)))
    assert verdicts(pool)[0]["H4"] == "undecided"
    assert verdicts(pool, smallest_gain=0.9)[0]["H4"] == "not supported"
