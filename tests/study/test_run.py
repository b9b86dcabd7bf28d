"""What a run records, and what happens when something goes wrong."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import nbformat
import pytest
from tiny_study import MAKE, SHOW, go, write_notebook

from bestofl_lib.runs import Run
from bestofl_lib.study import execution
from bestofl_lib.study.errors import StudyError
from bestofl_lib.study.plan import Step
from bestofl_lib.study.status import describe_run


def test_a_failing_notebook_stops_the_study_and_the_next_run_goes_on_there(folders, in_process):
    write_notebook(folders.notebooks / "01_make_numbers.ipynb", [*MAKE, "1 / 0"])
    with pytest.raises(StudyError) as caught:
        go(folders)
    message = str(caught.value)
    assert "01_make_numbers failed in cell [3]: ZeroDivisionError: division by zero" in message
    assert "    1 / 0" in message and "run the same command again" in message
    assert in_process == ["01"]
    index = (folders.reports / "tiny" / "index.html").read_text()
    assert "01_make_numbers failed" in index and "02_show_numbers (missing" in index
    write_notebook(folders.notebooks / "01_make_numbers.ipynb", MAKE)
    go(folders)
    assert in_process == ["01", "01", "02"]
    assert "failed" not in (folders.reports / "tiny" / "index.html").read_text()


def test_a_page_that_is_no_longer_true_is_taken_out_of_the_report(folders, in_process):
    go(folders)
    assert (folders.reports / "tiny" / "02_show_numbers.html").exists()
    write_notebook(folders.notebooks / "01_make_numbers.ipynb", [*MAKE, "1 / 0"])
    with pytest.raises(StudyError):
        go(folders, {"rows": "9"}, replace=True)
    assert not (folders.reports / "tiny" / "02_show_numbers.html").exists()


def test_a_second_runner_on_the_same_run_is_told_so(folders, in_process):
    import filelock

    (folders.runs / "tiny").mkdir(parents=True)
    with (
        filelock.FileLock(folders.runs / "tiny" / ".study.lock"),
        pytest.raises(StudyError, match="in use by another `bestofl run`"),
    ):
        go(folders)


def test_an_interrupted_notebook_runs_again_and_keeps_what_it_had_stored(folders, in_process, monkeypatch):
    whole = execution.execute

    def interrupted(step, target):
        (Run("tiny", folders.runs).folder / "half.parquet").write_bytes(b"stored before the end")
        raise KeyboardInterrupt

    monkeypatch.setattr(execution, "execute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        go(folders)
    monkeypatch.setattr(execution, "execute", whole)
    lines = go(folders)
    assert "  01_make_numbers: running (it was interrupted)" in lines
    record = Run("tiny", folders.runs).recorded()["notebooks"]["01_make_numbers"]
    assert set(record["outputs"]) == {"half.parquet", "numbers.parquet"}


def test_a_run_records_time_memory_parameters_versions_and_git(folders, in_process):
    go(folders)
    record = Run("tiny", folders.runs).recorded()["notebooks"]["01_make_numbers"]
    assert record["status"] == "done" and record["seconds"] >= 0 and record["peak_memory_mb"] >= 0
    assert record["parameters"] == {"run": "tiny", "rows": 4, "languages": ["en", "de"]}
    assert {"python", "polars", "torch"} <= set(record["versions"]) and record["git"]
    assert set(record["outputs"]) == {"numbers.parquet"}


def test_a_run_is_described_line_by_line(folders, in_process):
    go(folders)
    write_notebook(folders.notebooks / "02_show_numbers.ipynb", [*SHOW, "x = 1"])
    text = "\n".join(describe_run("tiny", folders))
    assert "01_make_numbers                  up to date" in text
    assert "02_show_numbers                  stale: the notebook changed" in text
    assert "numbers                          4 rows" in text
    with pytest.raises(FileNotFoundError, match="no run 'tinny' .*did you mean 'tiny'"):
        describe_run("tinny", folders)


def test_a_notebook_whose_last_cells_never_ran_is_not_taken_for_finished(tmp_path):
    path = tmp_path / "01_x.ipynb"
    write_notebook(path, MAKE)
    assert execution.unfinished(path).name == "the notebook ended early"
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells[1:]:
        cell.execution_count = 1
    nbformat.write(notebook, path)
    assert execution.unfinished(path) is None


def test_messages_advise_parameters_as_the_command_line_has_them(folders, in_process):
    advice = "raise ValueError(\"pick one with word='b c', or rows=5\")"
    write_notebook(folders.notebooks / "02_show_numbers.ipynb", [*SHOW, advice])
    with pytest.raises(StudyError, match="pick one with -p word=b c, or rows=5"):
        go(folders)


def test_a_disk_that_fills_up_while_a_notebook_is_written_is_said_and_the_next_run_goes_on(
    folders, in_process, monkeypatch
):
    write_here = execution.execute

    def full(step: Step, target: Path) -> None:
        if step.name.startswith("02"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        write_here(step, target)

    monkeypatch.setattr(execution, "execute", full)
    with pytest.raises(StudyError, match=r"02_show_numbers: .*tiny: the disk is full; free some space and run again"):
        go(folders)
    assert "02_show_numbers" in (folders.reports / "tiny" / "index.html").read_text()
    monkeypatch.setattr(execution, "execute", write_here)
    assert "  01_make_numbers: up to date" in go(folders)
    assert Run("tiny", folders.runs).read("total")["n"].to_list() == [6]


@pytest.mark.parametrize(
    "name", ["../lab", "a/b", "a b", "", ".", "..", ".hidden", "-x", "ß", "ل", "a" * 81, "é" * 100, "a\0b", "a\n"]
)
def test_a_run_name_that_is_no_plain_file_name_is_refused_before_anything_runs(folders, name):
    before = sorted(folders.runs.parent.rglob("*"))
    with pytest.raises((ValueError, StudyError), match="use 1 to 80 letters, digits"):
        go(folders, {"run": name})
    assert sorted(folders.runs.parent.rglob("*")) == before
    assert Run("a" * 80, folders.runs).folder.parent == folders.runs
