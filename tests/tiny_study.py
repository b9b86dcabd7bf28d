"""Two tiny notebooks that make a study, for the tests of the runner."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat

from bestofl_lib.runs import UNDER_STUDY, Folders
from bestofl_lib.study.execution import NotebookFailed
from bestofl_lib.study.plan import Step
from bestofl_lib.study.run import run_study

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
YAML = "title: A tiny study\nnotebooks: [01_make_numbers, 02_show_numbers]\nparameters:\n  rows: {rows}\n"


def write_notebook(path: Path, cells: list[str]) -> None:
    """A notebook of these cells; those that begin with # are text, the one that begins with run: holds parameters."""
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


def write_study(base: Path) -> Folders:
    """The study `tiny` in a folder of its own."""
    places = Folders(base / "notebooks", base / "runs", base / "reports")
    (places.notebooks / "studies").mkdir(parents=True)
    write_notebook(places.notebooks / "01_make_numbers.ipynb", MAKE)
    write_notebook(places.notebooks / "02_show_numbers.ipynb", SHOW)
    (places.notebooks / "studies" / "tiny.yaml").write_text(YAML.format(rows=4))
    return places


def go(folders: Folders, overrides: dict[str, str] | None = None, **choice) -> list[str]:
    """Run it; the lines that were said."""
    lines: list[str] = []
    run_study("tiny", overrides, folders=folders, say=lines.append, **choice)
    return lines


def execute_here(step: Step, target: Path) -> None:
    """Stands in for `execution.execute`: runs the cells in this process, without a kernel."""
    notebook = nbformat.read(step.path, as_version=4)
    names: dict = {}
    target.parent.mkdir(parents=True, exist_ok=True)
    os.environ[UNDER_STUDY] = "1"
    try:
        for cell in (c for c in notebook.cells if c.cell_type == "code"):
            try:
                exec(cell.source, names)
            except Exception as error:
                nbformat.write(notebook, target)
                raise NotebookFailed("[3]", type(error).__name__, str(error), cell.source) from error
            if "parameters" in cell.metadata.get("tags", []):
                names.update(step.passed)
    finally:
        os.environ.pop(UNDER_STUDY)
    nbformat.write(notebook, target)
