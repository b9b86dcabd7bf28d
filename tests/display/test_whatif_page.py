"""The page that answers back computes what the library computes, to nine digits, and opens the problems that flip."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from markupsafe import Markup

from bestofl_lib.analysis.arrays import arrays_of_run
from bestofl_lib.analysis.best_of_k import best_of_allocation
from bestofl_lib.analysis.coverage import coverage_of_allocation
from bestofl_lib.analysis.votes import majority_of_allocation
from bestofl_lib.display import charts, embed
from bestofl_lib.display.report.pages import Link
from bestofl_lib.display.report.whatif import whatif_body, whatif_data

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
  return E.bestOf(data.ranks[way][0].map((rows) => rows[p]), correct, allocation);
})"""


@pytest.fixture(scope="module")
def arrays(small):
    return arrays_of_run(small)


@pytest.fixture(scope="module")
def data(arrays):
    return json.loads(json.dumps(whatif_data(arrays, "atlas.html#{}")))


@pytest.fixture
def page(opened, tmp_path):
    path = tmp_path / "empty.html"
    path.write_text(f"<!doctype html><script>{embed.asset('estimators.js')}</script>", "utf8")
    return opened(path)[0]


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_the_page_computes_what_the_library_computes(page, data, arrays, allocation):
    vector = [allocation.get(code, 0) for code in arrays.languages]
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


@pytest.mark.parametrize("allocation", ALLOCATIONS)
def test_the_page_votes_as_the_library_votes(page, data, arrays, allocation):
    vector = [allocation.get(code, 0) for code in arrays.languages]
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
    assert read() < first and "points ±" in page.inner_text(".whatif")
    assert page.locator(".flips a").first.get_attribute("href").startswith("atlas.html#lab-test-")
    page.locator(".whatif tbody input[type=range]").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.inner_text(".whatif output").strip() == "9" and not said
    assert page.evaluate("document.documentElement.scrollWidth") <= 1000


def test_a_point_of_a_chart_opens_as_a_setting_beside_the_base_language(opened_alone, data, arrays):
    page, _, said = opened_alone(whatif_body(data), "whatif.js")
    page.wait_for_function("document.documentElement.dataset.whatif === 'drawn'")
    read = lambda: float(page.get_attribute(".whatif", "data-accuracy"))  # noqa: E731
    for name, codes in (("mixed", arrays.languages), (f"mixed-{arrays.base}", arrays.languages[1:]), ("sw", ("sw",))):
        page.evaluate("(hash) => { window.location.hash = hash }", f"{name}/cross/3")
        page.wait_for_function(
            "(n) => document.querySelectorAll('.whatif th input:checked').length === n", arg=len(codes)
        )
        if name == "sw":
            rewards, correct = arrays.reward("cross", codes), {c: arrays.is_correct[c] for c in codes}
            assert read() == pytest.approx(best_of_allocation(rewards, correct, {"sw": 3}).mean(), abs=1e-9)
        assert "best of k by cross reward, en 3" in page.inner_text(".whatif")
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
