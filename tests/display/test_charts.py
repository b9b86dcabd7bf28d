"""Charts by their specification: what they show, in which words, with which intervals."""

from __future__ import annotations

import json

import polars as pl
import pytest

from bestofl_lib.display import charts
from bestofl_lib.languages import LANGUAGES

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
    return max(spec["datasets"].values(), key=len)


@pytest.mark.parametrize("name", NAMES)
def test_every_chart_asks_its_question_and_says_its_denominator(tables, name):
    spec = spec_of(name, tables)
    assert spec["title"]["text"].endswith("?")
    assert any(digit.isdigit() for digit in spec["title"]["subtitle"]) or name == "claims_forest"
    assert spec["usermeta"]["name"] == name and spec["background"] == "transparent"
    assert sum(len(rows) for rows in spec["datasets"].values()) <= 5000


@pytest.mark.parametrize("name", NAMES)
def test_every_chart_refuses_a_table_without_a_column_by_name(tables, name):
    table = tables[name]
    required = next(
        column for column in ("language", "accuracy", "reward_model", "claim", "budget") if column in table.columns
    )
    with pytest.raises(ValueError, match=f"this chart needs {required}; the table has "):
        getattr(charts, name)(table.drop(required))


@pytest.mark.parametrize("name", NAMES)
def test_every_chart_refuses_an_empty_table(tables, name):
    with pytest.raises(ValueError, match="has no rows"):
        getattr(charts, name)(tables[name].clear())


@pytest.mark.parametrize(
    "name",
    [
        n
        for n in NAMES
        if n
        not in (
            "exclusive_solves",
            "reading_rules",
            "accuracy_by_reader",
            "trace_languages",
            "allocation",
            "selected_languages",
            "sole_solvers",
            "planner_regret",
        )
    ],
)
def test_estimates_come_with_their_interval(tables, name):
    assert {"low", "high"} <= fields(spec_of(name, tables))


@pytest.mark.parametrize(
    "name", ["accuracy_by_language", "reward_quality", "exclusive_solves", "gain_over_resampling", "shapley"]
)
def test_languages_stand_on_axes_by_their_english_names(tables, name):
    spec = spec_of(name, tables)
    assert "language_name" in fields(spec) and any(row["language_name"] == "Swahili" for row in data(spec))


def test_a_language_that_is_not_known_keeps_its_code(tables):
    table = tables["accuracy_by_language"].with_columns(pl.col("language").replace({"sw": "xx"}))
    assert any(row["language_name"] == "xx" for row in data(charts.accuracy_by_language(table).to_dict()))


def test_languages_are_ordered_by_accuracy(tables):
    spec = spec_of("accuracy_by_language", tables)
    order = next(node["sort"] for node in nodes(spec) if node.get("field") == "language_name" and "sort" in node)
    assert order[0] == "English" and order[-1] == "Telugu"


def test_budget_curves_have_one_panel_per_target_and_repeat_what_holds_for_all(tables):
    rows = data(spec_of("budget_curves", tables))
    assert {row["panel_name"] for row in rows} == {record.name for record in LANGUAGES.values()}
    mixed = [row for row in rows if row["arm"] == "mixed pool, best of k by cross reward"]
    assert len({row["panel_name"] for row in mixed}) == 11
    own = {
        (row["panel_name"], row["accuracy"])
        for row in rows
        if row["arm"].startswith("own language, best") and row["budget"] == 1
    }
    assert ("English", 0.71) in own and ("Telugu", 0.19) in own and len(own) == 11


def test_budget_curves_show_only_the_targets_and_arms_that_were_asked_for(tables):
    spec = spec_of(
        "budget_curves", tables, targets=["sw", "en"], arms=[("own", "majority", None), ("mixed-en", "oracle", None)]
    )
    rows = data(spec)
    assert {row["panel_name"] for row in rows} == {"Swahili", "English"}
    assert {row["arm"] for row in rows} == {"own language, majority vote", "mixed without English, oracle (coverage)"}


def test_budget_curves_of_no_arm_say_which_were_looked_for(tables):
    with pytest.raises(ValueError, match="no row of own language, weighted vote"):
        charts.budget_curves(tables["budget_curves"], arms=[("own", "weighted", None)])


def test_budgets_stand_on_a_logarithmic_axis_with_powers_of_two(tables):
    spec = spec_of("budget_curves", tables)
    x = next(node for node in nodes(spec) if node.get("field") == "budget" and "axis" in node)
    assert x["scale"] == {"type": "log", "base": 2} and x["axis"]["values"] == [1, 2, 4, 8, 16, 32, 64]


def test_no_accuracy_axis_passes_a_hundred_percent(tables):
    spec = spec_of("budget_curves", tables)
    y = next(node for node in nodes(spec) if node.get("field") == "accuracy" and "scale" in node)
    assert y["scale"]["domain"][1] == 1.0 and y["scale"]["domain"][0] <= 0.14


def test_english_against_mixed_compares_at_completions_or_at_tokens(tables):
    at_tokens = spec_of("english_against_mixed", tables, x="tokens")
    assert "tokens" in fields(at_tokens) and at_tokens["usermeta"]["name"] == "english_against_mixed_tokens"
    assert {row["pool"] for row in data(at_tokens)} == {"English only", "mixed, equal shares", "mixed without English"}
    with pytest.raises(ValueError, match="x is 'seconds'; expected 'budget' or 'tokens'"):
        charts.english_against_mixed(tables["english_against_mixed"], x="seconds")


def test_a_run_without_reward_models_still_compares_english_with_mixed(tables):
    table = tables["english_against_mixed"].filter(pl.col("reward_model").is_null())
    assert {row["panel"] for row in data(charts.english_against_mixed(table).to_dict())} == {
        "majority vote",
        "oracle (coverage)",
    }


def test_a_large_grid_of_budgets_is_thinned_but_keeps_its_ends():
    table = pl.DataFrame(
        {"budget": list(range(1, 1001)) * 11, "pool": [code for code in LANGUAGES for _ in range(1000)]}
    ).with_columns(
        target="pool", strategy=pl.lit("oracle"), reward_model=pl.lit(None, pl.String),
        accuracy=0.5, low=0.4, high=0.6, n_problems=250,
    )  # fmt: skip
    rows = data(charts.budget_curves(table, arms=[("own", "oracle", None)]).to_dict())
    assert len(rows) < 1000 and {row["budget"] for row in rows} >= {1, 2, 4, 8, 1000}


def test_gains_at_several_budgets_get_a_panel_each(tables):
    table = tables["gain_over_resampling"]
    both = pl.concat([table, table.with_columns(budget=pl.lit(2, pl.Int64))])
    assert (
        "facet" in charts.gain_over_resampling(both).to_dict()
        and "facet" not in charts.gain_over_resampling(table).to_dict()
    )


def test_a_gain_is_called_one_only_when_its_whole_interval_is_above_nothing(tables):
    plain = tables["gain_over_resampling"].drop("p_holm")
    shown = {
        (row["low"] > 0, row["high"] < 0): row["shown"] for row in data(charts.gain_over_resampling(plain).to_dict())
    }
    assert shown[(True, False)] == "adds" and shown[(False, False)] == "undecided"


def test_a_gain_that_does_not_survive_correction_is_undecided(tables):
    table = tables["gain_over_resampling"].with_columns(p_holm=pl.lit(0.3))
    assert {row["shown"] for row in data(charts.gain_over_resampling(table).to_dict())} == {"undecided"}


def test_a_mono_model_is_shown_in_its_own_language_only(tables):
    other = tables["reward_quality"].head(1).with_columns(reward_model=pl.lit("mono-en"), language=pl.lit("sw"))
    overall = (
        tables["reward_quality"].head(1).with_columns(reward_model=pl.lit("cross"), language=pl.lit(None, pl.String))
    )
    rows = data(charts.reward_quality(pl.concat([tables["reward_quality"], other, overall])).to_dict())
    assert {row["reward_model"] for row in rows} == {"mono", "multi", "cross"} and len(rows) == 34
    assert [row["language_name"] for row in rows if row["language_name"] == "all languages"] == ["all languages"]


def test_a_claim_that_was_not_tested_keeps_its_row(tables):
    table = tables["claims_forest"].with_columns(
        pl.when(pl.col("claim") == "H1").then(None).otherwise(pl.col(c)).alias(c) for c in ("effect", "low", "high")
    )
    spec = charts.claims_forest(table).to_dict()
    assert [row["row"] for row in data(spec)] == ["H1", "H2", "H3", "H4"]


def test_plans_for_several_objectives_are_not_drawn_over_each_other(tables):
    both = pl.concat([tables["allocation"], tables["allocation"].with_columns(objective=pl.lit("cross"))])
    with pytest.raises(ValueError, match="filter it to one objective"):
        charts.allocation(both)


def test_an_unreadable_answer_is_the_last_part_of_the_rules(tables):
    spec = spec_of("reading_rules", tables)
    domain = next(node["scale"]["domain"] for node in nodes(spec) if node.get("field") == "rule" and "scale" in node)
    assert domain[0] == "cue" and domain[-1] == "nothing readable"


def test_missing_estimates_are_left_out_and_not_drawn_as_nothing(tables):
    table = tables["reward_quality"].with_columns(
        auc=pl.when(pl.col("language") == "te").then(float("nan")).otherwise(pl.col("auc"))
    )
    rows = data(charts.reward_quality(table).to_dict())
    assert "Telugu" not in {row["language_name"] for row in rows}
    assert "NaN" not in json.dumps(rows)


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
            table = table.with_columns(pl.concat_str(pl.col(column).fill_null("none"), pl.lit(marker)).alias(column))
    spec = getattr(charts, name)(table).to_dict()
    expressions = [
        node[key]
        for node in nodes({k: v for k, v in spec.items() if k != "datasets"})
        for key in ("calculate", "filter", "test", "labelExpr", "expr")
        if key in node
    ]
    assert all(marker not in str(expression) for expression in expressions)
