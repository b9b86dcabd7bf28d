"""The page that answers back computes what the library computes, to nine digits, and opens the problems that flip.

It is tested on a small run, on one of the lab's shape (11 languages, 8 candidates each, every kind of reward model, three
trainings), and on the lab itself where it has been run.
"""

from __future__ import annotations

import json
import re
from functools import partial

import numpy as np
import polars as pl
import pytest
from made_up_runs import LAB, write_run
from markupsafe import Markup
from one_arm import best_of_allocation
from scipy.special import stdtrit

from bestofl_lib.analysis import uncertainty
from bestofl_lib.analysis.apportion import apportion
from bestofl_lib.analysis.arms import UNREWARDED, arm_values
from bestofl_lib.analysis.arrays import arrays_of_run
from bestofl_lib.analysis.coverage import coverage_of_allocation
from bestofl_lib.analysis.votes import majority_of_allocation
from bestofl_lib.display import charts, embed
from bestofl_lib.display.report.pages import Link
from bestofl_lib.display.report.whatif import whatif_body, whatif_data
from bestofl_lib.runs import Folders, Run

ALLOCATIONS = (
    {"en": 3},
    {"en": 1, "de": 2, "sw": 1, "th": 1},
    {"de": 6, "th": 6},
    {"en": 6, "de": 6, "sw": 6, "th": 6},
    {"sw": 1, "th": 4},
)
COMPUTE = """([data, way, allocation]) => data.ids.map((id, p) => {
  const E = window.bestoflEstimators, correct = data.correct.map((rows) => rows[p]);
  if (way === "oracle") return E.coverage(correct, allocation);
  if (way === "random") return E.random(correct, allocation);
  if (way === "majority") return E.majority(data.answers.map((rows) => rows[p]), allocation, 4000);
  const seeds = data.ranks[way];
  return seeds.reduce((sum, ranks) => sum + E.bestOf(ranks.map((rows) => rows[p]), correct, allocation), 0) / seeds.length;
})"""
LAB_ALLOCATIONS = (
    apportion(8, LAB, dict.fromkeys(LAB, 8)),  # 8 completions over 11 languages: the first 8 get one
    apportion(24, LAB, dict.fromkeys(LAB, 8)),
    dict.fromkeys(LAB, 8),
    {"en": 5, "zh": 2, "de": 1},
    {"sw": 8},
)
LAB_WAYS = {"cross", "multi", "mono", "arithmetic+cross", "logprob", "shortest", "arithmetic"}


@pytest.fixture(scope="module")
def arrays(small):
    return arrays_of_run(small)


@pytest.fixture(scope="module")
def data(arrays):
    return json.loads(json.dumps(whatif_data(arrays, "atlas.html#{}")))


@pytest.fixture
def page(opened, tmp_path):
    path = tmp_path / "empty.html"
    scripts = embed.asset("estimators.js") + embed.asset("intervals.js")
    path.write_text(f"<!doctype html><script>{scripts}</script>", "utf8")
    return opened(path)[0]


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_the_page_computes_what_the_library_computes(page, data, arrays, allocation):
    vector = [allocation.get(language["code"], 0) for language in data["languages"]]
    correct = {code: arrays.is_correct[code] for code in allocation}
    k = sum(allocation.values())
    wanted = {
        "oracle": coverage_of_allocation(correct, allocation),
        "random": sum(k_l / k * np.nanmean(arrays.is_correct[code], 1) for code, k_l in allocation.items()),
    }
    for name in data["ranks"]:
        rewards = arrays.reward(name, tuple(allocation))
        wanted[name] = best_of_allocation(rewards, correct, allocation)
    assert {"cross", "multi", "mono", "logprob", "shortest", "arithmetic"} <= set(wanted)
    for way, values in wanted.items():
        found = page.evaluate(COMPUTE, [data, way, vector])
        assert np.abs(np.array(found) - values).max() < 1e-9, way


def lab_shaped(folder) -> Run:
    """A run of the lab's shape with 30 problems: three trainings of each reward model, and combined rewards."""
    run = write_run(folder, "lab-shaped", n_problems=30, n=8)
    once, rng = run.read("rewards").drop("seed"), np.random.default_rng(3)
    joined = once.filter(reward_model="cross").with_columns(reward_model=pl.lit("arithmetic+cross"))
    once = pl.concat([once, joined.select(once.columns)])
    trained = [
        once.with_columns(pl.col("reward") + pl.Series(rng.normal(0, 0.4, once.height)), seed=pl.lit(seed, pl.Int32))
        for seed in range(3)
    ]
    run.write("rewards", pl.concat(trained))
    return run


@pytest.fixture(scope="module", params=["the lab's shape", "the lab"])
def lab(request, tmp_path_factory):
    """Arrays and page data of a run like the lab, and of the lab where it has been run."""
    if request.param == "the lab":
        run = Run("lab", Folders.default().runs)
        if not run.has("rewards"):
            pytest.skip("the lab has not been run here: make study")
    else:
        run = lab_shaped(tmp_path_factory.mktemp("lab-shaped"))
    arrays = arrays_of_run(run)
    return arrays, json.loads(json.dumps(whatif_data(arrays, "atlas.html#{}")))


def test_on_the_lab_the_page_computes_what_the_library_computes(page, lab):
    arrays, data = lab
    assert set(arrays.languages) == set(LAB) and set(data["ranks"]) >= LAB_WAYS
    assert {len(data["ranks"][way]) for way in ("cross", "multi", "mono")} == {3}
    page.evaluate("(data) => { window.held = data }", data)
    for allocation in LAB_ALLOCATIONS:
        vector = [allocation.get(language["code"], 0) for language in data["languages"]]
        correct, k = {code: arrays.is_correct[code] for code in allocation}, sum(vector)
        wanted = {
            "oracle": coverage_of_allocation(correct, allocation),
            "random": sum(k_l / k * np.nanmean(arrays.is_correct[code], 1) for code, k_l in allocation.items()),
        }
        for name in data["ranks"]:
            pools = arrays.by_seed if name in arrays.reward_models else (arrays,)
            seeds = [best_of_allocation(one.reward(name, tuple(allocation)), correct, allocation) for one in pools]
            wanted[name] = np.mean(seeds, 0)
        for way, values in wanted.items():
            found = page.evaluate(f"([way, given]) => ({COMPUTE})([window.held, way, given])", [way, vector])
            assert np.abs(np.array(found) - values).max() < 1e-9, (way, allocation)


@pytest.mark.parametrize("kind", ["accuracy", "near the ceiling", "difference", "few differ"])
@pytest.mark.parametrize(("n", "seeds"), [(250, 3), (250, 1), (12, 1)])
def test_the_page_s_interval_is_the_library_s(page, kind, n, seeds):
    rng = np.random.default_rng(n)
    values = {
        "accuracy": rng.beta(0.6, 0.4, n),
        "near the ceiling": np.where(rng.random(n) < 0.02, 0.3, 1.0),
        "difference": rng.normal(0.03, 0.2, n).clip(-1, 1),
        "few differ": np.where(np.arange(n) < 3, 0.5, 0.0),
    }[kind]
    of_seeds = values.mean() + np.array([-0.01, 0.002, 0.008])[:seeds] if seeds > 1 else None
    if kind in ("accuracy", "near the ceiling"):
        name, library = "accuracy", partial(uncertainty.mean_interval, values)
    else:
        name, library = "difference", partial(uncertainty.paired_difference, values, np.zeros(n))
    drawn = [library(of_seeds=of_seeds, seed=seed) for seed in range(12)]
    t = float(stdtrit(n - 1, 0.975))
    given = [values.tolist(), t, [] if of_seeds is None else of_seeds.tolist()]
    low, high = page.evaluate(f"([values, t, seeds]) => window.bestoflIntervals.{name}(values, t, seeds)", given)
    again = page.evaluate(f"([values, t, seeds]) => window.bestoflIntervals.{name}(values, t, seeds)", given)
    assert [low, high] == again, "the generator is seeded"
    for end, ends in ((low, [one.low for one in drawn]), (high, [one.high for one in drawn])):
        assert abs(end - np.mean(ends)) < 5 * np.std(ends) + 1e-9, "apart by more than the noise of 2,000 replicates"


SHARES = f"""([data, way, pool, budget]) => {{
  const most = data.languages.map((language, place) => (pool.includes(place) ? language.n : 0));
  return ({COMPUTE})([data, way, window.bestoflEstimators.equalShares(budget, most)]);
}}"""


@pytest.mark.parametrize("budget", [1, 2, 3, 5, 7, 11, 24])
def test_equal_shares_give_odd_completions_to_languages_drawn_at_random_as_curves_do(page, data, arrays, budget):
    codes = [language["code"] for language in data["languages"]]
    pools = {
        "mixed": codes,
        f"mixed-{arrays.base}": [code for code in codes if code != arrays.base],
        "sw+th": ["sw", "th"],
    }
    for pool, members in pools.items():
        if budget > 6 * len(members):
            continue
        for way in ("cross", "mono", "logprob", "oracle", "random"):
            kind = (way, None) if way in UNREWARDED else ("best_of_k", way)
            wanted = arm_values(arrays, pool, *kind, [budget]).accuracy[:, 0]
            found = page.evaluate(SHARES, [data, way, [codes.index(code) for code in members], budget])
            assert np.abs(np.array(found) - wanted).max() < 1e-9, (pool, way)
        wanted = arm_values(arrays, pool, "majority", None, [budget], draws=4000)
        found = page.evaluate(SHARES, [data, "majority", [codes.index(code) for code in members], budget])
        assert np.abs(np.array(found) - wanted.accuracy[:, 0]).max() < 5 * np.sqrt(2 * 0.25 / 4000)


def test_shares_are_as_equal_as_what_each_language_has(page):
    rng = np.random.default_rng(0)
    for _ in range(300):
        codes = LAB[: rng.integers(1, 12)]
        most = rng.integers(0, 9, len(codes)).tolist()
        budget = int(rng.integers(0, 1 + sum(most)))
        share = "([k, most]) => { const g = window.bestoflEstimators.equalShares(k, most); return [g, g.open || [], g.extra || 0]; }"
        given, more, extra = page.evaluate(share, [budget, most])
        settled = [k + (place in more[:extra]) for place, k in enumerate(given)]
        assert settled == list(apportion(budget, codes, dict(zip(codes, most, strict=True))).values()), (budget, most)


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_the_page_votes_as_the_library_votes(page, data, arrays, allocation):
    vector = [allocation.get(language["code"], 0) for language in data["languages"]]
    answers = {code: arrays.answers[code] for code in allocation}
    wanted = majority_of_allocation(answers, arrays.reference, allocation, draws=4000)
    found = np.array(page.evaluate(COMPUTE, [data, "majority", vector]))
    assert wanted.value.std() > 0.1
    assert np.abs(found - wanted.value).max() < 5 * np.sqrt(2 * 0.25 / 4000)
    assert abs((found - wanted.value).mean()) < 0.005


def test_ties_across_languages_share_the_win(page):
    rank, correct = [[1, 2, 2], [2, 1]], [[0, 1, 0], [1, 0]]
    found = page.evaluate("([r, c]) => window.bestoflEstimators.bestOf(r, c, [2, 1])", [rank, correct])
    wanted = best_of_allocation(
        {"a": np.array([[1.0, 2, 2]]), "b": np.array([[2.0, 1]])},
        {"a": np.array([[0.0, 1, 0]]), "b": np.array([[1.0, 0]])},
        {"a": 2, "b": 1},
    )
    assert found == pytest.approx(float(wanted[0]), abs=1e-12)


def test_sliders_change_the_figure_and_a_kept_setting_lists_the_problems_that_flip(opened_alone, data, arrays):
    page, _, said = opened_alone(whatif_body(data), "whatif.js")
    page.wait_for_function("document.documentElement.dataset.whatif === 'drawn'")
    read = lambda: float(page.get_attribute(".whatif", "data-accuracy"))  # noqa: E731
    first = read()
    allocation = dict.fromkeys(arrays.languages, 2)
    correct = {c: arrays.is_correct[c] for c in arrays.languages}
    assert first == pytest.approx(
        best_of_allocation(arrays.reward("cross", arrays.languages), correct, allocation).mean(), abs=1e-9
    )
    page.click(".whatif .bar button")
    page.select_option(".whatif select", "random")
    assert read() < first and re.search(r"−[\d.]+ points \[−[\d.]+, [−+][\d.]+\]", page.inner_text(".whatif"))
    assert page.locator(".flips a").first.get_attribute("href").startswith("atlas.html#lab-test-")
    page.locator(".whatif tbody input[type=range]").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.inner_text(".whatif output").strip() == "9" and not said
    assert page.evaluate("document.documentElement.scrollWidth") <= 1000


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_serious_fault(opened_alone, data, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="pip install axe-playwright-python")
    page, _, _ = opened_alone(whatif_body(data), "whatif.js", scheme=scheme)
    page.wait_for_function("document.documentElement.dataset.whatif === 'drawn'")
    page.click(".whatif .bar button")
    faults = axe.Axe().run(page).response["violations"]
    assert [fault["id"] for fault in faults if fault["impact"] in ("serious", "critical")] == []


def test_a_point_of_a_chart_opens_as_a_setting_beside_the_base_language(opened_alone, data, arrays):
    page, _, said = opened_alone(whatif_body(data), "whatif.js")
    page.wait_for_function("document.documentElement.dataset.whatif === 'drawn'")
    read = lambda: float(page.get_attribute(".whatif", "data-accuracy"))  # noqa: E731
    without, half = f"mixed-{arrays.base}", f"half-{arrays.base}"
    for name, n in (("mixed", 4), (without, 3), (half, 4), ("sw", 1)):
        page.evaluate("(hash) => { window.location.hash = hash }", f"{name}/cross/5")
        page.wait_for_function("(n) => document.querySelectorAll('.whatif th input:checked').length === n", arg=n)
        wanted = arm_values(arrays, name, "best_of_k", "cross", [5]).accuracy.mean()
        assert read() == pytest.approx(wanted, abs=1e-9), "the figure of the chart, at an odd budget too"
        assert "best of k by cross reward, en 5" in page.inner_text(".whatif")
    assert page.locator(".flips a").count() and not said


@pytest.mark.parametrize("chart", ["english_against_mixed", "budget_curves"])
def test_a_click_on_a_point_of_a_curve_opens_its_setting(chart, opened_alone, tables, tmp_path):
    body = Markup(embed.chart_block(getattr(charts, chart)(tables[chart]).to_dict(), draw=False))
    (tmp_path / "whatif.html").write_text("<!doctype html><title>what if</title>", "utf8")
    page, _, _ = opened_alone(body, "charts.js", links=[Link("whatif.html", "What if")])
    assert "Choose a point" in page.inner_text(".bestofl-tools")
    page.locator(".mark-symbol path[aria-label*='only'], .mark-symbol path[aria-label*='own']").last.dispatch_event(
        "click"
    )
    page.wait_for_url(re.compile(r"/whatif\.html#"))
    assert re.fullmatch(r".*#[\w-]+/\w+/\d+", page.url)
