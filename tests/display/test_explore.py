"""What the explorer shows: rows, numbers, order, text. Figures are compared with the library's own."""

from __future__ import annotations

import json
import shutil

import numpy as np
import polars as pl
import pytest
from made_up_runs import write_run

from bestofl_lib.analysis import apportion, run_scan, what_if
from bestofl_lib.analysis.arms import REWARDED, arm_values
from bestofl_lib.analysis.arrays import arrays_of_run
from bestofl_lib.analysis.picks import pick_candidates, selected_languages
from bestofl_lib.analysis.reading_quality import precision_of_reader
from bestofl_lib.analysis.uncertainty import mean_interval, paired_difference
from bestofl_lib.display import takeaways, words
from bestofl_lib.display import text as inert
from bestofl_lib.display.explorer import problem as problem_page
from bestofl_lib.display.explorer import widget
from bestofl_lib.display.explorer.launch import write_notebook
from bestofl_lib.display.explorer.what_if import what_if_view
from bestofl_lib.display.explorer.widget import Explorer
from bestofl_lib.runs import Run
from bestofl_lib.tables import KEYS
from bestofl_lib.text import signed_points

LANGUAGES = ("bn", "en", "sw", "th")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs"), n_problems=40, n=6, languages=LANGUAGES)


@pytest.fixture(scope="module")
def source(run):
    return run_scan.open_run(run)


@pytest.fixture(scope="module")
def numbers(source):
    return what_if.Numbers(source)


def setting(**changes):
    base = {
        "languages": LANGUAGES,
        "budget": 6,
        "allocation": None,
        "strategy": "best_of_k",
        "reward_model": "cross",
        "offsets": {},
    }
    return what_if.Setting(**(base | changes))


# -- atlas


def test_a_cell_counts_what_the_readings_say(run, source):
    readings = run.read("readings").filter(pl.col("problem_id") == "lab-test-0007", pl.col("language") == "sw")
    cell = source.cells.filter(pl.col("problem_id") == "lab-test-0007", pl.col("language") == "sw").row(0, named=True)
    assert (cell["n"], cell["n_correct"]) == (6, int(readings["is_correct"].sum()))
    assert cell["n_unread"] == readings["answer"].null_count()


def test_a_mistake_is_a_wrong_best_reward_where_a_right_answer_was(run, source):
    joined = run.read("rewards").filter(pl.col("reward_model") == "cross").join(run.read("readings"), on=KEYS)
    slow = {}
    for (problem,), rows in joined.group_by("problem_id"):
        best = rows.sort("reward", descending=True).row(0, named=True)
        slow[problem] = bool(rows["is_correct"].any() and not best["is_correct"])
    assert dict(run_scan.count_mistakes(source, "cross").iter_rows()) == slow
    assert any(slow.values())


@pytest.mark.parametrize("sort", list(words.SORTS))
def test_every_order_holds_every_problem_once(source, sort):
    problems = run_scan.describe_problems(source.cells, run_scan.count_mistakes(source, "multi"))
    assert sorted(run_scan.choose_problems(problems, sort)) == sorted(problems["problem_id"])


def test_orders_put_first_what_they_say(source):
    problems = run_scan.describe_problems(source.cells, run_scan.count_mistakes(source, "multi"))
    facts = {row["problem_id"]: row for row in problems.iter_rows(named=True)}
    by = {sort: [facts[i] for i in run_scan.choose_problems(problems, sort)] for sort in words.SORTS}
    assert [row["share"] for row in by["difficulty"]] == sorted(row["share"] for row in by["difficulty"])
    assert [row["exclusive"] is None for row in by["exclusive"]] == sorted(
        row["exclusive"] is None for row in by["exclusive"]
    )
    assert [not row["mistake"] for row in by["mistake"]] == sorted(not row["mistake"] for row in by["mistake"])


@pytest.mark.parametrize("name", list(words.FILTERS))
def test_a_filter_keeps_exactly_what_it_names(source, name):
    problems = run_scan.describe_problems(source.cells, run_scan.count_mistakes(source, "multi"))
    assert set(run_scan.choose_problems(problems, filters=[name])) == set(problems.filter(pl.col(name))["problem_id"])


def test_strays_are_the_answers_known_to_be_in_another_language(run, source):
    stray = run.read("readings").filter(pl.col("trace_language") != pl.col("language"))
    problems = run_scan.describe_problems(source.cells)
    assert 0 < source.cells["n_stray"].sum() == len(stray)
    assert set(run_scan.choose_problems(problems, filters=["stray"])) == set(stray["problem_id"])


def test_an_unknown_order_is_refused(source):
    with pytest.raises(ValueError, match=r"no sort or filter 'size'; known: difficulty"):
        run_scan.choose_problems(run_scan.describe_problems(source.cells), "size")


def test_a_page_of_the_atlas_places_every_cell(source):
    problems = run_scan.describe_problems(source.cells)
    order = run_scan.choose_problems(problems)
    page = run_scan.grid_page(source.cells, problems, order, source.languages)
    assert page["ids"] == order
    for row in source.cells.sample(20, seed=1).iter_rows(named=True):
        assert (
            page["correct"][source.languages.index(row["language"])][order.index(row["problem_id"])] == row["n_correct"]
        )


def test_only_the_split_that_was_asked_for_is_shown(tmp_path):
    run = write_run(tmp_path, n_problems=4, n=2, languages=("en", "sw"))
    problems = run.read("problems").with_columns(
        split=pl.when(pl.col("problem_id") == "lab-test-0000").then(pl.lit("train")).otherwise("split")
    )
    run.write("problems", problems)
    assert run_scan.open_run(run).cells["problem_id"].n_unique() == 3
    assert run_scan.open_run(run, None).cells["problem_id"].n_unique() == 4
    with pytest.raises(ValueError, match="no candidates of split 'dev'; its problems are test, train"):
        run_scan.open_run(run, "dev")


def test_a_run_without_readings_is_told_what_is_missing(tmp_path):
    Run("bare", tmp_path).write("problems", write_run(tmp_path, n_problems=1, n=1, languages=("en",)).read("problems"))
    with pytest.raises(FileNotFoundError, match="run 'bare' has no table 'readings' yet"):
        run_scan.open_run(Run("bare", tmp_path))


# -- text


def test_the_read_span_is_marked_and_nothing_is_lost():
    text = "So 3 + 4 = 7.\nThe answer is 7. Bye"
    cut = inert.segments(text, 28, 29)
    assert "".join(piece["text"] for piece in cut) == text
    assert [piece["text"] for piece in cut if piece.get("read")] == ["7"]


@pytest.mark.parametrize(
    ("text", "formulas"),
    [
        (r"so $\frac{1}{2}$ is", 1),
        (r"so \(x^2\) and \[y\]", 2),
        ("costs $5 and $6 each", 0),
        ("$5", 0),
        ("$$a+b$$", 1),
        (r"\$5$", 0),
    ],
)
def test_maths_is_told_from_money(text, formulas):
    assert sum("math" in piece for piece in inert.segments(text)) == formulas


@pytest.mark.parametrize(
    "latex",
    [
        r"\href{javascript:alert(1)}{x}",
        r"\unknowncommand{",
        "{",
        r"\frac{1}",
        r"\style{background:url(x)}{y}",
        "^",
        "&&&",
    ],
)
def test_odd_latex_is_harmless(latex):
    tree = inert.typeset(latex)
    words = json.dumps(tree)
    assert tree is None or ("href" not in words.replace(json.dumps(latex)[1:-1], "") or '"href":' not in words)

    def check(node):
        assert node[0] in inert.MATHML
        assert set(node[1]) <= inert.MATHML_ATTRIBUTES
        for child in node[2] if isinstance(node[2], list) else []:
            check(child)

    if tree:
        check(tree)


def test_controls_are_shown_and_do_nothing():
    assert inert.visible("a\x1b[31m\rb\x00\nc\td\x9b") == "a␛[31m␍b␀\nc\td\ufffd"


def test_a_huge_completion_is_cut_around_what_was_read():
    text = "x" * 600_000 + "The answer is 7." + "y" * 400_000
    cut = inert.segments(text, 600_014, 600_015)
    assert cut[0]["cut"] + cut[-1]["cut"] == len(text) - inert.LONGEST
    assert [piece["text"] for piece in cut if piece.get("read")] == ["7"]


def test_right_to_left_languages_and_unknown_ones_are_described():
    assert words.describe_language("te") == {"code": "te", "name": "Telugu", "endonym": "తెలుగు", "dir": "auto"}
    assert words.describe_language("<b>")["name"] == "<b>"


# -- problem


def test_each_strategy_picks_what_the_library_picks(run, source):
    allocation = {"bn": 1, "en": 2, "sw": 1, "th": 1}
    view = problem_page.problem_view(source, "lab-test-0011", allocation=allocation, seed=3, reward_model="cross")
    table = run_scan.candidates_of(source, "lab-test-0011")
    arrays = problem_page._one_problem(table, "cross", {})[0]
    for pick in view["picks"]:
        model = "cross" if pick["strategy"] in REWARDED else None
        row = pick_candidates(arrays, allocation, pick["strategy"], model, 3).row(0, named=True)
        if pick["card"]:
            assert pick["card"] == f"{row['language']}-{row['sample_index']}"
        else:
            assert not row["is_correct"]
    assert view["n_drawn"] == 5
    assert sum(column["drawn"] for column in view["columns"]) == 5
    json.dumps(view)


def test_the_reason_names_the_reward_and_the_runner_up(source):
    view = problem_page.problem_view(source, "lab-test-0011", allocation={"en": 3}, reward_model="multi")
    drawn = sorted(
        (card["reward"] for column in view["columns"] for card in column["cards"] if card["drawn"]), reverse=True
    )
    why = next(pick["why"] for pick in view["picks"] if pick["strategy"] == "best_of_k").replace("−", "-")
    assert f"highest reward, {drawn[0]:.2f}; next en #" in why and why.endswith(f"with {drawn[1]:.2f}")


def test_an_offset_moves_the_pick_to_its_language(source):
    allocation = {"en": 3, "sw": 3}
    view = problem_page.problem_view(
        source, "lab-test-0002", allocation=allocation, reward_model="cross", offsets={"sw": 50.0}
    )
    assert next(pick for pick in view["picks"] if pick["strategy"] == "best_of_k")["language"] == "sw"


def test_the_tally_counts_every_candidate_once(source):
    view = problem_page.problem_view(source, "lab-test-0002", allocation={"en": 3, "sw": 1})
    assert sum(vote["all"] for vote in view["votes"]) == view["n"] == 24
    assert sum(vote["drawn"] for vote in view["votes"]) == view["n_drawn"] == 4


def test_a_problem_without_candidates_is_named(source):
    with pytest.raises(ValueError, match="no candidates of problem 'lab-test-9999'"):
        run_scan.candidates_of(source, "lab-test-9999")


# -- what if


@pytest.mark.parametrize("strategy", list(words.STRATEGIES))
def test_equal_shares_give_the_library_s_figure(numbers, strategy):
    model = "cross" if strategy in REWARDED else None
    found = what_if.what_if(numbers, setting(strategy=strategy))
    exact = arm_values(numbers.arrays(), "mixed", strategy, model, [6], draws=400)
    tolerance = 1e-12 if found["error"] is None else 5 * found["error"] + 0.002
    assert found["accuracy"] == pytest.approx(exact.accuracy.mean(), abs=tolerance)
    assert found["low"] <= found["accuracy"] <= found["high"]
    on_curve = next(point for point in found["lines"][0]["points"] if point[0] == 6)
    assert on_curve[1] == pytest.approx(found["accuracy"])


@pytest.mark.parametrize("strategy", list(words.STRATEGIES))
def test_all_candidates_of_one_language_by_hand_equal_that_language_s_curve(numbers, strategy):
    model = "cross" if strategy in REWARDED else None
    by_hand = what_if.what_if(numbers, setting(strategy=strategy, allocation={"bn": 0, "en": 6, "sw": 0, "th": 0}))
    exact = arm_values(numbers.arrays(), "en", strategy, model, [6], draws=400)
    tolerance = 1e-9 if by_hand["error"] is None else 5 * by_hand["error"] + 0.002
    assert by_hand["accuracy"] == pytest.approx(exact.accuracy.mean(), abs=tolerance)


def test_a_language_with_a_great_offset_wins_everything(numbers):
    found = what_if.what_if(numbers, setting(allocation={"bn": 2, "en": 2, "sw": 1, "th": 1}, offsets={"sw": 100.0}))
    assert {row["language"]: round(row["share"], 9) for row in found["selected"]} == {
        "bn": 0,
        "en": 0,
        "sw": 1,
        "th": 0,
    }


def test_selected_shares_equal_the_library_s(numbers):
    found = what_if.what_if(numbers, setting())
    exact = selected_languages(numbers.arrays(), "mixed", "cross", [6])
    assert {row["language"]: pytest.approx(row["share"]) for row in found["selected"]} == dict(
        zip(exact["language"], exact["share"], strict=True)
    )


def test_a_budget_beyond_the_pool_is_refused(numbers):
    with pytest.raises(ValueError, match="budget 25 is outside 1 to 24"):
        what_if.what_if(numbers, setting(budget=25))


def test_a_reward_model_that_is_not_there_is_named(numbers):
    with pytest.raises(ValueError, match="no rewards by 'gold'"):
        what_if.what_if(numbers, setting(reward_model="gold"))


@pytest.mark.parametrize("seed", range(8))
def test_sliders_always_sum_to_the_budget(seed):
    rng = np.random.default_rng(seed)
    most = {code: int(rng.integers(1, 9)) for code in LANGUAGES}
    allocation = apportion.apportion(int(rng.integers(1, sum(most.values()) + 1)), LANGUAGES, most)
    budget = sum(allocation.values())
    for _ in range(30):
        code = str(rng.choice(LANGUAGES))
        allocation = apportion.rebalance(allocation, code, int(rng.integers(-1, 12)), most)
        assert sum(allocation.values()) == budget
        assert all(0 <= allocation[c] <= most[c] for c in LANGUAGES)


# -- choices


def test_choices_are_kept_when_the_cell_runs_again(run):
    first = Explorer(run_scan.open_run(run))
    first.choose(problem=["lab-test-0005", "sw"]).choose(budget=3).choose(slider=["th", 2]).choose(tab="what_if")
    again = Explorer(run_scan.open_run(run))
    assert (again.state["problem"], again.state["budget"], again.state["tab"]) == ("lab-test-0005", 3, "what_if")
    assert again.state["allocation"]["th"] == 2
    assert again.what_if["accuracy"] == first.what_if["accuracy"]


def test_every_choice_changes_what_is_shown(run):
    page = Explorer(run_scan.open_run(run)).choose(equal=True).choose(budget=4).choose(tab="what_if")
    figures = {"start": page.what_if["accuracy"]}
    for name, change in {
        "budget": {"budget": 9}, "language": {"language": ["en", False]}, "offset": {"offset": ["bn", 2.0]},
        "model": {"reward_model": "multi"}, "strategy": {"strategy": "logprob"}, "slider": {"slider": ["sw", 5]},
    }.items():  # fmt: skip
        figures[name] = page.choose(**change).what_if["accuracy"]
    assert len(set(figures.values())) == len(figures)


def test_a_choice_that_does_not_exist_is_refused(run):
    with pytest.raises(ValueError, match="strategy 'best' is not available; choose one of best_of_k"):
        Explorer(run_scan.open_run(run)).choose(strategy="best")


def test_a_run_without_rewards_is_explored_all_the_same(tmp_path):
    run = write_run(tmp_path, n_problems=5, n=2, languages=("en", "sw"))
    run.path("rewards").unlink()
    page = Explorer(run_scan.open_run(run)).choose(tab="what_if")
    assert page.state["strategy"] == "majority" and 0 <= page.what_if["accuracy"] <= 1
    assert {pick["strategy"] for pick in page.choose(tab="problem").problem["picks"]} == {
        "majority",
        "logprob",
        "shortest",
        "arithmetic",
        "random",
        "oracle",
    }


def test_the_command_s_notebook_names_its_run(run):
    path = write_notebook(run)
    assert path.parent == run.folder and "'made-up'" in path.read_text("utf8")


def test_what_stands_out_is_said_with_denominators(source):
    sentences = takeaways.outcomes(run_scan.count_outcomes(source, "multi"), "multi")
    assert all(" of " in sentence or " in " in sentence for sentence in sentences) and "40 problems" in sentences[0]
    assert set(run_scan.worth_opening(source, "multi").columns) == {"problem_id", "why", "share", "exclusive"}


def test_mathematics_nested_without_end_is_shown_as_it_was_written():
    deep = "\\frac{a" * 2000
    assert inert.typeset(deep) is None
    assert "".join(piece.get("text", "") for piece in inert.segments(f"${deep[:200]}$")).startswith("$\\frac{a")


def test_a_candidate_set_aside_or_without_counted_tokens_does_not_stop_the_problem_view(tmp_path):
    run = write_run(tmp_path, n_problems=4, n=4, languages=("en", "sw"))
    one_language = (pl.col("problem_id") == "lab-test-0001") & (pl.col("language") == "sw")
    aside = (pl.col("sample_index") == 1) | one_language
    run.write("rewards", run.read("rewards").with_columns(reward=pl.when(aside).then(None).otherwise("reward")))
    source = run_scan.open_run(run)
    for problem in source.cells["problem_id"].unique():
        view = problem_page.problem_view(source, problem, allocation={"en": 4, "sw": 4}, reward_model="cross")
        best = next(pick for pick in view["picks"] if pick["strategy"] == "best_of_k")
        assert best["why"].startswith("highest reward") and "#1" not in best["where"]
    alone = problem_page.problem_view(source, "lab-test-0001", allocation={"sw": 2}, reward_model="cross")["picks"]
    assert (
        next(pick["why"] for pick in alone if pick["strategy"] == "best_of_k")
        == "none of 2 has a usable reward, one at random"
    )
    rows = [
        {
            "answer": "1",
            "is_correct": True,
            "reward": None,
            "logprob": None,
            "n_tokens": None,
            "where": "en #0",
            "completion": text,
        }
        for text in ("abc", "abcde")
    ]
    assert problem_page.explain(rows, rows[0], "shortest") == "fewest characters, 3; next en #0 with 5"
    checked = [row | {"false_equations": n} for row, n in zip(rows, (0, 2), strict=True)]
    assert problem_page.explain(checked, checked[0], "arithmetic") == "1 of 2 without a false equation"


# -- two settings, the choices as a table, the first problem


def test_two_settings_are_compared_problem_by_problem(numbers):
    first, second = setting(strategy="random", reward_model=None), setting()
    test = what_if.settings_difference(numbers, first, second)
    apart = what_if.problem_values(numbers, second).values - what_if.problem_values(numbers, first).values
    assert float(test.effect) == pytest.approx(float(apart.mean()), abs=1e-12) and test.low < test.effect < test.high
    view = what_if_view(numbers, second, first)
    assert signed_points(float(test.effect)) in view["against"] and "one at random" in view["against"]
    assert what_if_view(numbers, second, second)["against"] is None


def test_it_opens_on_a_problem_that_divides_the_languages_and_that_the_reward_model_gets_wrong(
    run, source, monkeypatch
):
    monkeypatch.setattr(widget, "_REMEMBERED", {})  # what other tests chose
    opened = Explorer(run_scan.open_run(run)).state["problem"]
    cells = source.cells.filter(problem_id=opened)
    assert (cells["n_correct"] > 0).any() and cells["n_correct"].n_unique() > 1
    mistakes = run_scan.count_mistakes(source, source.reward_models[0])
    assert mistakes.filter(problem_id=opened)["mistaken"].item() or not mistakes["mistaken"].any()


def test_languages_stand_in_the_order_of_every_chart(source):
    shares = source.cells.group_by("language").agg(share=pl.col("n_correct").sum() / pl.col("n").sum())
    assert list(source.languages) == shares.sort("share", descending=True)["language"].to_list()


def test_the_selection_is_the_candidates_that_the_choices_pick(run):
    page = Explorer(run_scan.open_run(run)).choose(tab="problem", strategy="best_of_k", budget=4, seed=3)
    table = page.selection()
    assert table.height == 40 == table["problem_id"].n_unique() and table["completion"].null_count() == 0
    here = table.filter(pl.col("problem_id") == page.problem["id"]).row(0, named=True)
    pick = next(pick for pick in page.problem["picks"] if pick["strategy"] == "best_of_k")
    assert (here["language"], here["answer"]) == (pick["language"], pick["answer"])


def test_keeping_a_setting_compares_the_next_one_with_it(run):
    page = Explorer(run_scan.open_run(run)).choose(tab="what_if", budget=2).choose(keep=True)
    assert page.state["kept"] and page.what_if["against"] is None
    assert "against best of k" in page.choose(budget=6).what_if["against"]
    assert not page.choose(keep=False).state["kept"]


def test_the_first_problem_divides_the_languages(source):
    cells = source.cells.filter(
        pl.col("problem_id") == run_scan.most_telling(source, run_scan.count_mistakes(source, "cross"))
    )
    assert 0 < cells["n_correct"].sum() < cells["n"].sum()


@pytest.fixture(scope="module")
def seeded(run, tmp_path_factory):
    """The run with a second training seed, whose rewards differ in kind."""
    copied = Run("seeds", tmp_path_factory.mktemp("seeds"))
    shutil.copytree(run.folder, copied.folder)
    rewards = run.read("rewards").with_columns(seed=pl.lit(0, pl.Int32))
    other = rewards.with_columns(reward=pl.col("reward").shuffle(seed=3), seed=pl.lit(1, pl.Int32))
    copied.write("rewards", pl.concat([rewards, other]))
    return copied


def test_a_candidate_shows_the_mean_of_its_rewards_over_training_seeds(run, seeded):
    found = run_scan.open_run(seeded).rewards.collect()
    one, two = seeded.read("rewards").partition_by("seed", maintain_order=True)
    both = one.join(two, on=["problem_id", "language", "sample_index", "reward_model"], suffix="_two")
    assert len(found) == len(one)
    both = both.join(found, on=["problem_id", "language", "sample_index", "reward_model"], suffix="_mean")
    assert ((both["reward"] + both["reward_two"]) / 2 - both["reward_mean"]).abs().max() < 1e-9


@pytest.mark.parametrize("strategy", REWARDED)
def test_with_several_training_seeds_what_if_gives_the_figures_and_intervals_of_the_curves(seeded, strategy):
    numbers = what_if.Numbers(run_scan.open_run(seeded))
    pool = arrays_of_run(seeded)
    curve = arm_values(pool, "mixed", strategy, "cross", [6], draws=400)
    found = what_if.what_if(numbers, setting(strategy=strategy))
    tolerance = 1e-12 if found["error"] is None else 5 * found["error"] + 0.002
    assert found["accuracy"] == pytest.approx(curve.accuracy.mean(), abs=tolerance)
    interval = mean_interval(curve.accuracy[:, 0], of_seeds=curve.of_seeds[:, 0])
    assert found["low"] == pytest.approx(float(interval.low), abs=tolerance)
    alone = arm_values(pool, "en", strategy, "cross", [6], draws=400)
    by_hand = what_if.what_if(numbers, setting(strategy=strategy, allocation={"en": 6}, languages=("en",)))
    assert by_hand["accuracy"] == pytest.approx(alone.accuracy.mean(), abs=tolerance)
    apart = what_if.settings_difference(numbers, setting(strategy="majority"), setting(strategy=strategy))
    one_seed = paired_difference(
        what_if.problem_values(numbers, setting(strategy=strategy)).values,
        what_if.problem_values(numbers, setting(strategy="majority")).values,
    )
    assert apart.effect == one_seed.effect and apart.high - apart.low > one_seed.high - one_seed.low


def test_languages_selected_with_several_training_seeds_are_those_of_the_chart(seeded):
    found = what_if.what_if(what_if.Numbers(run_scan.open_run(seeded)), setting())
    exact = selected_languages(arrays_of_run(seeded), "mixed", "cross", [6])
    assert {row["language"]: pytest.approx(row["share"]) for row in found["selected"]} == dict(
        zip(exact["language"], exact["share"], strict=True)
    )


def test_a_selection_follows_the_rewards_that_the_problem_view_shows(seeded):
    page = Explorer(run_scan.open_run(seeded)).choose(tab="problem", strategy="best_of_k", budget=4, seed=3)
    for row in page.selection().head(5).iter_rows(named=True):
        shown = page.choose(problem=(row["problem_id"], "en")).problem
        pick = next(pick for pick in shown["picks"] if pick["strategy"] == "best_of_k")
        assert (pick["language"], pick["answer"]) == (row["language"], row["answer"])


# -- judged by hand, saved settings


@pytest.fixture
def judged(tmp_path):
    run = write_run(tmp_path, n_problems=6, n=3, languages=("en", "sw"))
    return run, Explorer(run_scan.open_run(run))


def test_judgements_of_readings_are_kept_and_give_the_readers_precision(judged):
    run, shown = judged
    for index, right in enumerate((True, True, False)):
        shown.judge("lab-test-0001", "sw", index, right)
    shown.judge("lab-test-0002", "en", 0, True)
    shown.judge("lab-test-0001", "sw", 2, True)  # judged again
    shown.judge("lab-test-0001", "sw", 1, None)  # taken back
    labels = run.read("labels")
    assert labels.select("language", "sample_index", "is_right").rows() == [
        ("sw", 0, True),
        ("sw", 2, True),
        ("en", 0, True),
    ]
    table = precision_of_reader(labels, run.read("readings"))
    assert table.select("language", "n", "n_right").rows() == [(None, 3, 3), ("sw", 2, 2), ("en", 1, 1)]
    assert (
        table["low"][0] == pytest.approx(3 / (3 + 1.959964**2), abs=1e-4) and table["high"][0] == 1
    )  # Wilson at 3 of 3
    shown.choose(problem=["lab-test-0001", "sw"])
    assert shown.problem["judged"].startswith("3 of 3 readings right, 100.0 %")
    cards = {
        c["index"]: c["judged"]
        for column in shown.problem["columns"]
        for c in column["cards"]
        if column["language"] == "sw"
    }
    assert cards == {0: True, 1: None, 2: True}
    again = Explorer(run_scan.open_run(run))
    assert again.labels().equals(labels)


def test_a_judgement_of_an_answer_that_is_read_otherwise_now_does_not_count(judged):
    run, shown = judged
    shown.judge("lab-test-0001", "sw", 0, True)
    readings = run.read("readings")
    here = (pl.col("problem_id") == "lab-test-0001") & (pl.col("language") == "sw")
    changed = readings.with_columns(answer=pl.when(here).then(pl.lit("12345")).otherwise("answer"))
    table = precision_of_reader(run.read("labels"), changed)
    assert table.select("n", "n_outdated", "precision").rows() == [(0, 1, None)] * 2
    assert "1 judgement outdated" in problem_page.precision(table)
    assert precision_of_reader(run.read("labels").clear(), readings).is_empty()
    with pytest.raises(ValueError, match="no candidate sw #99"):
        shown.judge("lab-test-0001", "sw", 99, True)


def test_a_saved_setting_opens_the_explorer_as_it_was(judged):
    run, shown = judged
    shown.choose(tab="what_if").choose(strategy="weighted").choose(language=["en", False]).choose(budget=2).choose(
        offset=["sw", 0.5]
    )
    text = shown.setting()
    again = Explorer(run_scan.open_run(run), setting=text)
    assert again.setting() == text and again.what_if["accuracy"] == shown.what_if["accuracy"]
    assert text.startswith("# Best-of-L, run made-up: weighted vote")
    for bad, message in (
        ("languages: [en]", "no saved setting"),
        (text.replace("- sw", "- fr"), "'fr', a language that this run has no"),
        (text.replace("budget: 2", "budget: 200"), "budget is 200"),
        (text.replace("weighted", "luck"), "'luck'"),
    ):
        with pytest.raises(ValueError, match=message):
            Explorer(run_scan.open_run(run), setting=bad)
    with pytest.raises(FileNotFoundError, match="save one in the explorer"):
        write_notebook(run, setting="nowhere.yaml")
