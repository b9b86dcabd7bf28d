"""Charts by their specification, drawn from tables that their real producers made: what they show, in which words."""

from __future__ import annotations

import itertools
import json

import polars as pl
import pytest
from producers import LANGUAGES, N_PROBLEMS

from bestofl_lib.display import charts, context, words
from bestofl_lib.display.charts.style import line_ends
from bestofl_lib.languages import english_name

NAMES = list(charts.__all__)


def spec_of(name, tables, **more):
    return getattr(charts, name)(tables[name], **more).to_dict()


def nodes(value):
    """Every mapping in a specification."""
    if isinstance(value, dict):
        yield value
        for inner in value.values():
            yield from nodes(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from nodes(inner)


def fields(spec):
    return {
        node["field"]
        for node in nodes({k: v for k, v in spec.items() if k != "datasets"})
        if isinstance(node.get("field"), str)
    }


def data(spec):
    """All rows of a chart, of all its panels."""
    return [row for rows in spec["datasets"].values() for row in rows]


@pytest.mark.parametrize("name", NAMES)
def test_every_chart_is_drawn_from_the_table_that_its_producer_makes(tables, name):
    spec = spec_of(name, tables)
    assert len(data(spec)) > 0 and spec["usermeta"]["name"] == name and spec["background"] == "transparent"
    assert sum(len(rows) for rows in spec["datasets"].values()) <= 5000


@pytest.mark.parametrize("name", NAMES)
def test_a_title_says_what_was_found_and_the_subtitle_what_was_asked_of_how_many(tables, name):
    title = spec_of(name, tables)["title"]
    assert not title["text"].endswith("?") and "?" in title["subtitle"] and not title["text"][0].islower()
    assert any(digit.isdigit() for digit in title["text"]) or name == "greedy_order"
    assert any(digit.isdigit() for digit in title["subtitle"])
    assert "None" not in title["text"] + title["subtitle"] and "nan" not in title["text"]


@pytest.mark.parametrize("name", NAMES)
def test_no_text_is_smaller_than_twelve_pixels(tables, name):
    spec = {k: v for k, v in spec_of(name, tables).items() if k != "datasets"}
    sizes = [v for node in nodes(spec) for k, v in node.items() if k.endswith("ontSize") and isinstance(v, int)]
    assert min(sizes) >= 12
    marks = [n["mark"] for n in nodes(spec) if isinstance(n.get("mark"), dict) and n["mark"].get("type") == "text"]
    assert all(mark.get("fontSize", 12) >= 12 for mark in marks)


@pytest.mark.parametrize("name", NAMES)
def test_every_chart_refuses_a_table_without_a_column_by_name(tables, name):
    table = tables[name]
    required = next(
        c
        for c in ("gain_low", "accuracy", "median", "auc", "effect", "exclusive", "rule", "n", "budget", "reward_model")
        if c in table.columns and (c != "gain_low" or "efficiency" not in table.columns)  # optional in `curves`
    )
    with pytest.raises(ValueError, match=f"this chart needs {required}; the table has "):
        getattr(charts, name)(table.drop(required))


@pytest.mark.parametrize("name", NAMES)
def test_an_empty_table_is_no_error_but_a_chart_that_says_why(tables, name):
    spec = getattr(charts, name)(tables[name].clear()).to_dict()
    (rows,) = spec["datasets"].values()
    assert len(rows) == 1 and rows[0]["reason"] in words.NOTHING_TO_DRAW.values()
    assert spec["title"]["text"] == "Nothing to show" and spec["usermeta"]["name"] == name


COUNTED = {"exclusive_solves", "reading_rules", "accuracy_by_reader", "trace_languages", "allocation", "selected_languages",
           "sole_solvers", "calibration"}  # fmt: skip


@pytest.mark.parametrize("name", [name for name in NAMES if name not in COUNTED])
def test_estimates_come_with_their_interval(tables, name):
    assert {"low", "high"} <= fields(spec_of(name, tables))


def test_languages_have_one_order_everywhere_that_of_the_runs_accuracy(tables, small):
    context.use_run(small)
    try:
        ranked = tables["accuracy_by_language"].sort("accuracy", descending=True)["language"]
        wanted = [english_name(code) for code in ranked]
        for name in ("exclusive_solves", "gain_over_resampling", "shapley", "selected_languages", "trace_languages"):
            orders = [
                n["sort"] for n in nodes(spec_of(name, tables)) if n.get("field") == "language_name" and "sort" in n
            ]
            assert orders and all(
                [n for n in order if n in wanted] == [n for n in wanted if n in order] for order in orders
            )
    finally:
        context.use_run(None)


def test_a_picture_says_where_it_comes_from(tables, small):
    context.use_run(small)
    try:
        source = spec_of("accuracy_by_language", tables)["usermeta"]["source"]
        assert source.startswith("Best-of-L · run small · made-up") and f"{N_PROBLEMS} problems" in source
    finally:
        context.use_run(None)
    assert "source" not in spec_of("accuracy_by_language", tables)["usermeta"]


def test_a_language_that_is_not_known_keeps_its_code(tables):
    table = tables["accuracy_by_language"].with_columns(pl.col("language").replace({"sw": "qqq"}))
    assert any(row["language_name"] == "qqq" for row in data(charts.accuracy_by_language(table).to_dict()))


def test_budget_curves_have_one_panel_per_target_with_its_gap(tables):
    spec = spec_of("budget_curves", tables)
    told = [panel["title"]["text"] for panel in spec["concat"]]
    assert {text.split("  ")[0] for text in told} == {english_name(code) for code in LANGUAGES}
    gaps = [float(text.split("  ")[1].split(" ")[0].replace("−", "-")) for text in told]
    assert gaps == sorted(gaps, reverse=True), "the largest gain first"


def test_budget_curves_show_only_the_targets_and_arms_that_were_asked_for(tables):
    spec = spec_of(
        "budget_curves", tables, targets=["sw"], arms=[("own", "majority", None), ("mixed-en", "oracle", None)]
    )
    assert [panel["title"]["text"].split("  ")[0] for panel in spec["concat"]] == ["Swahili"]
    assert {row["arm"] for row in data(spec) if "arm" in row} == {
        "own language, majority vote",
        "mixed without English, oracle (coverage)",
    }


def test_budget_curves_of_no_arm_say_which_were_looked_for(tables):
    with pytest.raises(ValueError, match="own language, one at random by x reward"):
        charts.budget_curves(tables["budget_curves"], arms=[("own", "random", "x")])


def test_budgets_are_on_a_logarithmic_axis_with_powers_of_two(tables):
    spec = spec_of("budget_curves", tables)
    x = next(node for node in nodes(spec) if node.get("field") == "budget" and "axis" in node)
    assert x["scale"] == {"type": "log", "base": 2} and x["axis"]["values"] == [1, 2, 4, 8, 16]


def test_no_accuracy_axis_passes_a_hundred_percent(tables):
    spec = spec_of("english_against_mixed", tables)
    y = next(node for node in nodes(spec) if node.get("field") == "accuracy" and "scale" in node)
    assert y["scale"]["domain"][1] <= 1.0


def test_a_chart_says_how_precisely_its_votes_are_simulated_and_is_exact_without_any(tables):
    table = tables["english_against_mixed"]
    exact = charts.english_against_mixed(table.filter(pl.col("mc_error") == 0)).to_dict()["title"]["subtitle"]
    rough = table.with_columns(mc_error=pl.when(pl.col("strategy") == "majority").then(0.01).otherwise(0.0))
    simulated = charts.english_against_mixed(rough).to_dict()["title"]["subtitle"]
    assert "(exact)" in exact and "(exact; votes simulated to ±2.0 points)" in simulated


def test_english_against_mixed_compares_at_completions_or_at_tokens(tables):
    at_tokens = spec_of("english_against_mixed", tables, x="tokens")
    assert "tokens" in fields(at_tokens) and at_tokens["usermeta"]["name"] == "english_against_mixed_tokens"
    assert {row.get("arm") for row in data(at_tokens)} >= {"English only", "mixed"}
    with pytest.raises(ValueError, match="x is 'seconds'; expected 'budget' or 'tokens'"):
        charts.english_against_mixed(tables["english_against_mixed"], x="seconds")


def test_a_pool_without_token_counts_has_no_chart_at_equal_tokens(tables):
    table = tables["english_against_mixed"].with_columns(tokens=pl.lit(None, pl.Float64))
    spec = charts.english_against_mixed(table, x="tokens").to_dict()
    assert "without token counts" in spec["title"]["subtitle"]
    json.dumps(charts.english_against_mixed(table).to_dict(), allow_nan=False)


def test_without_english_the_strongest_language_is_compared_with_the_mix(tables):
    table = tables["english_against_mixed"].filter(pl.col("pool") != "en")
    spec = charts.english_against_mixed(table).to_dict()
    assert "English" not in spec["title"]["text"] + spec["title"]["subtitle"] and "German only" in spec["title"]["text"]


def test_a_run_without_reward_models_still_compares(tables):
    table = tables["english_against_mixed"].filter(pl.col("reward_model").is_null())
    columns = [panel["vconcat"] for panel in charts.english_against_mixed(table).to_dict()["concat"]]
    told = [[plot["title"]["text"] for plot in column] for column in columns]
    assert told == [[name, "minus English only, points"] for name in ("majority vote", "oracle (coverage)")]
    assert "own language, majority vote" in {row.get("arm") for row in data(charts.budget_curves(table).to_dict())}


def test_labels_at_line_ends_do_not_overprint_each_other():
    table = pl.DataFrame({"arm": ["a", "b", "c"], "budget": [8, 8, 8], "accuracy": [0.70, 0.699, 0.41]})
    ends = line_ends(table, "arm", "accuracy", (0.4, 0.9), 200, "budget").sort("label_y")
    places = ends["label_y"].to_list()
    assert all(b - a > 15 * 0.5 / 200 - 1e-9 for a, b in itertools.pairwise(places)) and places[0] >= 0.4


def test_a_large_grid_of_budgets_is_thinned_but_keeps_its_ends():
    codes = ["en", "de", "fr", "es", "sw", "th", "bn", "te", "ja", "zh", "ru"]
    table = pl.DataFrame({"budget": list(range(1, 1001)) * 11, "pool": [c for c in codes for _ in range(1000)]}).with_columns(
        target="pool", strategy=pl.lit("oracle"), reward_model=pl.lit(None, pl.String),
        accuracy=0.5, low=0.4, high=0.6, n_problems=250, mc_error=0.0,
    )  # fmt: skip
    rows = data(charts.budget_curves(table, arms=[("own", "oracle", None)]).to_dict())
    assert len(rows) < 1000 and {row["budget"] for row in rows} >= {1, 2, 4, 8, 1000}


def test_gains_at_several_budgets_get_a_panel_each(tables):
    table = tables["gain_over_resampling"]
    one = table.filter(pl.col("budget") == table["budget"][0])
    assert len(charts.gain_over_resampling(table).to_dict()["concat"]) == table["budget"].n_unique() > 1
    assert "concat" not in charts.gain_over_resampling(one).to_dict()


def test_a_gain_is_filled_only_when_it_survives_correction(tables):
    table = tables["gain_over_resampling"].with_columns(p_holm=pl.lit(0.3))
    assert not any(row["sure"] for row in data(charts.gain_over_resampling(table).to_dict()) if "sure" in row)
    assert "clearly adds more" in charts.gain_over_resampling(table).to_dict()["title"]["text"]


def test_a_mono_model_is_shown_in_its_own_language_only(tables):
    rows = data(spec_of("reward_quality", tables))
    mono = [row["language_name"] for row in rows if row.get("reward_model") == "mono"]
    assert sorted(mono) == sorted(english_name(code) for code in LANGUAGES)


def test_a_claim_that_was_not_tested_keeps_its_row(tables):
    table = tables["claims"].with_columns(
        pl.when(pl.col("claim") == "H1").then(None).otherwise(pl.col(c)).alias(c) for c in ("effect", "low", "high")
    )
    rows = {row["row"]: row for row in data(charts.claims_forest(table).to_dict()) if "row" in row}
    assert any(name.startswith("H1") for name in rows) and any(name.startswith("H4") for name in rows)


def test_plans_for_several_objectives_are_not_drawn_over_each_other(tables):
    both = pl.concat([tables["allocation"], tables["allocation"].with_columns(objective=pl.lit("oracle"))])
    with pytest.raises(ValueError, match="filter it to one objective"):
        charts.allocation(both)


def test_an_answer_that_could_not_be_read_is_the_last_part_of_the_rules(tables):
    spec = spec_of("reading_rules", tables)
    domain = next(node["scale"]["domain"] for node in nodes(spec) if node.get("field") == "rule" and "scale" in node)
    assert domain[0] == "cue" and domain[-1] == "nothing readable"
    unread = tables["reading_rules"].filter(pl.col("rule").is_null())["n"].sum()
    assert sum(row["n"] for row in data(spec) if row["rule"] == "nothing readable") == unread > 0


def test_missing_estimates_are_left_out_and_not_drawn_as_nothing(tables):
    table = tables["reward_quality"].with_columns(
        auc=pl.when(pl.col("language") == "th").then(float("nan")).otherwise(pl.col("auc"))
    )
    rows = data(charts.reward_quality(table).to_dict())
    assert "Thai" not in {row.get("language_name") for row in rows} and "NaN" not in json.dumps(rows)


def test_an_imported_reward_model_gets_its_own_colour(tables):
    table = tables["reward_quality"].with_columns(pl.col("reward_model").replace({"multi": "org/prm-7b"}))
    scale = next(
        node["scale"]
        for node in nodes(charts.reward_quality(table).to_dict())
        if node.get("field") == "reward_model" and "range" in node.get("scale", {})
    )
    assert scale["domain"] == ["mono", "cross", "org/prm-7b"] and len(set(scale["range"])) == 3


@pytest.mark.parametrize("name", NAMES)
def test_text_of_a_table_never_goes_into_an_expression(tables, name):
    marker = "x'];window.PWN=1//"
    table = tables[name]
    for column in ("rule", "reader", "claim", "arm", "trace_language"):
        if column in table.columns:
            ours = pl.col(column).is_in(["ours", "planned", "hindsight"])
            marked = pl.concat_str(pl.col(column).fill_null("none"), pl.lit(marker))
            table = table.with_columns(pl.when(ours).then(pl.col(column)).otherwise(marked).alias(column))
    spec = getattr(charts, name)(table).to_dict()
    expressions = [
        node[key]
        for node in nodes({k: v for k, v in spec.items() if k != "datasets"})
        for key in ("calculate", "filter", "test", "labelExpr", "expr")
        if key in node
    ]
    assert all(marker not in str(expression) for expression in expressions)
