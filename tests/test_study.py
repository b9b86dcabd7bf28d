"""The runner, on two tiny notebooks. Most tests run their cells in this process; those marked slow start kernels."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import nbformat
import pytest

from bestofl_lib import study
from bestofl_lib.runs import Run
from bestofl_lib.study import (
    Folders,
    Study,
    StudyError,
    check_value,
    load_study,
    plan,
    read_parameters,
    run_study,
    states,
)

MAKE = [
    "# Make\n\n> What is made?",
    'run: str = "tiny"  # name of the run folder\nrows: int = 3  # rows to make\nlanguages: list[str] = ["en", "de"]  # codes',
    "import polars as pl\nfrom bestofl_lib.runs import Run",
    'Run(run).write("numbers", pl.DataFrame({"n": list(range(rows))}))',
]
SHOW = [
    "# Show\n\n> What is shown?",
    'run: str = "tiny"  # name of the run folder\nshare: float = 0.5  # part to show\nword: str = "x"  # any word',
    "import polars as pl\nfrom bestofl_lib.runs import Run",
    'total = Run(run).read("numbers").sum()\nRun(run).write("total", total)',
]


def write_notebook(path: Path, cells: list[str]) -> None:
    notebook = nbformat.v4.new_notebook()
    notebook.metadata = {
        "kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"},
        "language_info": {"name": "python"},
    }
    for source in cells:
        cell = nbformat.v4.new_markdown_cell(source) if source.startswith("#") else nbformat.v4.new_code_cell(source)
        if source.startswith("run: str"):
            cell.metadata["tags"] = ["parameters"]
        notebook.cells.append(cell)
    nbformat.write(notebook, path)


@pytest.fixture
def folders(tmp_path, monkeypatch) -> Folders:
    places = Folders(tmp_path / "notebooks", tmp_path / "runs", tmp_path / "reports")
    (places.notebooks / "studies").mkdir(parents=True)
    write_notebook(places.notebooks / "01_make_numbers.ipynb", MAKE)
    write_notebook(places.notebooks / "02_show_numbers.ipynb", SHOW)
    (places.notebooks / "studies" / "tiny.yaml").write_text("title: A tiny study\nparameters:\n  rows: 4\n")
    monkeypatch.setenv("BESTOFL_RUNS", str(places.runs))  # the notebooks' own Run(...) looks there
    return places


@pytest.fixture
def in_process(monkeypatch) -> list[str]:
    """Run notebooks here, without a kernel; the list says which ran."""
    ran: list[str] = []

    def execute(step: study.Step, target: Path) -> None:
        ran.append(step.name[:2])
        notebook = nbformat.read(step.path, as_version=4)
        names: dict = {}
        target.parent.mkdir(parents=True, exist_ok=True)
        for cell in (c for c in notebook.cells if c.cell_type == "code"):
            try:
                exec(cell.source, names)
            except Exception as error:
                nbformat.write(notebook, target)
                raise study._Failed("[3]", type(error).__name__, str(error), cell.source) from error
            if "parameters" in cell.metadata.get("tags", []):
                names.update(step.passed)
        nbformat.write(notebook, target)

    monkeypatch.setattr(study, "_execute", execute)
    return ran


def go(folders: Folders, overrides: dict[str, str] | None = None, **choice) -> list[str]:
    lines: list[str] = []
    run_study("tiny", overrides, folders=folders, say=lines.append, **choice)
    return lines


# -- what is asked for -----------------------------------------------------------------------------------------------


def test_a_parameter_line_is_read_with_its_type_its_default_and_its_help(folders):
    found = read_parameters(folders.notebooks / "01_make_numbers.ipynb")
    assert list(found) == ["run", "rows", "languages"]
    assert found["languages"] == study.Parameter("languages", "list[str]", ["en", "de"], "codes")


def test_papermill_reads_the_same_parameters(folders):
    papermill = pytest.importorskip("papermill")
    path = folders.notebooks / "01_make_numbers.ipynb"
    theirs = papermill.inspect_notebook(path)
    ours = read_parameters(path)
    assert {n: (p["inferred_type_name"], p["help"]) for n, p in theirs.items()} == {
        n: (p.type, p.help) for n, p in ours.items()
    }


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ("run = 'tiny'", "write 'name: type = literal  # help'"),
        ("run: str = str(1)", "is not a literal"),
        ("run: dict = {}", "use one of str, int"),
        ("run: str", "write 'name: type = literal"),
        ("run: str = ", "is not Python"),
    ],
)
def test_a_parameters_cell_with_anything_else_is_refused(tmp_path, line, complaint):
    path = tmp_path / "01_x.ipynb"
    write_notebook(path, ["# T", "run: str = 'x'  # y"])
    path.write_text(path.read_text().replace("run: str = 'x'  # y", line))
    with pytest.raises(StudyError, match=complaint.replace("(", r"\(")):
        read_parameters(path)


def test_a_notebook_without_a_parameters_cell_is_refused(tmp_path):
    write_notebook(tmp_path / "01_x.ipynb", ["# T", "x = 1"])
    with pytest.raises(StudyError, match="has 0 cells tagged 'parameters'; it needs exactly one"):
        read_parameters(tmp_path / "01_x.ipynb")


@pytest.mark.parametrize(
    ("kind", "text", "value"),
    [
        ("str", "007", "007"),
        ("str", "no", "no"),
        ("str", "1e3", "1e3"),
        ("int", "16", 16),
        ("float", "1e-3", 0.001),
        ("float", "2", 2.0),
        ("bool", "true", True),
        ("bool", "no", False),
        ("list[str]", "en,no", ["en", "no"]),
        ("list[str]", "[en, no]", ["en", "no"]),
        ("list[str]", '["en", "no"]', ["en", "no"]),
        ("list[int]", "1,2,4", [1, 2, 4]),
        ("list[int]", "[1, 2]", [1, 2]),
        ("list[str]", "", []),
    ],
)
def test_a_value_from_the_command_line_has_the_declared_type(kind, text, value):
    found = check_value(study.Parameter("p", kind, None, ""), text, "-p")
    assert found == value and type(found) is type(value)


@pytest.mark.parametrize(
    ("kind", "text"),
    [("int", "1.5"), ("int", "1e3"), ("int", "x"), ("bool", "maybe"), ("list[int]", "1,x"), ("float", "")],
)
def test_a_value_of_another_type_is_refused_with_its_name(kind, text):
    with pytest.raises(StudyError, match="-p p is .*; expected"):
        check_value(study.Parameter("p", kind, None, ""), text, "-p")


def test_norwegian_that_yaml_took_for_false_is_refused_with_the_remedy(folders):
    (folders.notebooks / "studies" / "tiny.yaml").write_text("title: T\nparameters:\n  languages: [en, no]\n")
    with pytest.raises(StudyError, match=r"languages\[1\] is False; expected str; put quotes around it"):
        go(folders)


@pytest.mark.parametrize("value", ["true", "1.0", "'1'", "[1]"])
def test_a_study_file_with_a_value_of_another_type_is_refused(folders, value):
    (folders.notebooks / "studies" / "tiny.yaml").write_text(f"title: T\nparameters:\n  rows: {value}\n")
    with pytest.raises(StudyError, match=r"tiny.yaml: rows is .*; expected int"):
        go(folders)


@pytest.mark.parametrize(
    ("overrides", "choice", "complaint"),
    [
        ({"rosw": "4"}, {}, "no notebook of study 'tiny' has a parameter 'rosw'; did you mean 'rows'?"),
        ({"languages": "en,swa"}, {}, "unknown language 'swa'; did you mean 'sw'"),
        ({}, {"only": "02_shwo_numbers"}, "no notebook '02_shwo_numbers'; did you mean '02_show_numbers'?"),
        ({}, {"start_from": "07"}, "no notebook '07'"),
        ({}, {"start_from": "01", "only": "02"}, "not both"),
        ({"run": "../etc"}, {}, "run name '../etc'"),
    ],
)
def test_a_wrong_request_is_refused_before_anything_runs(folders, in_process, overrides, choice, complaint):
    with pytest.raises((StudyError, ValueError)) as caught:
        go(folders, overrides, **choice)
    assert complaint in str(caught.value)
    assert in_process == [] and not folders.runs.exists()


def test_an_unknown_study_is_refused_with_a_suggestion(folders):
    with pytest.raises(StudyError, match="no study 'tinny' .*did you mean 'tiny'"):
        load_study("tinny", folders)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("parameters: {}", "title: field required"),
        ("title: T\nparams: {}", "params: extra inputs"),
        ("[1]", "is not a study"),
        ("a: [", "is not YAML"),
        ("", "is not a study"),
    ],
)
def test_a_study_file_with_something_else_in_it_is_refused(folders, text, complaint):
    (folders.notebooks / "studies" / "odd.yaml").write_text(text)
    with pytest.raises(StudyError) as caught:
        load_study("odd", folders)
    assert complaint in str(caught.value).lower() or complaint in str(caught.value)


def test_a_parameter_reaches_only_the_notebooks_that_declare_it(folders):
    asked = Study(name="tiny", title="T", parameters={"rows": 5}, per_notebook={"02": {"word": "y"}})
    _, [make, show] = plan(asked, {"share": "0.25"}, folders)
    assert make.passed == {"run": "tiny", "rows": 5}
    assert show.passed == {"run": "tiny", "word": "y", "share": 0.25}


def test_a_misspelt_parameter_for_one_notebook_is_refused(folders):
    asked = Study(name="tiny", title="T", per_notebook={"02": {"wrod": "y"}})
    with pytest.raises(StudyError, match=r"02_show_numbers.ipynb has no parameter 'wrod'; did you mean 'word'"):
        plan(asked, {}, folders)


def test_interactive_notebooks_and_the_welcome_are_not_part_of_a_study(folders):
    write_notebook(folders.notebooks / "00_start_here.ipynb", MAKE)
    write_notebook(folders.notebooks / "08_explore.ipynb", MAKE)
    path = folders.notebooks / "08_explore.ipynb"
    path.write_text(path.read_text().replace('"parameters"', '"parameters", "interactive"'))
    assert study.default_notebooks(folders) == ["01_make_numbers", "02_show_numbers"]


# -- what has changed ------------------------------------------------------------------------------------------------


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
        "import sys; from bestofl_lib.study import *; from pathlib import Path; "
        f"f = Folders(Path({str(folders.notebooks)!r}), Path({str(folders.runs)!r}), Path({str(folders.reports)!r})); run_study('tiny', folders=f); "
        "print([m for m in ('papermill', 'nbconvert', 'altair', 'torch') if m in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=study.ROOT)
    assert answer.stdout.splitlines()[-1] == "[]"


def test_a_changed_parameter_runs_the_notebooks_that_it_touches(folders, in_process):
    go(folders)
    go(folders, {"word": "y"})
    assert in_process == ["01", "02", "02"]
    go(folders, {"word": "y", "rows": "7"})
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
    run.write("numbers", pl.DataFrame({"n": [100]}))
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
    study.executed_path(run, "01_make_numbers").unlink()
    go(folders)
    assert in_process == ["01", "02", "02", "01"]


def test_a_changed_library_file_runs_only_the_notebooks_that_import_it(folders, in_process, monkeypatch, tmp_path):
    library = tmp_path / "bestofl_lib"
    (library / "deep").mkdir(parents=True)
    for name, text in (
        ("__init__", ""),
        ("runs", "from bestofl_lib.deep import one"),
        ("deep/__init__", ""),
        ("deep/one", "x = 1"),
        ("other", ""),
    ):
        (library / f"{name}.py").write_text(text)
    for name in ("display", "display/report", "display/assets"):
        (library / name).mkdir()
    (library / "display" / "report" / "build.py").write_text("")
    (library / "display" / "embed.py").write_text("")
    monkeypatch.setattr(study, "LIBRARY", library)
    write_notebook(
        folders.notebooks / "01_make_numbers.ipynb",
        [c.replace("bestofl_lib.runs", "bestofl_lib.other") if "pl" in c else c for c in MAKE[:2]],
    )
    assert list(study.library_files(folders.notebooks / "01_make_numbers.ipynb")) == []
    assert set(study.library_files(folders.notebooks / "02_show_numbers.ipynb")) == {
        "bestofl_lib/__init__.py",
        "bestofl_lib/runs.py",
        "bestofl_lib/deep/__init__.py",
        "bestofl_lib/deep/one.py",
    }
    before = study.library_files(folders.notebooks / "02_show_numbers.ipynb")
    (library / "deep" / "one.py").write_text("x = 22")
    assert before != study.library_files(folders.notebooks / "02_show_numbers.ipynb")


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


# -- what goes wrong -------------------------------------------------------------------------------------------------


def test_a_failing_notebook_stops_the_study_and_the_next_run_goes_on_there(folders, in_process):
    write_notebook(folders.notebooks / "01_make_numbers.ipynb", [*MAKE, "1 / 0"])
    with pytest.raises(StudyError) as caught:
        go(folders)
    message = str(caught.value)
    assert "01_make_numbers failed in cell [3]: ZeroDivisionError: division by zero" in message
    assert "    1 / 0" in message and "next: mend it and run the same command again" in message
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
        go(folders, {"rows": "9"})
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
    whole = study._execute

    def interrupted(step, target):
        (Run("tiny", folders.runs).folder / "half.parquet").write_bytes(b"stored before the end")
        raise KeyboardInterrupt

    monkeypatch.setattr(study, "_execute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        go(folders)
    monkeypatch.setattr(study, "_execute", whole)
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
    text = "\n".join(study.describe_run("tiny", folders))
    assert "01_make_numbers                  up to date" in text
    assert "02_show_numbers                  stale: the notebook changed" in text
    assert "numbers                          4 rows" in text
    with pytest.raises(StudyError, match="no run 'tinny' .*did you mean 'tiny'"):
        study.describe_run("tinny", folders)


def test_a_notebook_whose_last_cells_never_ran_is_not_taken_for_finished(tmp_path):
    path = tmp_path / "01_x.ipynb"
    write_notebook(path, MAKE)
    assert study._unfinished(path).name == "the notebook ended early"
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells[1:]:
        cell.execution_count = 1
    nbformat.write(notebook, path)
    assert study._unfinished(path) is None


# -- with kernels ----------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_study_runs_through_papermill_and_its_notebooks_open_trusted(folders):
    from nbformat.sign import NotebookNotary

    go(folders)
    executed = study.executed_path(Run("tiny", folders.runs), "02_show_numbers")
    assert NotebookNotary().check_signature(nbformat.read(executed, as_version=4))
    assert [path.name for path in executed.parent.iterdir() if path.name.startswith(".")] == []
    assert Run("tiny", folders.runs).recorded()["notebooks"]["01_make_numbers"]["peak_memory_mb"] > 20


@pytest.mark.slow
@pytest.mark.parametrize(
    ("last", "complaint", "code"),
    [
        ("1 / 0", "failed in cell [5]: ZeroDivisionError: division by zero", 1),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "the kernel was killed", 138),
        ("import os\nos._exit(0)", "by an exit() in a cell", 138),
    ],
)
def test_a_cell_that_fails_kills_its_kernel_or_leaves_early_is_reported(folders, last, complaint, code):
    write_notebook(folders.notebooks / "01_make_numbers.ipynb", [*MAKE, last, "after = 1"])
    with pytest.raises(StudyError) as caught:
        go(folders)
    assert complaint in str(caught.value) and caught.value.exit_code == code
    assert "01_make_numbers failed" in (folders.reports / "tiny" / "01_make_numbers.html").read_text()


@pytest.mark.slow
def test_papermill_alone_runs_a_notebook_from_any_folder(folders, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [
        sys.executable,
        "-m",
        "papermill",
        str(folders.notebooks / "01_make_numbers.ipynb"),
        "out.ipynb",
        "-p",
        "run",
        "alone",
        "-p",
        "rows",
        "2",
    ]
    subprocess.run(command, cwd=elsewhere, check=True, capture_output=True, timeout=500)
    assert Run("alone", folders.runs).read("numbers").height == 2


@pytest.mark.slow
def test_a_terminated_runner_leaves_whole_files_and_no_kernel(folders, tmp_path):
    write_notebook(
        folders.notebooks / "01_make_numbers.ipynb",
        [*MAKE, f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\ntime.sleep(60)"],
    )
    environment = os.environ | {
        "BESTOFL_NOTEBOOKS": str(folders.notebooks),
        "BESTOFL_RUNS": str(folders.runs),
        "BESTOFL_REPORTS": str(folders.reports),
    }
    child = subprocess.Popen(
        [sys.executable, "-m", "bestofl_lib.cli", "run", "tiny"],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    drained = threading.Thread(target=child.communicate)
    drained.start()
    end = time.monotonic() + 300
    while (
        child.poll() is None
        and time.monotonic() < end
        and not ((tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    ):
        time.sleep(0.1)
    child.send_signal(signal.SIGTERM)
    drained.join(timeout=200)
    assert child.returncode == 143
    kernel = int((tmp_path / "pid").read_text())
    for _ in range(100):
        if not Path(f"/proc/{kernel}").exists():
            break
        time.sleep(0.1)
    assert not Path(f"/proc/{kernel}").exists()
    assert (
        json.loads((folders.runs / "tiny" / "run.json").read_text())["notebooks"]["01_make_numbers"]["status"]
        == "running"
    )
