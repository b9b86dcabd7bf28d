"""A report opened from disk in a real browser with the network off."""

from __future__ import annotations

import json

import polars as pl
import pytest
from made_up_runs import write_run
from producers import produce, write_executed

from bestofl_lib.display import charts, embed
from bestofl_lib.display.context import use_run
from bestofl_lib.display.report.build import build_report
from bestofl_lib.runs import Run

pytestmark = pytest.mark.slow

PAYLOADS = [
    "<script>window.PWN=1</script>",
    "</script><script>window.PWN=1</script>",
    "<img src=x onerror='window.PWN=1'>",
    "<svg onload='window.PWN=1'>",
    "<a href='javascript:window.PWN=1' id=pwn>x</a>",
    "<iframe srcdoc='<script>parent.PWN=1</script>'></iframe>",
    "<body onload='window.PWN=1'>",
    "<style>body{display:none}</style>",
    "<link rel=stylesheet href=//example.org/x.css>",
    "<img src=https://example.org/x.png>",
    "<object data='javascript:window.PWN=1'></object>",
    "<button data-commandlinker-command=x>x</button>",
    "<form id=bestofl><input name=draw></form>",
    "<meta http-equiv=refresh content='0;url=https://example.org'>",
    "<base href=https://example.org/>",
    "<details open ontoggle='window.PWN=1'>",
    "<video><source onerror='window.PWN=1'></video>",
    "<math><mtext></math><img src=x onerror='window.PWN=1'>",
    "<!--><script>window.PWN=1</script>-->",
    "]]><script>window.PWN=1</script>",
    '"><script>window.PWN=1</script>',
    "'-window.PWN=1-'",
    "${window.PWN=1}",
    "{{7*7}}",
    "{% raw %}<script>window.PWN=1</script>",
    "[x](javascript:window.PWN=1)",
    "![x](https://example.org/x.png)",
    "$$\\href{javascript:window.PWN=1}{x}$$",
    "```\n<script>window.PWN=1</script>\n```",
    "\x1b]8;;https://example.org\x07link\x1b]8;;\x07",
    "\x1b[31m<script>window.PWN=1</script>",
    "\u2028<script>window.PWN=1</script>\u2029",
    "\u202e<script>window.PWN=1</script>",
    '=HYPERLINK("https://example.org")',
    "<marquee onstart='window.PWN=1'>",
    "<input autofocus onfocus='window.PWN=1'>",
]


@pytest.fixture(scope="module")
def report(tmp_path_factory, tables):
    """A report with every chart, once with honest tables and once with payloads wherever text can stand."""
    folder = tmp_path_factory.mktemp("report")
    run = Run("tiny", folder / "runs")
    made = {name: getattr(charts, name)(tables[name]) for name in charts.__all__}
    write_executed(run, "01_all_charts", [embed._render(chart.to_dict()) for chart in made.values()])
    bad = tables["accuracy_by_language"].with_columns(language=pl.Series(PAYLOADS[:4]))
    rules = pl.DataFrame({"language": "en", "rule": PAYLOADS, "n": 1})
    names = pl.DataFrame(
        {"reward_model": PAYLOADS, "language": "en", "auc": 0.7, "low": 0.6, "high": 0.8, "n_pairs": 5}
    )
    texts = pl.DataFrame({"completion": PAYLOADS})
    with pl.Config(tbl_rows=100, fmt_str_lengths=500):
        table = texts._repr_html_()
    outputs = [
        embed._render(chart.to_dict())
        for chart in (charts.accuracy_by_language(bad), charts.reading_rules(rules), charts.reward_quality(names))
    ]
    outputs += [
        ({"text/html": table}, {}),
        ({"text/markdown": "\n\n".join(PAYLOADS)}, {}),
        ({"text/plain": "\n".join(PAYLOADS)}, {}),
    ]
    write_executed(run, "02_payloads", outputs)
    n = tables["claims"].height
    words = pl.Series((PAYLOADS * 9)[:n]), pl.Series((PAYLOADS * 9)[3 : n + 3])
    run.write("claims", tables["claims"].with_columns(statement=words[0], sentence=words[1]))
    run.record(
        "notebooks",
        {"02_payloads": {"parameters": {"word": PAYLOADS}, "error": {}, "outputs": {PAYLOADS[0]: "0" * 16}}},
    )
    states = {"01_all_charts": ("up to date", ""), "02_payloads": ("up to date", "")}
    return build_report(run, folder / "reports" / "tiny", title=PAYLOADS[1], states=states).parent


@pytest.mark.parametrize(("width", "scheme"), [(1000, "light"), (390, "dark")])
def test_every_chart_is_drawn_without_a_request_or_a_complaint(opened, report, width, scheme):
    page, asked, said = opened(report / "01_all_charts.html", width, scheme)
    drawn = page.evaluate(
        "[...document.querySelectorAll('.bestofl-chart')].map(f => f.dataset.drawn + f.querySelectorAll('svg .mark-text, svg path').length)"
    )
    assert len(drawn) == len(charts.__all__)
    assert all(mark.startswith("yes") and int(mark[3:]) > 3 for mark in drawn)
    assert {url.rsplit("/", 1)[0] for url in asked} <= {report.as_uri(), (report / "assets").as_uri()} | {"data:,"}
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width, "the page itself never scrolls sideways"


FIRST = """() => new Promise((done) => {
  const seen = () => document.querySelector('.bestofl-chart svg');
  const told = () => setTimeout(() => done([performance.now(), document.querySelectorAll('[data-drawn]').length]));
  const look = () => (seen() ? requestAnimationFrame(told) : setTimeout(look, 5));
  look();
})"""


@pytest.mark.parametrize("name", ["01_all_charts.html", "index.html"])
def test_the_first_chart_is_shown_within_a_second_of_work_and_before_the_others_are_worked_out(browser, report, name):
    context = browser.new_context(viewport={"width": 1200, "height": 800}, offline=True)
    try:
        page = context.new_page()
        process = context.new_cdp_session(page)
        process.send("Performance.enable", {"timeDomain": "threadTicks"})  # time of the processor, whoever else is busy
        page.goto((report / name).as_uri(), wait_until="commit")
        shown, drawn = page.evaluate(FIRST)
        metrics = {metric["name"]: metric["value"] for metric in process.send("Performance.getMetrics")["metrics"]}
        page.wait_for_function("document.documentElement.dataset.charts === 'drawn'", timeout=120_000)
        whole = page.evaluate("performance.now()")
    finally:
        context.close()
    assert metrics["TaskDuration"] < 1, "seconds of the page's thread"
    if name != "index.html":  # which has one chart
        assert drawn <= 4 and shown < whole / 2, (
            f"{shown:.0f} ms of {whole:.0f}, {drawn} drawn before the first is seen"
        )


LABELS = """() => [...document.querySelectorAll('.bestofl-chart')].map((figure) => {
  const edge = figure.getBoundingClientRect(), name = JSON.parse(figure.querySelector('script').textContent).usermeta.name, faults = [];
  const texts = [...figure.querySelectorAll('svg text')].filter((text) => text.textContent.trim() && getComputedStyle(text).opacity > 0.05);
  const boxes = texts.map((text) => {
    const b = text.getBoundingClientRect(), turned = /rotate\\((?!-?0[,)])/.test(text.getAttribute('transform') || '');
    return { text: text.textContent, turned, left: b.left + 1, right: b.right - 1, top: b.top + 3, bottom: b.bottom - 3 };
  });
  texts.forEach((text) => { if (parseFloat(getComputedStyle(text).fontSize) < 12) faults.push('small: ' + text.textContent); });
  boxes.forEach((box) => { if (box.left < edge.left - 2 || box.right > edge.right + 2) faults.push("outside: " + box.text + " " + Math.round(box.left - edge.left) + " " + Math.round(box.right - edge.right)); });
  boxes.forEach((one, i) => boxes.slice(i + 1).forEach((two) => {
    if (!one.turned && !two.turned && one.left < two.right && two.left < one.right && one.top < two.bottom && two.top < one.bottom) {
      faults.push('overprint: ' + one.text + ' | ' + two.text);
    }
  }));
  if (/…$/.test(texts.map((text) => text.textContent).find((text) => /…$/.test(text)) || '')) faults.push('cut: ' + texts.find((text) => /…$/.test(text.textContent)).textContent);
  return [name, faults];
}).filter(([name, faults]) => faults.length)"""


@pytest.mark.parametrize("width", [1200, 390])
def test_no_label_is_cut_overprints_another_or_leaves_its_chart(opened, of_many_languages, width):
    page, _, _ = opened(of_many_languages, width)
    assert page.evaluate(LABELS) == []
    wide = page.evaluate(
        "[...document.querySelectorAll('.bestofl-chart svg')].map((s) => s.getBoundingClientRect().width / s.closest('figure').clientWidth)"
    )
    assert min(wide) > 0.75, "a chart takes the width of its page, but for the room of its labels"


@pytest.fixture(scope="module")
def of_many_languages(tmp_path_factory):
    """A page with every chart of a run in seven languages of the lab."""
    folder = tmp_path_factory.mktemp("many-languages")
    run = write_run(folder / "runs", "many", n_problems=20, n=4, languages=("en", "de", "zh", "ja", "te", "sw", "bn"))
    made = produce(run)
    run.write("accuracy", made["accuracy_by_language"])
    use_run(run)
    try:
        drawn = [getattr(charts, name)(made[name]) for name in charts.__all__]
    finally:
        use_run(None)
    write_executed(run, "01_all_charts", [embed._render(chart.to_dict()) for chart in drawn])
    states = {"01_all_charts": ("up to date", "")}
    return build_report(run, folder / "report", title="All", states=states).parent / "01_all_charts.html"


@pytest.mark.parametrize("name", ["02_payloads.html", "index.html"])
def test_no_payload_runs_or_asks_for_anything(opened, report, name):
    page, asked, said = opened(report / name)
    page.evaluate("document.querySelectorAll('#pwn, a').forEach(a => a.href.startsWith('javascript') && a.click())")
    page.wait_for_timeout(500)
    assert page.evaluate("typeof window.PWN") == "undefined"
    assert all(url.startswith(report.as_uri()) or url == "data:," for url in asked)
    assert [line for line in said if "legend count" not in line] == []  # Vega says so of more than 30 reward models
    assert page.evaluate("[...document.querySelectorAll('.bestofl-chart')].every(f => f.dataset.drawn === 'yes')")
    assert (
        page.evaluate(
            "document.querySelectorAll('main iframe, main object, main form:not(.vega-bindings), main base, main meta, main video, main :not(svg, .bestofl-holder) > style').length"
        )
        == 0
    )
    assert page.evaluate("getComputedStyle(document.body).display") == "block"


def test_the_data_of_a_chart_is_offered_as_csv_that_no_spreadsheet_runs(opened, report, tmp_path):
    page, _, _ = opened(report / "01_all_charts.html")
    with page.expect_download() as saved:
        page.locator(".bestofl-chart button", has_text="CSV").first.click()
    saved.value.save_as(tmp_path / "data.csv")
    table = pl.read_csv(tmp_path / "data.csv")
    assert saved.value.suggested_filename == "accuracy_by_language.csv" and table.height == 4
    assert {"language", "accuracy", "low", "high", "unreadable"} <= set(table.columns)
    text = page.evaluate("window.bestofl.csv([{a: '=1+1', b: 'x,\"y\"', c: null, d: -1}])")
    assert text == 'a,b,c,d\r\n\'=1+1,"x,""y""",,-1\r\n'


def test_text_is_legible_in_dark_and_in_light(opened, report):
    for scheme in ("light", "dark"):
        page, _, _ = opened(report / "index.html", scheme=scheme)
        ink, paper = (
            page.evaluate("(s) => getComputedStyle(document.querySelector(s[0])).getPropertyValue(s[1])", pair)
            for pair in (["svg .role-axis-label text", "fill"], ["body", "background-color"])
        )
        assert contrast(ink, paper) >= 4.5, (scheme, ink, paper)


def contrast(one: str, other: str) -> float:
    """WCAG contrast of two `rgb(r, g, b)` colours."""

    def light(colour: str) -> float:
        parts = [int(part) / 255 for part in colour[colour.index("(") + 1 : colour.index(")")].split(",")[:3]]
        r, g, b = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    bright, dim = sorted((light(one), light(other)), reverse=True)
    return (bright + 0.05) / (dim + 0.05)


def test_the_whole_report_stays_small(report):
    size = sum(path.stat().st_size for path in report.rglob("*") if path.is_file())
    assert size < 6_000_000, json.dumps({path.name: path.stat().st_size for path in report.rglob("*")})
