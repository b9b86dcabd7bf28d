"""What a model wrote runs nothing in the report, and the report is accessible: in a real browser, with the network off."""

from __future__ import annotations

import nbformat
import pytest
from made_up_runs import write_run

from bestofl_lib.analysis import comparison
from bestofl_lib.display import charts, embed
from bestofl_lib.display.report import compare
from bestofl_lib.display.report.build import build_report
from bestofl_lib.runs import Run

pytestmark = pytest.mark.slow

PWN = "window.PWN=1"
PAYLOADS = [
    f"<script>{PWN}</script>",
    f"</script><script>{PWN}</script>",
    f'"</script><script>{PWN}</script>',
    f"<ScRiPt>{PWN}</sCrIpT>",
    f"<img src=x onerror='{PWN}'>",
    f"<svg onload='{PWN}'></svg>",
    f"<svg><script>{PWN}</script></svg>",
    f"<svg><animate onbegin='{PWN}' attributeName=x dur=1s>",
    f"<a href='javascript:{PWN}' id=pwn>x</a>",
    "<iframe srcdoc='<script>parent.PWN=1</script>'></iframe>",
    "<iframe src='javascript:parent.PWN=1'></iframe>",
    f"<object data='javascript:{PWN}'></object>",
    f"<embed src='data:text/html,<script>{PWN}</script>'>",
    f"<body onload='{PWN}'>",
    "<style>body{display:none!important}</style>",
    "<link rel=stylesheet href=//example.org/x.css>",
    "<img src=https://example.org/x.png>",
    "<meta http-equiv=refresh content='0;url=https://example.org'>",
    "<base href=https://example.org/>",
    "<form id=atlas><input name=dataset></form>",
    "<div class=atlas data-atlas><script type='application/json'>\"x\"</script></div>",
    "<a id=bestofl></a><a id=bestofl name=drawAll></a>",
    "<a id=MathJax><a id=MathJax name=Hub>",
    "<button data-commandlinker-command='terminal:create-new'>x</button>",
    f"<details open ontoggle='{PWN}'>",
    f"<input autofocus onfocus='{PWN}'>",
    f"<video><source onerror='{PWN}'></video>",
    f"<math><mtext></math><img src=x onerror='{PWN}'>",
    f"$$\\href{{javascript:{PWN}}}{{x}}$$",
    f"$\\text{{<img src=x onerror='{PWN}'>}}$",
    "$\\require{html}\\style{display:none}{x}$",
    f"\\(\\unicode{{<script>{PWN}</script>}}\\)",
    f"[x](javascript:{PWN})",
    "![x](https://example.org/x.png)",
    f"```html\n<script>{PWN}</script>\n```",
    "| a | b |\n|---|---|\n| <b>x</b> | y |",
    f"<!--><script>{PWN}</script>-->",
    f"<![CDATA[<script>{PWN}</script>]]>",
    f"${{{PWN}}}",
    "{{constructor.constructor('window.PWN=1')()}}",
    f"'-{PWN}-'",
    "__proto__",
    "\x1b]8;;https://example.org\x07link\x1b]8;;\x07",
    f"\x1b[31m<script>{PWN}</script>\x1b[0m",
    f"\u2028<script>{PWN}</script>\u2029",
    f"\u202e<script>{PWN}</script>",
    "\x00\ufeff<script>\x00window.PWN=1</script>",
    '=HYPERLINK("https://example.org")',
    f"<marquee onstart='{PWN}'>",
    f"<xss style='animation:x' onanimationstart='{PWN}'>",
]
PROBLEMS = 5


@pytest.fixture(scope="module")
def report(tmp_path_factory, tables):
    """A report whose questions, completions, answers' words and names are payloads, and a comparison with another run."""
    folder = tmp_path_factory.mktemp("safety")
    keys = [
        (f"lab-test-{place:04d}", code, index)
        for place in range(PROBLEMS)
        for code in ("en", "th")
        for index in range(5)
    ]
    texts = {key: payload + "\nThe answer is 7." for key, payload in zip(keys, PAYLOADS, strict=False)}
    questions = {
        (f"lab-test-{place:04d}", code): PAYLOADS[place * 2 + (code == "th")]
        for place in range(PROBLEMS)
        for code in ("en", "th")
    }
    shape = {"n_problems": PROBLEMS, "n": 5, "languages": ("en", "th"), "mono": False}
    run = write_run(folder / "runs", "bad", texts=texts, questions=questions, **shape)
    other = write_run(folder / "runs", "other", seed=9, **shape)
    readings = run.read("readings")
    run.write("readings", readings.with_columns(note=readings["note"].clear(readings.height).fill_null(PAYLOADS[0])))
    rewards = run.read("rewards")
    run.write("rewards", rewards.with_columns(reward_model=rewards["reward_model"].replace({"multi": PAYLOADS[4]})))
    write_notebook(run, "03_check_answers", [])
    write_notebook(run, "06_all_charts", [getattr(charts, name)(tables[name]) for name in charts.__all__])
    made = {"outputs": {"readings.parquet": "0" * 16, "rewards.parquet": "0" * 16}, "parameters": {"word": PAYLOADS[1]}}
    run.record("notebooks", {"03_check_answers": made})
    other.record("notebooks", {"03_check_answers": {"parameters": {"word": PAYLOADS[2]}}})
    built = build_report(
        run,
        folder / "reports" / "bad",
        title="A study",
        states=dict.fromkeys(("03_check_answers", "06_all_charts"), ("up to date", "")),
    ).parent
    compare.write_page([run, other], [comparison.compare_runs(run, other)], folder / "reports")
    return built


def write_notebook(run: Run, name: str, made: list) -> None:
    cells = [nbformat.v4.new_markdown_cell(f"# {name}\n\n> Is it read?")]
    for chart in made:
        data, metadata = embed._render(chart.to_dict())
        shown = nbformat.v4.new_output("display_data", data=data, metadata=metadata)
        cells.append(nbformat.v4.new_code_cell("x", execution_count=1, outputs=[shown]))
    (run.folder / "notebooks").mkdir(exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), run.folder / "notebooks" / f"{name}.ipynb")


def test_there_are_at_least_thirty_payloads_and_all_reach_the_report(report):
    assert len(set(PAYLOADS)) == len(PAYLOADS) >= 30
    assert len(PAYLOADS) <= PROBLEMS * 2 * 5


def test_no_payload_runs_in_the_atlas(opened, report):
    page, asked, said = opened(report / "atlas.html")
    shown = ""
    for place in range(PROBLEMS):
        page.locator(".atlas select").nth(1).select_option(label=f"lab-test-{place:04d}")
        page.evaluate("document.querySelectorAll('.fold:not([hidden])').forEach((button) => button.click())")
        shown += page.evaluate("document.querySelector('.board').textContent")
        assert (
            page.evaluate(
                "document.querySelectorAll('.board :is(script, img, svg, iframe, object, embed, form, input, style, link, base, video, a, [onerror], [onload], [href])').length"
            )
            == 0
        )
    page.wait_for_timeout(300)
    assert page.evaluate("typeof window.PWN") == "undefined" and said == []
    assert all(url.startswith(report.as_uri()) or url == "data:," for url in asked)
    for payload in PAYLOADS:
        if "$" not in payload and "\\(" not in payload and payload.isprintable():
            assert payload in shown, "it is shown as it was written"
    assert page.evaluate("getComputedStyle(document.body).display") == "block"
    assert page.evaluate("document.querySelectorAll('main > .atlas[data-atlas]').length") == 1


def test_no_payload_runs_on_the_other_pages(opened, report):
    for path in (report / "index.html", report / "03_check_answers.html", report.parent / "compare-bad-other.html"):
        page, asked, said = opened(path)
        page.wait_for_timeout(200)
        assert page.evaluate("typeof window.PWN") == "undefined" and said == [], path.name
        assert all(url.startswith(report.parent.as_uri()) or url == "data:," for url in asked), path.name
        assert page.evaluate("getComputedStyle(document.body).display") == "block"


@pytest.mark.parametrize(("width", "scheme"), [(1000, "light"), (390, "dark")])
def test_a_cell_of_the_heat_map_opens_its_problem(opened, report, width, scheme):
    page, _, said = opened(report / "atlas.html", width, scheme)
    page.locator(".atlas select").first.select_option("id")
    page.locator(".atlas canvas").scroll_into_view_if_needed()
    box = page.locator(".atlas canvas").bounding_box()
    flat = width >= 640
    along, across = (3.5 / PROBLEMS, 0.75)
    x, y = (along, across) if flat else (across, along)
    page.mouse.click(box["x"] + x * box["width"], box["y"] + y * box["height"])
    assert page.locator(".atlas .problem h2").inner_text() == "lab-test-0003"
    assert page.evaluate("location.hash") == "#lab-test-0003/th"
    assert page.locator(".column.here h3").inner_text().startswith("Thai")
    assert page.evaluate("document.documentElement.scrollWidth") <= width and said == []


def test_the_keyboard_alone_opens_a_problem(opened, report):
    page, _, _ = opened(report / "atlas.html")
    page.locator(".atlas .grid").focus()
    page.keyboard.press("Home")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    wanted = page.evaluate("document.querySelector('.detail').textContent")
    assert page.locator(".atlas .problem h2").inner_text() in wanted and "Thai" in wanted


def test_a_link_to_a_problem_opens_it(opened, report):
    page, _, _ = opened(report / "atlas.html")
    page.goto((report / "atlas.html").as_uri() + "#lab-test-0002/th")
    page.wait_for_function(
        "document.querySelector('.atlas .problem h2')?.textContent === 'lab-test-0002'", timeout=20_000
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize(
    "name", ["index.html", "03_check_answers.html", "06_all_charts.html", "atlas.html", "../compare-bad-other.html"]
)
def test_axe_finds_no_serious_fault(opened, report, name, scheme):
    axe = pytest.importorskip(
        "axe_playwright_python.sync_playwright", reason="axe-core is not installed (pip install axe-playwright-python)"
    )
    page, _, _ = opened((report / name).resolve(), scheme=scheme)
    found = axe.Axe().run(page).response["violations"]
    serious = [
        (fault["id"], [node["html"][:160] for node in fault["nodes"][:3]])
        for fault in found
        if fault["impact"] in ("serious", "critical")
    ]
    assert serious == []


def test_the_chart_library_is_not_asked_for_where_there_is_no_chart(report):
    assert "vega.js" not in (report / "atlas.html").read_text("utf8") and embed.asset("atlas.js")


def test_the_atlas_finds_problems_by_id_and_by_what_is_right_here_and_wrong_there(opened, report):
    page, _, said = opened(report / "atlas.html")
    count = lambda: page.inner_text(".atlas .count")  # noqa: E731
    page.fill(".atlas input[type=search]", "0003")
    assert count() == f"1 of {PROBLEMS} problems"
    page.fill(".atlas input[type=search]", "no problem says this")
    assert count() == f"0 of {PROBLEMS} problems" and "No problem fulfils" in page.inner_text(".atlas .detail")
    page.fill(".atlas input[type=search]", "")
    whole = page.inner_text(".atlas .shares")
    page.select_option(".atlas select[aria-label='not solved in']", label="Thai")
    shown = count()
    assert page.inner_text(".atlas .shares") != whole or shown == f"{PROBLEMS} problems"
    assert not said
