"""Charts and tables as files for a paper: what is written, in which size, with which glyphs."""

from __future__ import annotations

import base64
import re

import nbformat
import polars as pl
import pytest

from bestofl_lib.display import charts, embed, figures, latex, pictures
from bestofl_lib.display.figures import charts_of, csv_of, export_figures, inches
from bestofl_lib.display.pictures import Look, draw_svg, size_of, to_png
from bestofl_lib.languages import LANGUAGES
from bestofl_lib.runs import Run

SCRIPTS = (
    "বাংলা ১৮",
    "Größe",
    "−18 %",
    "ñ",
    "œuvre",
    "答えは十八",
    "ответ",
    "jibu",
    "తెలుగు ౧౮",
    "คำตอบ ๑๘",
    "答案是十八",
)
needs_browser = pytest.mark.skipif(
    pictures.browser() is None, reason="no Chromium on this machine (apt-get install chromium)"
)


@pytest.fixture
def run(tmp_path, tables) -> Run:
    run = Run("tiny", tmp_path / "runs")
    made = charts.accuracy_by_language(tables["accuracy_by_language"]).to_dict()
    other = charts.accuracy_by_language(tables["accuracy_by_language"].head(3)).to_dict()
    evil = made | {"usermeta": {"name": "../evil<b>"}, "title": "evil"}
    outputs = []
    for spec in (made, other, made, evil):
        data, metadata = embed._render(spec)
        outputs.append(nbformat.v4.new_output("display_data", data=data, metadata=metadata))
    cells = [nbformat.v4.new_code_cell("x", outputs=outputs, execution_count=1)]
    (run.folder / "notebooks").mkdir(parents=True)
    nbformat.write(nbformat.v4.new_notebook(cells=cells), run.folder / "notebooks" / "03_check_answers.ipynb")
    run.write("claims", tables["claims"])
    return run


def test_the_charts_of_a_run_have_names_that_stay_in_their_folder_and_are_counted_once(run):
    assert [name for name, _ in charts_of(run)] == ["accuracy_by_language", "accuracy_by_language-2", "_evil_b_"]


@needs_browser
def test_every_chart_is_written_in_every_format_that_was_asked_for(run, tmp_path, tables):
    folder = tmp_path / "out"
    written = export_figures(run, folder, ("svg", "png", "pdf", "csv"), Look(3.3), ("accuracy",))
    assert {path.name for path in written} == {
        f"{name}.{ending}"
        for name in ("accuracy_by_language", "accuracy_by_language-2")
        for ending in ("svg", "png", "pdf", "csv")
    }
    svg = (folder / "accuracy_by_language.svg").read_text("utf8")
    assert svg.startswith("<svg") and size_of(svg)[0] <= 3.3 * 96 and "right most often" in re.sub("<[^>]+>", "", svg)
    assert (folder / "accuracy_by_language.png").read_bytes().startswith(b"\x89PNG")
    pdf = (folder / "accuracy_by_language.pdf").read_bytes()
    assert pdf.startswith(b"%PDF") and b"/Subtype /Image" not in pdf, "vectors, no pixels"
    table = pl.read_csv(folder / "accuracy_by_language.csv")
    assert table["accuracy"].to_list() == pytest.approx(tables["accuracy_by_language"]["accuracy"].to_list())
    assert all(path.resolve().parent == folder.resolve() for path in written)


@needs_browser
def test_font_and_title_are_what_was_asked_for(run):
    spec = charts_of(run)[0][1]
    [plain], [changed] = draw_svg([spec], Look()), draw_svg([spec], Look(font="DejaVu Serif", title=False))
    assert "DejaVu Serif" in changed and "right most often" not in changed and "right most often" in plain
    assert "currentColor" not in plain + changed


def grid(texts: list[str]) -> dict:
    """A chart of texts in rows of COLUMNS squares, with nothing else."""
    rows = [{"x": i % COLUMNS + 0.75, "y": i // COLUMNS + 0.5, "text": text} for i, text in enumerate(texts)]
    height = -(-len(texts) // COLUMNS)
    return {
        "$schema": "https://vega.github.io/schema/vega-lite/v6.json", "data": {"values": rows},
        "width": COLUMNS * CELL, "height": height * CELL, "config": {"view": {"stroke": None}},
        "mark": {"type": "text", "fontSize": 16, "align": "right"},
        "encoding": {
            "x": {"field": "x", "type": "quantitative", "axis": None, "scale": {"domain": [0, COLUMNS]}},
            "y": {"field": "y", "type": "quantitative", "axis": None, "scale": {"domain": [height, 0]}},
            "text": {"field": "text"},
        },
    }  # fmt: skip


def drawn(browser, png: bytes, n: int) -> list[str]:
    """What each of the n squares of a picture shows: # for ink, line by line."""
    page = browser.new_page()
    cells = page.evaluate(SQUARES, [base64.b64encode(png).decode(), COLUMNS, int(CELL * pictures.SCALE)])
    page.close()
    return cells[:n]


COLUMNS, CELL = 16, 60
SQUARES = """async ([data, columns, cell]) => {
  const image = await createImageBitmap(await (await fetch("data:image/png;base64," + data)).blob());
  const canvas = new OffscreenCanvas(image.width, image.height), pen = canvas.getContext("2d");
  pen.drawImage(image, 0, 0);
  const found = [];
  for (let top = 0; top + cell <= image.height; top += cell)
    for (let column = 0; column < columns; column++) {
      const pixels = pen.getImageData(column * cell, top, cell, cell).data;
      const ink = Array.from({length: cell * cell}, (_, at) => pixels[4 * at] < 128 ? "#" : ".").join("");
      found.push(ink.match(new RegExp(`.{${cell}}`, "g")).join("\\n"));
    }
  return found;
}"""


@pytest.mark.parametrize("with_chromium", [True, False])
def test_no_sign_of_a_script_is_missing_in_a_pixel_picture(browser, monkeypatch, with_chromium):
    words = [one.endonym + one.instruction + one.answer_line + one.opening for one in LANGUAGES.values()]
    digits = [chr(ord(one.zero) + value) for one in LANGUAGES.values() for value in range(10)]
    signs = sorted({sign for text in (*SCRIPTS, *words, *digits) for sign in text if sign.isprintable()} - {" "})
    if not with_chromium:
        monkeypatch.setattr(pictures, "browser", lambda: None)
        signs = [sign for sign in signs if not pictures.SHAPED.match(sign)]
    texts = ["\U0010fffd", "\u0378", " ", *signs]  # the first two are in no font
    box, other, nothing, *found = drawn(browser, to_png(draw_svg([grid(texts)], Look())[0]), len(texts))
    assert "#" in box and box == other and "#" not in nothing
    assert [sign for sign, ink in zip(signs, found, strict=True) if ink in (box, nothing)] == []


@pytest.mark.parametrize("with_chromium", [True, False])
def test_the_digits_of_a_negative_number_are_those_of_a_positive_one(browser, monkeypatch, with_chromium):
    if not with_chromium:
        monkeypatch.setattr(pictures, "browser", lambda: None)
    texts = [sign + digit for digit in "0123456789" for sign in ("", "\u2212")]
    found = drawn(browser, to_png(draw_svg([grid(texts)], Look())[0]), len(texts))
    for positive, negative in zip(found[::2], found[1::2], strict=True):
        left = min(row.index("#") for row in positive.split("\n") if "#" in row)
        ends = [[row[left - 1 :] for row in ink.split("\n")] for ink in (positive, negative)]
        assert ends[0] == ends[1] and positive != negative


@needs_browser
def test_low_pictures_are_whole_and_a_plain_title_is_not_lost(browser):
    spec = grid(["a", "b"]) | {"title": "A plain title"}
    [svg] = draw_svg([spec], Look())
    assert "A plain title" in svg
    black = '<svg xmlns="http://www.w3.org/2000/svg" width="960" height="60"><rect width="960" height="60"/></svg>'
    assert all("." not in cell for cell in drawn(browser, to_png(black), COLUMNS))


def test_without_chromium_scripts_that_would_be_garbled_are_refused_and_others_drawn(monkeypatch, run):
    monkeypatch.setattr(pictures, "browser", lambda: None)
    spec = charts_of(run)[0][1]
    [svg] = draw_svg([spec], Look())
    assert svg.startswith("<svg") and to_png(svg).startswith(b"\x89PNG") and pictures.to_pdf(svg).startswith(b"%PDF")
    with pytest.raises(ValueError, match="install it .*chromium"):
        draw_svg([spec | {"title": "উত্তর"}], Look())


def test_tables_are_latex_that_compiles_by_its_form(run, tables, tmp_path):
    [path] = export_figures(run, tmp_path / "out", ("tex",), only=("claims",))
    text = path.read_text("utf8")
    rows = [line for line in text.splitlines() if line.endswith(r"\\")]
    assert len(rows) == tables["claims"].height + 1 and len({row.count(" & ") for row in rows}) == 1
    assert text.index(r"\toprule") < text.index(r"\midrule") < text.index(r"\bottomrule")
    assert latex.escape("50 % of a_b & <c> {d}") == r"50 \% of a\_b \& $<$c$>$ \{d\}"
    body = text.split(r"\midrule")[1]
    assert not re.search(r"(?<!\\)%|−", body)


def test_a_text_that_looks_like_a_formula_is_made_inert():
    data = csv_of(pl.DataFrame({"a": ['=HYPERLINK("x")', "@x", "plain"], "b": [-1.5, 2.0, None]}))
    assert data.decode("utf-8-sig").splitlines() == ["a,b", '"\'=HYPERLINK(""x"")",-1.5', "'@x,2.0", "plain,"]


def test_what_is_asked_for_wrongly_is_refused_with_the_remedy(run, tmp_path):
    with pytest.raises(ValueError, match="'pgn'; did you mean 'png'"):
        export_figures(run, tmp_path, ("pgn",))
    with pytest.raises(ValueError, match="'curves'.*there are accuracy_by_language"):
        export_figures(run, tmp_path, ("csv",), only=("curves",))
    for wrong in ("3.3", "3.3px", "40in"):
        with pytest.raises(ValueError, match="expected"):
            inches(wrong)


def test_a_run_without_charts_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no executed notebook.*run its study first"):
        export_figures(Run("tiny", tmp_path), tmp_path / "out")
    assert figures.table_of({}).is_empty()
