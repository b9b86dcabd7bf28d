"""A report as one file: it opens from a mail's attachment, offline, with every page, chart and completion in it."""

from __future__ import annotations

import nbformat
import pytest
from producers import small_run

from bestofl_lib.display import charts, embed
from bestofl_lib.display.report.share import share


@pytest.fixture(scope="module")
def shared(tmp_path_factory, tables):
    folder = tmp_path_factory.mktemp("share")
    run = small_run(folder / "runs")
    data, metadata = embed._render(charts.english_against_mixed(tables["english_against_mixed"]).to_dict())
    shown = nbformat.v4.new_output("display_data", data=data, metadata=metadata)
    cells = [
        nbformat.v4.new_markdown_cell("# Curves\n\n> What?"),
        nbformat.v4.new_code_cell("x", outputs=[shown], execution_count=1),
    ]
    (run.folder / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), run.folder / "notebooks" / "08_budget_curves.ipynb")
    run.record(
        "notebooks", {"08_budget_curves": {"outputs": {"readings.parquet": "0" * 16, "rewards.parquet": "0" * 16}}}
    )
    states = {"08_budget_curves": ("up to date", "")}
    return run, states, folder


def test_one_file_holds_all_and_asks_for_nothing(shared, opened):
    run, states, folder = shared
    path = folder / "mail" / "report.html"
    size = share(run, path, title="A study", states=states)
    assert size == path.stat().st_size < 4_000_000 and [p.name for p in path.parent.iterdir()] == ["report.html"]
    page, asked, said = opened(path)
    assert page.locator("figure.bestofl-chart svg").count() >= 1 and page.locator(".tile").count() == 4
    page.click("nav a:has-text('Atlas')")
    page.wait_for_selector(".atlas .card")
    assert page.locator("section.page:visible").count() == 1
    page.click("nav a:has-text('Curves')")
    page.wait_for_selector("section[data-page='08_budget_curves'] svg")
    assert not said and all(url.startswith(path.as_uri()) or url == "data:," for url in asked)


def test_a_file_that_would_be_too_large_leaves_out_completions_and_says_so(shared, tmp_path):
    run, states, _ = shared
    whole = share(run, tmp_path / "whole.html", title="A study", states=states)
    smaller = share(run, tmp_path / "small.html", title="A study", states=states, largest=whole - 2_000)
    assert smaller <= whole - 2_000 and "candidates are embedded" in (tmp_path / "small.html").read_text("utf8")
    with pytest.raises(ValueError, match="more than 100,000"):
        share(run, tmp_path / "none.html", title="A study", states=states, largest=100_000)
    assert not (tmp_path / "none.html").exists()
