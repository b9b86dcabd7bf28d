from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import polars as pl
import pytest

from bestofl_lib.analysis import decomposition
from bestofl_lib.analysis.arrays import CandidateArrays
from bestofl_lib.analysis.claims import claims_of
from bestofl_lib.analysis.complementarity import gain_over_resampling
from bestofl_lib.analysis.verdicts import verdict_of
from bestofl_lib.tables import SCHEMAS


def verdicts(arrays, **settings):
    """Headline verdicts, and the rows behind them."""
    table = claims_of(arrays, replicates=2000, draws=60, **settings).claims
    table = table.filter(
        (pl.col("part") == "total") & (pl.col("high_resource").is_null() | (pl.col("high_resource") == "fixed"))
    )
    return dict(table.select("claim", "verdict").iter_rows()), table


@pytest.fixture(scope="module")
def true_pool(make_arrays):
    """Languages succeed on different problems and the cross-lingual reward can tell."""
    rng = np.random.default_rng(1)
    rates = {code: np.where(rng.random(200) < 0.6, 0.9, 0.03) for code in ("en", "de", "sw", "th")}
    return make_arrays(n_problems=200, n=4, rates=rates, quality={"mono": 0.5, "cross": 3})


@pytest.fixture(scope="module")
def false_pool(make_arrays):
    """Other languages succeed only where English does, less often, and the cross-lingual reward is blind."""
    rng = np.random.default_rng(2)
    english = np.where(rng.random(200) < 0.7, 0.75, 0.1)
    rates = {"en": english, "de": 0.75 * english, "sw": 0.3 * english, "th": 0.3 * english}
    return make_arrays(n_problems=200, n=4, rates=rates, quality={"mono": 3, "cross": 0})


def test_claims_that_are_true_of_a_pool_are_supported(true_pool):
    got, table = verdicts(true_pool)
    assert got == dict.fromkeys(["H1", "H2", "H3", "H4"], "supported")
    assert (table["low"] > 0).all()
    assert table["sentence"].str.ends_with("Supported.").all()


def test_claims_that_are_false_of_a_pool_are_not_supported(false_pool):
    got, table = verdicts(false_pool)
    assert "supported" not in got.values()
    assert got["H1"] == got["H2"] == "not supported"
    assert (table["effect"] <= 0).all()
    assert table["sentence"][0].endswith("Not supported: this is a loss.")


def test_too_few_problems_leave_a_claim_undecided_and_say_what_would_be_found(make_arrays):
    same = np.full(12, 0.5)
    rates = dict.fromkeys(("en", "de", "sw", "th"), same)
    arrays = make_arrays(n_problems=12, rates=rates, quality={"mono": 1, "cross": 1})
    got, table = verdicts(arrays)
    assert got["H1"] in ("undecided", "no room")
    assert table["mde"][3] > 0.05
    assert "with 80 % power" in table["sentence"][3]


def test_a_pool_without_reward_models_tests_what_it_can(make_arrays):
    got, table = verdicts(make_arrays(n_problems=30))
    assert got["H1"] == got["H2"] == "not tested"
    assert "not tested" not in (got["H3"], got["H4"])
    assert "no rewards by 'cross' and 'mono'" in table["sentence"][0]
    assert table["effect"][0] is None
    assert table["strategy"][2] == "majority"


@pytest.mark.parametrize(
    ("settings", "untested", "why"),
    [
        ({"languages": ("en",)}, "H1 H2 H3 H4", "one language only (en)"),
        ({"languages": ("th", "sw")}, "H2", "none of the pool's languages is a high-resource language"),
        ({"n": 1}, "H3 H4", "1 candidate"),
        ({"n_problems": 1}, "H1 H2 H3 H4", "one problem only"),
        ({"rates": {"sw": np.zeros(10)}}, "", ""),
        ({"n": {"en": [5, 3, 4, 6, 2, 2, 2, 2, 2, 2], "de": [1] * 10, "sw": [2] * 10, "th": [4] * 10}}, "", ""),
    ],
    ids=["one language", "no English", "one candidate", "one problem", "never correct", "unequal"],
)
def test_thin_pools_get_a_verdict_or_a_reason(make_arrays, settings, untested, why):
    got, table = verdicts(make_arrays(**({"n_problems": 10} | settings), quality={"mono": 1, "cross": 1}))
    assert {claim for claim, verdict in got.items() if verdict == "not tested"} == set(untested.split())
    assert why in " ".join(table["sentence"])
    for column in table.select(pl.selectors.float()).columns:
        assert table[column].drop_nulls().is_finite().all()
    assert table.schema == SCHEMAS["claims"]


def test_break_even_is_stated_in_completions_and_tokens(make_arrays):
    """A mixed pool whose languages solve half of the problems each beats English early and loses late."""
    rng = np.random.default_rng(3)
    easy = rng.random(150) < 0.5
    rates = {"en": np.full(150, 0.45), "th": np.where(easy, 0.95, 0.0)}
    arrays = make_arrays(languages=("en", "th"), n_problems=150, rates=rates, n=8, quality={"mono": 8, "cross": 8})
    row = verdicts(arrays)[1].row(2, named=True)
    assert 2 < row["break_even"] < 8
    assert row["break_even_low"] is None or row["break_even_low"] <= row["break_even"]
    assert row["break_even_tokens"] == pytest.approx(60 * row["break_even"], rel=0.1)
    assert "stays ahead up to" in row["sentence"]


def test_details_stand_behind_the_headline_and_one_comparison_has_one_verdict(true_pool):
    found = claims_of(true_pool, replicates=500, draws=40)
    for part in ("total", "pool", "reward"):
        rows = found.details.filter((pl.col("claim") == "H1") & (pl.col("part") == part))
        head = found.claims.filter((pl.col("claim") == "H1") & (pl.col("part") == part))
        assert rows["language"].to_list() == list(true_pool.languages)
        assert rows["effect"].mean() == pytest.approx(head["effect"][0], abs=1e-12)
        second = found.claims.filter((pl.col("claim") == "H2") & (pl.col("part") == part))
        for reading in ("fixed", "strongest"):
            row = second.filter(pl.col("high_resource") == reading).row(0, named=True)
            counted = rows.filter(pl.col("high_resource").str.contains(reading))
            weakest = counted.filter(pl.col("language") == row["language"]).row(0, named=True)
            assert row["effect"] == weakest["effect"] and row["p"] == counted["p"].max()
    assert not len(found.details.filter(pl.col("claim") == "H2")), "H2 looks at the comparisons of H1"
    assert (found.details["p_holm"] >= found.details["p"] - 1e-12).all()


def test_h2_is_lost_by_a_single_high_resource_language(make_arrays):
    rng = np.random.default_rng(1)
    rates = {code: np.where(rng.random(200) < 0.6, 0.9, 0.03) for code in ("en", "sw", "th")}
    rates["de"] = np.full(200, 0.97)
    arrays = make_arrays(n_problems=200, n=4, rates=rates, quality={"mono": 0.5, "cross": 0.7})
    got, table = verdicts(arrays)
    assert got["H1"] == "supported" and got["H2"] == "not supported"
    row = table.filter(pl.col("claim") == "H2").row(0, named=True)
    assert (row["language"], row["losing"]) == ("de", "de")
    assert "German loses" in row["sentence"]


def test_the_verdict_follows_its_rule_and_the_smallest_gain_moves_it():
    told = {"p": 0.5, "p_gain": 0.5, "room": 0.5, "mde": 0.05, "smallest_gain": 0.01}
    assert verdict_of(0.02, **told | {"p": 0.01}) == "supported"
    assert verdict_of(-0.02, **told | {"p": 0.01}) == "not supported"
    assert verdict_of(0.0, **told | {"p_gain": 0.01}) == "not supported"
    assert verdict_of(0.0, **told | {"p_gain": 0.01, "room": 0.04}) == "no room"
    assert verdict_of(0.0, **told) == "undecided"
    assert verdict_of(0.02, **told | {"p_gain": 0.01}) == "undecided", "the gain is larger than the smallest"
    assert verdict_of(0.02, **told | {"p_gain": 0.01, "smallest_gain": 0.03}) == "not supported"


def test_near_the_ceiling_there_is_no_room(make_arrays):
    rates = dict.fromkeys(("en", "de", "sw", "th"), np.full(60, 0.995))
    got, table = verdicts(make_arrays(n_problems=60, rates=rates, quality={"mono": 1, "cross": 1}))
    assert set(got.values()) == {"no room"}
    assert table["sentence"].str.contains("No room: even a perfect arm").all()


def simulated(make_arrays, pool_effect: bool, reward_effect: bool):
    """English solves little unless the pool has an effect; cross tells right from wrong better if rewards have one."""
    rng = np.random.default_rng(5)
    part = rng.random(240) < 0.5
    low, high = np.where(part, 0.85, 0.15), np.where(part, 0.15, 0.85)
    rates = {"en": low, "de": high if pool_effect else low}
    return make_arrays(
        languages=("en", "de"),
        n_problems=240,
        n=4,
        rates=rates,
        quality={"mono": 1.5, "cross": 4.0 if reward_effect else 1.5},
        seed=3,
    )


@pytest.mark.parametrize("pool_effect", [False, True])
@pytest.mark.parametrize("reward_effect", [False, True])
def test_a_pool_effect_and_a_reward_effect_are_told_apart(make_arrays, pool_effect, reward_effect):
    found = claims_of(simulated(make_arrays, pool_effect, reward_effect), replicates=2000, draws=20).claims
    got = dict(found.filter(pl.col("claim") == "H1").select("part", "verdict").iter_rows())
    assert (got["pool"] == "supported") == pool_effect
    assert (got["reward"] == "supported") == reward_effect
    assert (got["total"] == "supported") == (pool_effect or reward_effect)


def test_pool_effect_and_reward_effect_add_up_to_the_total_for_every_problem(true_pool):
    cells = decomposition.cells_of(true_pool, true_pool.languages, 3)
    parts = {part: (a - b).of_problems for part in decomposition.PARTS for a, b in [cells.pair(part)]}
    assert np.abs(parts["pool"] + parts["reward"] - parts["total"]).max() < 1e-12


def test_what_bounds_a_verdict_names_the_training_data(true_pool):
    trained = pl.DataFrame(
        {
            "reward_model": ["cross", "mono-en", "mono-de", "multi"],
            "rows": [900, 900, 900, 900],
            "n_candidates": [438, 260, 300, 50],
            "n_problems": [60, 55, 58, 2],
        }
    )
    row = claims_of(true_pool, replicates=500, draws=20, trained=trained).claims.row(0, named=True)
    assert "900 rows, 260 to 438 distinct candidates of 55 to 60 problems" in row["bounded_by"]
    assert "200 problems with 4 candidates" in row["bounded_by"]
    assert "fitted by cross-fitting over the same problems: an offset between languages belongs to" in row["bounded_by"]
    assert "vote over the mixed pool" in row["not_evidence_for"]
    old = trained.with_columns(n_candidates=pl.lit(None, pl.Int64))  # a baseline's table from before they were counted
    assert "not recorded" in claims_of(true_pool, replicates=200, draws=4, trained=old).claims["bounded_by"][0]


def test_the_gains_of_h4_are_the_same_wherever_they_stand(make_arrays):
    arrays = make_arrays(languages=("en", "de", "th"), n_problems=40, n=4)
    found = claims_of(arrays)
    details = found.details.filter(pl.col("claim") == "H4")
    gains = gain_over_resampling(arrays).filter(pl.col("budget") == details["budget"][0])
    assert details["language"].to_list() == gains["language"].to_list()
    for one, other in (("effect", "gain"), ("low", "low"), ("high", "high"), ("p_holm", "p_holm"), ("mde", "mde")):
        assert details[one].to_list() == gains[other].to_list()
    assert details["verdict"].to_list() == gains["verdict"].to_list()


def reworded(tables: dict, chances: dict[str, float], n: int = 4, seed: int = 5) -> dict:
    """The tables with English candidates in other wordings: each solves its own half of the problems or the usual."""
    rng, rows = np.random.default_rng(seed), []
    for place, (name, chance) in enumerate(chances.items(), 1):
        for p in range(tables["problems"]["problem_id"].n_unique()):
            for i in range(n):
                right = bool(rng.random() < (chance if p % len(chances) == place - 1 else 0.05))
                rows.append((f"p{p:03}", "en", 100_000 * place + i, name, right))
    more = pl.DataFrame(
        rows, ["problem_id", "language", "sample_index", "condition", "is_correct"], orient="row"
    ).cast({"sample_index": pl.Int32})  # fmt: skip
    answers = more.select("problem_id", "language", "sample_index", "is_correct").with_columns(
        answer=pl.when("is_correct").then(pl.lit("0")).otherwise(pl.lit("7")), note=pl.lit(""), false_equations=0
    )
    plain = tables["candidates"].with_columns(condition=pl.lit(None, pl.String))
    candidates = pl.concat([plain, more.drop("is_correct")], how="diagonal_relaxed")
    readings = pl.concat([tables["readings"], answers], how="diagonal_relaxed")
    return tables | {"candidates": candidates, "readings": readings}


def test_a_verdict_says_what_its_controls_were_fitted_on(true_pool):
    without_rewards = replace(true_pool.subset(np.arange(40)), rewards={})
    for outside, told in (
        (true_pool.subset(np.arange(30)), "controls fitted on 30 other problems, which are not judged"),
        (without_rewards, "language prior fitted on 40 other problems, which are not judged; language intercepts and"),
    ):
        table = claims_of(true_pool, replicates=200, draws=4, outside=outside).claims
        assert all(told in text for text in table.filter(claim="H1")["bounded_by"])
        assert not any("fitted on" in text for text in table.filter(pl.col("claim") != "H1")["bounded_by"].drop_nulls())


def test_wordings_of_the_base_are_the_second_control_of_h4_and_change_no_other_figure(make_tables):
    plain = make_tables(languages=("en", "de", "th"), n_problems=40, n=4)
    tables = reworded(plain, {"wording 2": 0.9, "wording 3": 0.9})
    order = ("candidates", "readings", "rewards", "problems")
    with_them = CandidateArrays.of(*(tables[name] for name in order))
    found, before = claims_of(with_them), claims_of(CandidateArrays.of(*(plain[name] for name in order)))
    rows = found.details.filter(pl.col("part") == "wordings")
    assert found.details.filter(pl.col("part") != "wordings").equals(before.details)
    assert rows["arm"].to_list() == ["en, 3 wordings", "planned"]
    assert rows["against"].to_list() == ["en again", "en, 3 wordings"]
    budget, worded = rows["budget"][0], [with_them.is_correct["en"], *with_them.wordings["en"].values()]
    want = []
    for p in range(40):  # enumeration: which wordings give one more, and which candidates each gives
        alone = np.mean([np.mean([max(s) for s in combinations(table[p], budget)]) for table in worded])
        shares = [
            [k for k in product(range(budget + 1), repeat=3) if sum(k) == budget and max(k) - min(k) <= 1]
        ][0]  # fmt: skip
        spread = [
            np.mean([max((*a, *b, *c)) for a in combinations(worded[0][p], k[0]) for b in combinations(worded[1][p], k[1])
                     for c in combinations(worded[2][p], k[2])])
            for k in shares
        ]  # fmt: skip
        want.append(np.mean(spread) - alone)
    assert rows["effect"][0] == pytest.approx(np.mean(want), abs=1e-12)
    fourth = found.claims.filter(pl.col("claim") == "H4").row(0, named=True)
    assert "English asked in 3 wordings covers" in fourth["sentence"]
    assert with_them.subset(np.arange(5)).wordings["en"]["wording 2"].shape == (5, 4)
