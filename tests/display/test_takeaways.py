"""The sentences behind charts say what their tables hold."""

from __future__ import annotations

import polars as pl

from bestofl_lib.analysis.reward_choices import reward_bias
from bestofl_lib.candidates.sampling import allocation_of
from bestofl_lib.display import takeaways
from bestofl_lib.study.plan import declared_parameters, load_study
from bestofl_lib.tables import SCHEMAS


def said(markdown) -> str:
    text = markdown.data
    assert "nan" not in text.lower()
    assert "None" not in text
    return text


def accuracy_rows(**changes) -> pl.DataFrame:
    columns = {
        "language": ["en", "sw", "te"], "accuracy": [0.7, 0.3, 0.5], "low": [0.65, 0.25, 0.45], "high": [0.75, 0.35, 0.55],
        "unreadable": [0.0, 0.01, 0.05], "cut": [None, None, None], "n_candidates": [100, 100, 200], "n_problems": [250] * 3,
        "accuracy_unrevised": [0.71, 0.28, 0.53], "n_unrevised": [121] * 3,
    }  # fmt: skip
    return pl.DataFrame(columns | changes, schema_overrides={"cut": pl.Float64, "accuracy_unrevised": pl.Float64})


def test_accuracy_names_the_ends_the_unread_and_the_largest_change_either_way():
    text = said(takeaways.accuracy(accuracy_rows()))
    assert "70.0 % (95 % interval 65.0 % to 75.0 %) of 250 problems in English" in text
    assert "30.0 % (95 % interval 25.0 % to 35.0 %) in Swahili" in text
    assert "2.8 % could not be read, most in Telugu (5.0 %)" in text
    assert "cut off" not in text
    assert "changes most in Telugu: by +3.0 points" in text
    down = said(takeaways.accuracy(accuracy_rows(accuracy_unrevised=[0.71, 0.2, 0.53])))
    assert "changes most in Swahili: by −10.0 points" in down


def test_accuracy_leaves_out_what_is_not_known():
    text = said(takeaways.accuracy(accuracy_rows(n_unrevised=[0] * 3, unreadable=[0.0] * 3, cut=[0.0, 0.02, 0.0])))
    assert "could not be read." in text and "revised" not in text
    assert "Up to 2.0 % were cut off at the longest length (Swahili)" in text


def test_accuracy_says_which_languages_are_read_by_generic_rules_and_what_adds_their_words():
    text = said(takeaways.accuracy(accuracy_rows(language=["en", "yo", "am"])))
    assert "Yoruba, Amharic" in text
    assert "English." not in text.partition("generic")[2]
    assert "language file" in text
    assert "generic" not in said(takeaways.accuracy(accuracy_rows()))


def test_readers_name_the_gap_and_the_largest_difference():
    table = pl.DataFrame(
        [("en", "ours", 0.9), ("sw", "ours", 0.6), ("en", "after_cue", 0.4), ("sw", "after_cue", 0.5)],
        schema=["language", "reader", "accuracy"],
        orient="row",
    )
    text = said(takeaways.readers(table))
    assert "30.0 points by ours; 10.0 points by after cue" in text
    assert "in English: 40.0 % by after cue, 90.0 % here" in text


def test_reward_quality_is_a_mean_over_languages_without_their_total():
    rows = [("mono-en", "en", 0.8), ("mono-en", None, 0.8), ("mono-sw", "sw", 0.6), ("mono-sw", None, 0.6)]
    rows += [("cross", "en", 0.9), ("cross", "sw", 0.7), ("cross", None, 0.1)]
    text = said(takeaways.reward_quality(pl.DataFrame(rows, schema=["reward_model", "language", "auc"], orient="row")))
    assert "cross 0.800 (0.70 to 0.90 over 2 languages); mono 0.700 (0.60 to 0.80 over 2 languages)" in text


def test_gains_count_only_what_is_significant_at_the_largest_budget():
    table = pl.DataFrame(
        {
            "language": ["sw", "te", "th", "sw"], "budget": [8, 8, 8, 2], "gain": [0.05, 0.04, -0.03, 0.5],
            "p_holm": [0.01, 0.2, 0.04, 0.001], "mde": [0.02, 0.03, 0.04, 0.9], "base": ["en"] * 4,
        }
    )  # fmt: skip
    text = said(takeaways.gains(table))
    assert "At 8 completions, 1 of 3 languages add more than drawing English again" in text
    assert "Swahili (+5.0 points)" in text and "Telugu" not in text
    assert "1 add significantly less" in text and "3.0 points would be found" in text
    assert "too few" in said(takeaways.gains(table.head(0)))


def test_exclusive_solves_stand_beside_a_second_draw():
    table = pl.DataFrame(
        {
            "language": ["en", "sw"],
            "other": ["sw", "en"],
            "exclusive": [40.0, 3.0],
            "exclusive_resampled": [5.0, 6.0],
            "n_problems": [250, 250],
        }
    )
    assert "English solves 40.0 of 250 problems that Swahili does not" in said(takeaways.exclusive(table))
    assert "a second draw of English itself solves 5.0" in said(takeaways.exclusive(table))
    alone = table.with_columns(exclusive_resampled=pl.lit(None, pl.Float64))
    assert said(takeaways.exclusive(alone)).endswith("of any pair.")
    assert "one language only" in said(takeaways.exclusive(table.head(0)))


def test_sole_solvers_are_shares_of_all_and_reading_is_a_bound(tables):
    parts = {"answer reading": 0.1, "revised question": 0.1, "resampling": 0.5, "left": 0.3}
    rows = [(code, cause, 6 * part, 4, 250) for code in ("en", "sw") for cause, part in parts.items()]
    table = pl.DataFrame(rows, schema=["language", "cause", "problems", "budget", "n_problems"], orient="row")
    text = said(takeaways.sole_solvers(table))
    assert "answer reading at most 10 %, revised question 10 %, resampling 50 %, left 30 %" in text
    assert "Explained by" in said(takeaways.sole_solvers(tables["sole_solvers"]))
    assert "No problem" in said(takeaways.sole_solvers(tables["sole_solvers"].with_columns(problems=pl.lit(0.0))))


def test_the_best_arm_is_named_in_words_at_the_budget_that_all_reach(tables):
    text = said(takeaways.curves(tables["budget_curves"]))
    assert text.startswith("At ") and "arms, so part of its lead is chance" in text
    assert "best_of_k" not in text and "logprob" not in text


def test_sources_of_an_interval_are_half_widths(tables):
    text = said(takeaways.interval_sources(tables["interval_sources"]))
    last = tables["interval_sources"].filter(pl.col("resampled") == "problems").row(-1, named=True)
    assert f"other problems would move the figure by ±{50 * (last['high'] - last['low']):.1f} points" in text
    assert "drawing again for the same problems by ±" in text and "mixed pool, best of k by cross reward" in text


def test_every_claim_leads_with_its_verdict(tables):
    lines = said(takeaways.claims(tables["claims"])).split("\n")
    assert len(lines) == tables["claims"].height
    assert all(
        f": {row['verdict']}." in line for line, row in zip(lines, tables["claims"].iter_rows(named=True), strict=True)
    )


def test_a_plan_is_set_beside_english_and_equal_shares():
    rows = [(2, "planned", "en 9", 0.1, None, None, None, 0.0), (8, "planned", "en 8", 0.696, None, None, None, 0.012)]
    rows += [
        (8, "en", "en 8", 0.69, 0.006, -0.02, 0.03, 0.0),
        (8, "mixed", "equal shares", 0.597, 0.099, 0.061, 0.136, 0.0),
    ]
    table = pl.DataFrame(
        rows,
        schema=["budget", "arm", "allocation", "accuracy", "gain", "gain_low", "gain_high", "regret"],
        orient="row",
    )
    text = said(
        takeaways.plan(
            table.with_columns(low=pl.col("accuracy") - 0.05, high=pl.col("accuracy") + 0.05, n_problems=pl.lit(250))
        )
    )
    assert text.startswith("With 8 completions the plan is en 8.")
    assert "+0.6 points over English only (95 % interval −2.0 to +3.0); +9.9 points over equal shares" in text
    assert text.endswith("It loses 1.2 points to hindsight.")


def test_the_line_to_paste_is_what_the_notebook_that_draws_takes(tables):
    text = said(takeaways.plan_to_paste(tables["allocation"]))
    parts = text.rpartition("-p allocation=")[2].split(",")
    given = allocation_of(parts, tables["allocation"]["language"].to_list())
    assert sum(given.values()) == tables["allocation"]["budget"].max()
    assert "allocation" in {parameter.name for parameter, _, _ in declared_parameters(load_study("mgsm"))}


TABLES = {
    "accuracy": "accuracy", "training": None, "reward_quality": "reward_quality", "exclusive": "exclusive", "gains": "gains",
    "sole_solvers": "sole_solvers", "claims": "claims", "curves": "curves", "interval_sources": "interval_sources", "plan": "plan",
    "readers": None, "reward_bias": "reward_bias", "reward_trials": "reward_trials", "plan_to_paste": "allocations", "levels": "accuracy_by_level",
    "steps_lost": None,
}  # fmt: skip


def test_no_sentence_stops_at_an_empty_table():
    sentences = {
        n
        for n, f in vars(takeaways).items()
        if not n.startswith("_") and getattr(f, "__module__", "") == takeaways.__name__
    }
    assert sentences - {"outcomes", "differing", "servers"} == set(TABLES)  # lists, and a table of what differs
    assert takeaways.servers([]).data == ""
    for name, table in TABLES.items():
        empty = SCHEMAS[table].to_frame() if table else pl.DataFrame()
        assert getattr(takeaways, name)(empty).data.count("nan") == 0


def test_the_strongest_bias_of_each_reward_model_is_named(small):
    bias = reward_bias(small.rewards(), small.read("readings"), small.candidates())
    models = bias["reward_model"].unique(maintain_order=True).to_list()[:2]
    text = takeaways.reward_bias(bias, models).data
    for model in models:
        sure = bias.filter((pl.col("reward_model") == model) & ((pl.col("low") > 0) | (pl.col("high") < 0)))
        assert f"{model} shows no bias" in text if sure.is_empty() else f"{model} has {sure.height} such" in text
