"""The report's pages, from notebooks whose outputs are written by hand."""

from __future__ import annotations

import re

import nbformat
import polars as pl
import pytest

from bestofl_lib.display import charts, embed, words
from bestofl_lib.display.report import build as report_build
from bestofl_lib.display.report.build import LARGEST, SIMULATED, build_report
from bestofl_lib.display.text import inert_text
from bestofl_lib.runs import UNDER_STUDY, Run
from bestofl_lib.text import signed

FRESH = ("up to date", "")


@pytest.fixture
def run(tmp_path, monkeypatch, tables) -> Run:
    monkeypatch.setattr(embed, "chart_library", lambda: "window.vegaEmbed = () => 0;")
    run = Run("tiny", tmp_path / "runs")
    notebook(
        run,
        "01_make_numbers",
        "# Numbers\n\n> How many are there?\n\n**Needs** nothing",
        [
            output({"text/html": embed._render({"mark": "bar"})[0]["text/html"]}, {"bestofl": "chart"}),
        ],
    )
    notebook(
        run,
        "08_budget_curves",
        "# Budget curves\n\n> What does a budget buy?",
        [
            nbformat.v4.new_output(
                "display_data", data={"text/html": "<script>the library</script>"}, metadata={"bestofl": "setup"}
            ),
            chart(charts.budget_curves(tables["budget_curves"])),
            chart(charts.english_against_mixed(tables["english_against_mixed"])),
            chart(charts.claims_forest(tables["claims"])),
            output({"text/html": pl.DataFrame({"completion": ["<script>window.PWN=1</script>"]})._repr_html_()}),
            output(
                {
                    "text/markdown": "**Bold** <script>window.PWN=2</script> <img src=x onerror=alert(1)> [x](javascript:alert(1))"
                }
            ),
            output({"text/plain": "plain <b>"}),
            nbformat.v4.new_output("stream", name="stdout", text="\x1b[31mred\x1b[0m <i>\n 10 %\r100 %\n"),
        ],
    )
    run.write("claims", tables["claims"])
    run.record(
        "notebooks",
        {
            "01_make_numbers": {
                "status": "done",
                "parameters": {"n": 3, "word": "<b>"},
                "started": "2026-01-02T03:04:05+00:00",
                "seconds": 12.5,
                "peak_memory_mb": 300,
                "git": "abc1234, clean",
                "versions": {"python": "3.11", "torch": "2.13"},
                "inputs": {},
                "outputs": {"numbers.parquet": "0123456789abcdef"},
            },
        },
    )
    return run


def output(data, metadata=None):
    return nbformat.v4.new_output("execute_result", data=data, metadata=metadata or {}, execution_count=1)


def chart(made):
    data, metadata = embed._render(made.to_dict())
    return output(data, metadata)


def notebook(run, name, text, outputs, code="x = 1"):
    path = run.folder / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [nbformat.v4.new_markdown_cell(text), nbformat.v4.new_code_cell(code, outputs=outputs, execution_count=1)]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


def build(run, tmp_path, **states):
    target = tmp_path / "reports" / run.name
    build_report(run, target, title="A study", states=states or {"01_make_numbers": FRESH, "08_budget_curves": FRESH})
    return target, {path.name: path.read_text("utf8") for path in target.glob("*.html")}


def test_the_title_is_the_run_s_and_not_the_study_s(run, tmp_path):
    records = run.recorded()["notebooks"]
    records["01_make_numbers"]["parameters"] = {"source": "mgsm", "model": "someone/else"}
    run.record("notebooks", records)
    _, pages = build(run, tmp_path)
    assert "<h1>mgsm</h1>" in pages["index.html"]


def test_a_report_is_an_overview_and_a_page_per_notebook(run, tmp_path):
    target, pages = build(run, tmp_path)
    assert set(pages) == {"index.html", "01_make_numbers.html", "08_budget_curves.html", "intervals.html"}
    assert {path.name for path in (target / "assets").iterdir()} == {"vega.js", "charts.js", "page.css", "state.js"}
    assert "How many are there?" in pages["index.html"] and 'href="08_budget_curves.html"' in pages["index.html"]


def test_the_tests_behind_the_verdicts_link_to_how_often_such_intervals_hold_the_truth(run, tmp_path):
    _, pages = build(run, tmp_path)
    assert '<a href="intervals.html">how often' in pages["index.html"]
    rows = [line for line in SIMULATED.read_text("utf8").splitlines() if line.startswith("| 0.")]
    assert pages["intervals.html"].count("<tr>") == len(rows) + 1
    assert "make coverage" in pages["intervals.html"] and "://" not in pages["intervals.html"]


def test_the_overview_opens_with_the_result_then_tiles_one_chart_tests_and_words(run, tmp_path, tables):
    _, pages = build(run, tmp_path)
    text = pages["index.html"]
    places = [
        text.index(part)
        for part in ('class="subject"', 'class="result"', 'class="tiles"', "<figure", "Tests behind", "Words used")
    ]
    assert places == sorted(places), "sentences, tiles, one chart, then tests and words"
    assert text.count('<li class="tile">') == 4
    first = tables["claims"].row(0, named=True)
    assert f">{first['verdict']}</span>" in text and signed(first["effect"]) in text


def test_a_study_of_another_model_is_titled_and_cited_by_what_it_asked_and_of_what(run, tmp_path):
    made = {**run.recorded()["notebooks"]["01_make_numbers"], "parameters": {"source": "mgsm", "model": "x/Other-1B"}}
    run.record("notebooks", {**run.recorded()["notebooks"], "01_make_numbers": made})
    run.record("study", {"name": "mgsm", "title": "A study", "overrides": {"model": "x/Other-1B"}})
    _, pages = build(run, tmp_path)
    for text in pages.values():
        assert "A study" not in text
    assert "Cite: Best-of-L, mgsm." in pages["index.html"]


def test_an_imported_pool_without_rewards_says_what_stands_in_for_a_reward_model(run, tmp_path, monkeypatch):
    monkeypatch.setenv(UNDER_STUDY, "yes")  # which may write the table twice
    records = run.recorded()["notebooks"]
    records["01_make_numbers"]["parameters"] = {"pool": "mine/answers.jsonl"}
    run.record("notebooks", records)
    rows = pl.DataFrame({"reward_model": ["cross"], "rows": [40], "available": [90]})
    for rewards, said in ((rows.clear(), False), (rows, True)):
        run.write("baseline", rewards)
        text = build(run, tmp_path)[1]["index.html"]
        assert (words.BASELINE_CAVEAT.replace("'", "&#39;") in text) == said


def test_the_overview_shows_the_one_chart_that_tells_the_story(run, tmp_path):
    _, pages = build(run, tmp_path)
    names = re.findall(r'"name": "(\w+)"', pages["index.html"])
    assert names == ["english_against_mixed"]


def test_no_page_asks_for_anything_from_elsewhere(run, tmp_path):
    target, pages = build(run, tmp_path)
    for name, text in pages.items():
        bare = re.sub(r'<script type="application/json">.*?</script>', "", text)
        found = re.findall(r"""(?:src|href)=["']?([^"' >]+)""", bare)
        assert all(not re.match(r"(?:https?:)?//", link) for link in found), name
        assert "default-src 'none'" in text and "url(" not in bare
    assert "@import" not in (target / "assets" / "page.css").read_text()


def test_the_chart_library_stands_once_and_only_pages_with_charts_ask_for_it(run, tmp_path):
    notebook(run, "02_plain", "# Plain\n\n> Is there a chart?", [])
    target, pages = build(run, tmp_path, **{"01_make_numbers": FRESH, "02_plain": FRESH})
    assert "assets/vega.js" in pages["01_make_numbers.html"] and "assets/vega.js" not in pages["02_plain.html"]
    assert "the library" not in "".join(pages.values())
    assert sum(path.stat().st_size for path in target.rglob("*") if path.is_file()) < LARGEST


def test_written_sentences_lists_and_tables_are_set_as_such(run, tmp_path):
    table = "| a | b |\n|---|---|\n| 1 | 2 |"
    notebook(
        run,
        "02_said",
        "# Said\n\n> What?",
        [output({"text/markdown": f"One **bold** sentence.\n\n* first\n* second\n\n{table}"})],
    )
    _, pages = build(run, tmp_path, **{"02_said": FRESH})
    text = pages["02_said.html"]
    assert "<p>One <strong>bold</strong> sentence.</p>" in text and "<li>second</li>" in text and "<td>2</td>" in text
    assert "&lt;" not in text.split("Where this")[0].split("<main>")[1].split("</details>")[-1]


def test_no_page_holds_a_script_that_would_run_by_itself(run, tmp_path):
    _, pages = build(run, tmp_path)
    for text in pages.values():
        scripts = re.findall(r"<script([^>]*)>", text)
        assert all(
            attributes == ' type="application/json"' or attributes.startswith(' src="assets/') for attributes in scripts
        )
        assert "<img" not in text.replace("&lt;img", "") and 'href="javascript' not in text


def test_what_a_model_wrote_is_shown_as_text(run, tmp_path):
    _, pages = build(run, tmp_path)
    text = pages["08_budget_curves.html"]
    assert "&lt;script&gt;window.PWN=1&lt;/script&gt;" in text and "plain &lt;b&gt;" in text
    assert "red &lt;i&gt;" in text and "\x1b" not in text and "<strong>Bold</strong>" in text


def test_terminal_escapes_and_overwritten_lines_are_dropped_from_plain_text():
    assert inert_text("\x1b[1;31ma\x1b[0m\x07 1 %\r2 %\r\n<b>\x00") == "2 %\n&lt;b&gt;"


def test_every_page_ends_with_where_it_comes_from(run, tmp_path):
    _, pages = build(run, tmp_path)
    end = pages["01_make_numbers.html"].split("Where this page comes from")[1]
    for part in (
        "n = 3",
        "&lt;b&gt;",
        "2026-01-02",
        "12.5 s",
        "300 MB",
        "abc1234, clean",
        "torch 2.13",
        "numbers.parquet 01234567",
    ):
        assert part in end


def test_code_is_folded(run, tmp_path):
    _, pages = build(run, tmp_path)
    assert '<details class="code"><summary>code</summary>' in pages["01_make_numbers.html"]


def test_a_failed_notebook_has_a_banner_and_the_claims_are_withheld(run, tmp_path):
    _, pages = build(
        run,
        tmp_path,
        **{
            "01_make_numbers": ("failed", "cell [3]: <KeyError>"),
            "08_budget_curves": ("stale", "earlier table changed"),
        },
    )
    assert set(pages) == {"index.html", "01_make_numbers.html"}
    assert (
        'role="alert"' in pages["01_make_numbers.html"]
        and "cell [3]: &lt;KeyError&gt;" in pages["01_make_numbers.html"]
    )
    assert "08_budget_curves (stale: earlier table changed)" in pages["index.html"]
    assert "Tests behind" not in pages["index.html"] and "once all have run" in pages["index.html"]


def test_pages_of_an_older_report_do_not_stay(run, tmp_path):
    target, _ = build(run, tmp_path)
    (target / "old.html").write_text("old")
    build(run, tmp_path)
    assert not (target / "old.html").exists()
    assert [path.name for path in target.parent.iterdir()] == ["tiny"]


def test_a_report_that_cannot_be_written_leaves_the_old_one(run, tmp_path, monkeypatch):
    target, _ = build(run, tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(report_build, "_put_in_place", full)
    with pytest.raises(OSError, match="No space left"):
        build(run, tmp_path)
    assert (target / "index.html").exists() and [path.name for path in target.parent.iterdir()] == ["tiny"]


def written_files(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_pages_of_a_run_that_was_not_finished_say_so_until_they_are_built_again(run, tmp_path):
    target, pages = build(run, tmp_path)
    state = target / "assets" / "state.js"
    assert state.read_text() == "" and all("assets/state.js" in text for text in pages.values())
    before = written_files(target)
    report_build.mark_unfinished(target, "started </script> and not finished")
    assert "started \\u003c/script" in state.read_text() and written_files(target) != before
    build(run, tmp_path)
    assert state.read_text() == "" and written_files(target)["assets/state.js"] == before["assets/state.js"]
    report_build.mark_unfinished(tmp_path / "none", "no report, nothing to mark")
    assert not (tmp_path / "none").exists()
