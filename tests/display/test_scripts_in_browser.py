"""Right-to-left and complex scripts in the atlas and the explorer, in a real browser: direction, language and fonts."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from scripts_pool import CODES, QUESTIONS, write_pool

from bestofl_lib.analysis import run_scan
from bestofl_lib.display.embed import inert_json
from bestofl_lib.display.explorer.widget import Explorer
from bestofl_lib.display.report.build import build_report

pytestmark = pytest.mark.slow
RIGHT_TO_LEFT = {"ar", "he"}
HARNESS = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<style>:root {{ color-scheme: light dark }} body {{ margin: 12px; background: Canvas; color: CanvasText }}</style><style>{css}</style>
<div id="view"></div><script type="application/json" id="data">{data}</script><script type="module">
{code}
const held = JSON.parse(document.getElementById("data").textContent);
const model = {{ get: (name) => held[name], on() {{}}, off() {{}}, set() {{}}, save_changes() {{}}, send() {{}} }};
render({{ model, el: document.getElementById("view") }});
document.documentElement.dataset.atlas = "drawn";  // what `opened` waits for
</script>"""
# A font without a glyph draws the same box for every missing character: two different letters then have the same picture.
SAME = """(pairs) => pairs.map(([code, a, b]) => {
  const draw = (text) => {
    const canvas = Object.assign(document.createElement("canvas"), { width: 60, height: 60 });
    const pen = canvas.getContext("2d");
    pen.font = `30px ${getComputedStyle(document.body).fontFamily}`;
    pen.fillText(text, 10, 40);
    return canvas.toDataURL();
  };
  return draw(a) === draw(b) ? code : null;
}).filter(Boolean)"""
LETTERS = {"ar": "كم", "he": "לד", "hi": "मन", "ko": "지수", "ta": "மன", "th": "มล", "zh": "小明"}


def write_pages(folder: Path) -> dict[str, Path]:
    """The atlas of the small pool's report, and the explorer's view of it without a kernel."""
    run = write_pool(folder / "runs")
    outputs = {"readings.parquet": "0" * 16, "problems.parquet": "0" * 16}
    run.record("notebooks", {"03_check_answers": {"parameters": {}, "outputs": outputs}})
    states = {"03_check_answers": ("up to date", "")}
    atlas = build_report(run, folder / "reports" / "scripts", title="Scripts", states=states).with_name("atlas.html")
    view = Explorer(run_scan.open_run(run))
    held = {name: getattr(view, name) for name in ("meta", "state", "atlas", "problem", "what_if")}
    page = folder / "explorer.html"
    code = view._esm.replace("export default { render };", "")
    page.write_text(HARNESS.format(css=view._css, data=inert_json(held), code=code), "utf8")
    return {"atlas": atlas, "explorer": page}


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return write_pages(tmp_path_factory.mktemp("scripts"))


@pytest.mark.parametrize("name", ["atlas", "explorer"])
def test_each_language_is_marked_and_runs_in_its_direction(pages, opened, name):
    page, _, faults = opened(pages[name])
    if name == "atlas":
        page.evaluate("location.hash = 'apples-0'")
    page.wait_for_selector(".question")
    for code in CODES:
        question = page.locator(f'.question[lang="{code}"]').first
        assert QUESTIONS[code].format(a=3, b=4)[:10] in question.inner_text() or name == "explorer"
        wanted = "rtl" if code in RIGHT_TO_LEFT else "ltr"
        assert question.evaluate("e => getComputedStyle(e).direction") == wanted
        text = page.locator(f'.text[lang="{code}"]').first
        assert (
            text.evaluate(
                "e => [...new Set([e, ...e.querySelectorAll('p, div')].map(x => getComputedStyle(x).direction))]"
            )[0]
            == wanted
        )
    assert not faults


def test_no_letter_is_an_empty_box(pages, opened):
    page, _, _ = opened(pages["atlas"])
    assert page.evaluate(SAME, [[code, *letters] for code, letters in LETTERS.items()]) == []
    assert page.evaluate(SAME, [["none", "\U000e0f00", "\U000e0f01"]]) == ["none"], "letters of no font look the same"


@pytest.mark.parametrize("name", ["atlas", "explorer"])
def test_the_sign_of_a_root_is_drawn(pages, opened, name):
    """Chromium draws none where the first font of the formula lacks it, and √3 then reads 3."""
    page, _, _ = opened(pages[name])
    wide = page.evaluate("""() => ["<mn>3</mn>", "<msqrt><mn>3</mn></msqrt>"].map((inner) => {
      const box = document.querySelector(".question").appendChild(document.createElement("span"));
      box.innerHTML = `<math>${inner}</math>`;
      return box.getBoundingClientRect().width;
    })""")
    assert wide[1] > 1.5 * wide[0]


@pytest.mark.parametrize("name", ["atlas", "explorer"])
def test_nothing_sticks_out_of_a_narrow_screen(pages, opened, name):
    page, _, _ = opened(pages[name])
    page.set_viewport_size({"width": 390, "height": 800})
    page.wait_for_timeout(300)
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert json.loads(page.evaluate("JSON.stringify([document.dir])")) == [""], "the page itself stays left to right"
