"""A report to give away: one file that opens from a mail's attachment, or a folder that any web server can serve."""

from __future__ import annotations

import functools
import http.server
import threading

import nbformat
import pytest
from producers import small_run

from bestofl_lib.display import charts, embed
from bestofl_lib.display.report.share import share, share_folder


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


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def site(shared):
    """The folder, and the address under which a plain web server serves it."""
    run, states, folder = shared
    path = folder / "site"
    size = share_folder(run, path, title="A study", states=states)
    assert size == sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) < 6_000_000
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(_Quiet, directory=path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield path, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("how", ["from disk", "from a web server"])
def test_a_folder_opens_from_disk_and_from_a_web_server(site, browser, how):
    path, served = site
    root = path.as_uri() if how == "from disk" else served
    context = browser.new_context(offline=how == "from disk")
    page, asked, said = context.new_page(), [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: said.append(message.text))
    page.on("pageerror", lambda error: said.append(str(error)))
    page.goto(f"{root}/index.html")
    page.wait_for_selector("figure.bestofl-chart[data-drawn=yes] svg")
    assert page.locator(".tile").count() == 4
    for name in ("Curves", "Atlas", "What if"):
        page.click(f"nav a:has-text('{name}')")
        page.wait_for_selector({"Curves": "figure svg", "Atlas": ".atlas .card", "What if": ".whatif .big"}[name])
    context.close()
    assert not said and all(url.startswith(root) or url == "data:," for url in asked)


def test_a_folder_of_somebody_elses_files_is_never_replaced(shared, tmp_path):
    run, states, _ = shared
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter.tex").write_text("years of work", "utf8")
    with pytest.raises(ValueError, match="thesis .*new or an empty folder"):
        share_folder(run, tmp_path / "thesis", title="A study", states=states)
    assert [file.name for file in (tmp_path / "thesis").iterdir()] == ["chapter.tex"]
