"""Only what changed runs again."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_study import MAKE, SHOW, go, write_notebook

from bestofl_lib.files import ROOT, write_checked
from bestofl_lib.runs import Run
from bestofl_lib.study.freshness import _import_graph, executed_path, library_files, states
from bestofl_lib.study.plan import load_study, plan
from bestofl_lib.study.run import REPORT


def test_a_study_runs_its_notebooks_in_order_and_then_nothing_is_left_to_do(folders, in_process):
    go(folders)
    assert in_process == ["01", "02"]
    assert Run("tiny", folders.runs).read("total")["n"].to_list() == [6]
    lines = go(folders)
    assert in_process == ["01", "02"]
    assert [line.split(": ")[1].split(",")[0] for line in lines] == ["up to date"] * 3


def test_an_unchanged_study_does_not_import_the_tools_that_run_notebooks(folders, in_process):
    go(folders)
    code = (
        "import sys; from bestofl_lib.study.run import run_study; from bestofl_lib.runs import Folders; from pathlib import Path; "
        f"f = Folders(Path({str(folders.notebooks)!r}), Path({str(folders.runs)!r}), Path({str(folders.reports)!r})); run_study('tiny', folders=f); "
        "print([m for m in ('papermill', 'nbconvert', 'altair', 'torch') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert answer.stdout.splitlines()[-1] == "[]"


def test_the_time_makes_nothing_stale_and_no_duration_negative(folders, in_process, monkeypatch):
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now - 3600 * len(in_process))  # set back an hour in each notebook
    go(folders)
    run = Run("tiny", folders.runs)
    assert all(0 <= record["seconds"] < 300 for record in run.notebook_records().values())
    for shift in (-365 * 86400, 365 * 86400):
        for path in (*folders.runs.rglob("*"), *folders.reports.rglob("*"), *folders.notebooks.rglob("*")):
            os.utime(path, (now + shift, now + shift))
        assert all(": up to date" in line for line in go(folders))
    assert in_process == ["01", "02"]


def test_a_changed_parameter_runs_the_notebooks_that_it_touches(folders, in_process):
    go(folders)
    go(folders, {"word": "y"}, replace=True)
    assert in_process == ["01", "02", "02"]
    go(folders, {"word": "y", "rows": "7"}, replace=True)
    assert in_process == ["01", "02", "02", "01", "02"]


def test_a_table_that_came_out_the_same_leaves_later_notebooks_alone(folders, in_process):
    go(folders)
    write_notebook(folders.notebooks / "01_make_numbers.ipynb", [*MAKE, "made = True"])
    lines = go(folders)
    assert in_process == ["01", "02", "01"]
    assert "  01_make_numbers: running (the notebook changed)" in lines


def test_a_table_changed_by_hand_is_noticed_and_made_again(folders, in_process):
    import polars as pl

    go(folders)
    run = Run("tiny", folders.runs)
    write_checked(run.path("numbers"), pl.DataFrame({"n": [100]}))
    _, steps = plan(load_study("tiny", folders), {}, folders)
    assert [state.why for state in states(run, steps)] == [
        "file changed: numbers.parquet",
        "earlier table changed: numbers.parquet",
    ]
    go(folders)
    assert run.read("total")["n"].to_list() == [6]


def test_a_lost_table_or_executed_notebook_is_made_again(folders, in_process):
    go(folders)
    run = Run("tiny", folders.runs)
    run.path("total").unlink()
    go(folders)
    executed_path(run, "01_make_numbers").unlink()
    go(folders)
    assert in_process == ["01", "02", "02", "01"]


@pytest.fixture
def toy_library(tmp_path, monkeypatch) -> Path:
    """A package with an import chain, an asset folder and a file that nothing imports."""
    library = tmp_path / "toy_library"
    (library / "deep" / "page").mkdir(parents=True)
    texts = {
        "__init__": "",
        "runs": "from toy_library.deep import one",
        "deep/__init__": "",
        "deep/one": "x = 1",
        "other": "",
    }
    for name, text in texts.items():
        (library / f"{name}.py").write_text(text)
    (library / "deep" / "page" / "look.css").write_text("a {}")
    monkeypatch.syspath_prepend(tmp_path)
    _import_graph.cache_clear()
    return library


def test_the_library_files_of_an_import_are_those_it_leads_to_and_what_lies_beside_them(toy_library):
    assert set(library_files(["toy_library.runs.Run"], "toy_library")) == set()
    expected = {"__init__.py", "runs.py", "deep/__init__.py", "deep/one.py", "deep/page/look.css"}
    before = library_files(["toy_library.runs", "toy_library.runs.Run"], "toy_library")
    assert set(before) == {f"toy_library/{name}" for name in expected}
    (toy_library / "deep" / "one.py").write_text("x = 22")
    assert before != library_files(["toy_library.runs"], "toy_library")


def test_a_report_depends_on_all_that_builds_it_templates_and_assets_included():
    files = library_files(REPORT)
    assert {"bestofl_lib/analysis/run_scan.py", "bestofl_lib/display/embed.py", "bestofl_lib/runs.py"} <= set(files)
    assert any(name.endswith(".css") for name in files) and any(name.endswith(".js") for name in files)


def test_an_overwritten_page_or_a_lost_asset_makes_the_report_again(folders, in_process):
    go(folders)
    index = folders.reports / "tiny" / "index.html"
    whole = index.read_text()
    index.write_text("something else")
    assert any("report: up to date" in line for line in go(folders)) is False
    assert index.read_text() != "something else" and len(index.read_text()) == len(whole)
    assert any("report: up to date" in line for line in go(folders))


def test_a_data_file_that_a_parameter_names_counts(folders, in_process, tmp_path):
    data = tmp_path / "pool.jsonl"
    data.write_text("1")
    go(folders, {"word": str(data)})
    data.write_text("22")
    lines = go(folders, {"word": str(data)})
    assert in_process == ["01", "02", "02"]
    assert any("input changed" in line for line in lines)


def test_a_store_that_a_later_notebook_tops_up_does_not_undo_the_earlier_one(folders, in_process):
    add = 'from pathlib import Path\nstore = Run(run).folder / "store"\nstore.mkdir(exist_ok=True)\n(store / "{0}").write_text("x")\n(store / "all").write_text("{0}")'
    write_notebook(folders.notebooks / "01_make_numbers.ipynb", [*MAKE, add.format("first")])
    write_notebook(folders.notebooks / "02_show_numbers.ipynb", [*SHOW, add.format("second")])
    go(folders)
    go(folders)
    assert in_process == ["01", "02"]


def test_only_from_and_force_choose_what_runs(folders, in_process):
    go(folders)
    go(folders, force=True, only="02")
    go(folders, force=True, start_from="02")
    go(folders, only="01")
    assert in_process == ["01", "02", "02", "02"]
    go(folders, force=True)
    assert in_process[4:] == ["01", "02"]
