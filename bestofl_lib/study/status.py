"""What a run holds, line by line, for the terminal."""

from __future__ import annotations

import polars as pl

from bestofl_lib.runs import Folders, Run
from bestofl_lib.study.errors import StudyError
from bestofl_lib.study.freshness import states
from bestofl_lib.study.plan import load_study, plan
from bestofl_lib.text import suggestion


def describe_run(name: str, folders: Folders | None = None) -> list[str]:
    """What a run holds, line by line: notebooks with their state, tables with their rows, candidates per language.

    Raises:
        StudyError: there is no such run.
    """
    folders = folders or Folders.default()
    run = Run(name, folders.runs)
    if not run.folder.is_dir():
        runs = run_names(folders)
        raise StudyError(
            f"no run {name!r} in {folders.runs}; {suggestion(name, runs)}"
            + (f"runs: {', '.join(runs)}" if runs else "run `bestofl run lab` first")
        )
    lines = [f"run {name} in {run.folder}", *_notebooks(run, folders), "tables"]
    for table in run.tables():
        try:
            lines.append(f"  {table:<32} {len(run.read(table)):,} rows")
        except ValueError as error:
            lines.append(f"  {table:<32} {error}")
    lines += _candidates(run)
    report = folders.reports / name / "index.html"
    return [*lines, "report", f"  {report}" if report.exists() else "  none yet"]


def page_states(run: Run, folders: Folders) -> tuple[str, dict[str, tuple[str, str]]]:
    """The title of the study that made a run, and notebook name to (state, why): what a report of it is built from.

    Raises:
        StudyError: no study has run here.
    """
    asked = run.recorded().get("study")
    if asked is None:
        raise StudyError(
            f"run {run.name!r} was made by hand, so there is no report of it; run a study: bestofl run lab"
        )
    _, steps = plan(load_study(asked["name"], folders), asked["overrides"], folders)
    return asked["title"], {state.name: (state.state, state.why) for state in states(run, steps)}


def run_names(folders: Folders) -> list[str]:
    """The runs there are, in order of name."""
    return sorted(path.name for path in folders.runs.glob("*") if path.is_dir() and not path.name.startswith("."))


def _notebooks(run: Run, folders: Folders) -> list[str]:
    asked = run.recorded().get("study")
    if asked is None:
        return ["  made by hand: no study has run here, so nothing says what is up to date"]
    _, steps = plan(load_study(asked["name"], folders), asked["overrides"], folders)
    shown = [f"  {s.name:<32} {s.state}{': ' + s.why if s.why else ''}" for s in states(run, steps)]
    return [f"notebooks of study {asked['name']}", *shown]


def _candidates(run: Run) -> list[str]:
    if not run.has("readings"):
        return []
    try:
        counts = run.read("readings").group_by("language").agg(pl.len()).sort("language")
    except ValueError:
        return []  # the list of tables says so
    return ["candidates", "  " + ", ".join(f"{language} {n:,}" for language, n in counts.iter_rows())]
