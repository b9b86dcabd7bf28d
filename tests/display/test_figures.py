"""Charts of a run as files."""

from __future__ import annotations

import nbformat
import polars as pl
import pytest

from bestofl_lib.display import charts, embed, figures
from bestofl_lib.display.figures import charts_of, csv_of, export_figures
from bestofl_lib.runs import Run


@pytest.fixture
def run(tmp_path, tables):
    run = Run("tiny", tmp_path / "runs")
    made = charts.accuracy_by_language(tables["accuracy_by_language"]).to_dict()
    other = charts.accuracy_by_language(tables["accuracy_by_language"].head(3)).to_dict()
    write(run, "03_check_answers", [made, made])
    write(run, "08_budget_curves", [made, other, {**other, "usermeta": {"name": "../../evil <b>"}}])
    return run


def write(run, name, specs):
    outputs = []
    for spec in specs:
        data, metadata = embed._render(spec)
        outputs.append(nbformat.v4.new_output("display_data", data=data, metadata=metadata))
    path = run.folder / "notebooks" / f"{name}.ipynb"
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x", outputs=outputs)]), path)


def test_each_chart_gets_a_name_that_no_other_has_and_repeats_count_once(run):
    assert [name for name, _ in charts_of(run)] == ["accuracy_by_language", "accuracy_by_language-2", "_evil_b_"]


def test_every_chart_is_written_as_svg_png_and_csv(run, tmp_path, tables):
    written = export_figures(run, tmp_path / "out")
    assert {path.name for path in written} == {
        f"{name}.{ending}"
        for name in ("accuracy_by_language", "accuracy_by_language-2", "_evil_b_")
        for ending in ("svg", "png", "csv")
    }
    folder = tmp_path / "out"
    assert (folder / "accuracy_by_language.svg").read_text("utf8").startswith("<svg")
    assert (folder / "accuracy_by_language.png").read_bytes().startswith(b"\x89PNG")
    table = pl.read_csv(folder / "accuracy_by_language.csv")
    assert table.height == 4 and table["accuracy"].to_list() == pytest.approx(
        tables["accuracy_by_language"]["accuracy"].to_list()
    )
    assert all(path.resolve().parent == folder.resolve() for path in written), (
        "a chart's name never leads out of the folder"
    )


def test_a_text_that_looks_like_a_formula_is_made_inert():
    data = csv_of(pl.DataFrame({"a": ['=HYPERLINK("x")', "@x", "plain"], "b": [-1.5, 2.0, None]}))
    assert data.decode("utf-8-sig").splitlines() == ["a,b", '"\'=HYPERLINK(""x"")",-1.5', "'@x,2.0", "plain,"]


def test_a_run_without_charts_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="no executed notebook.*run its study first"):
        export_figures(Run("tiny", tmp_path), tmp_path / "out")
    assert figures.table_of({}).is_empty()
