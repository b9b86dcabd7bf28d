"""What exists, line by line, for the terminal: runs, one run's notebooks and tables, and what is running now."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import polars as pl

from bestofl_lib.display.origin import origin
from bestofl_lib.progress import read_snapshot
from bestofl_lib.runs import Folders, Run, existing_run, run_names
from bestofl_lib.study.errors import StudyError
from bestofl_lib.study.execution import progress_path
from bestofl_lib.study.freshness import Digests, State, executed_changed, executed_path, states
from bestofl_lib.study.plan import load_study, plan
from bestofl_lib.text import counted, signed


def describe_run(name: str, folders: Folders | None = None) -> list[str]:
    """What a run holds, line by line: notebooks with their state, tables with their rows, candidates per language.

    Every file is compared by content with what was recorded.

    Raises:
        FileNotFoundError: there is no such run.
    """
    folders = folders or Folders.default()
    run = existing_run(name, folders.runs)
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
    asked = _study_of(run)
    if asked is None:
        raise StudyError(f"run {run.name!r} was not made by a study, so it has no report; run a study: bestofl run lab")
    _, steps = plan(load_study(asked["name"], folders), asked["overrides"], folders)
    return asked["title"], {state.name: (state.state, state.why) for state in states(run, steps)}


def warnings_of(run: Run, folders: Folders) -> list[str]:
    """One line for each notebook that is not up to date, for whoever is about to show what it made.

    Raises:
        StudyError: an executed notebook is not what its run left, so that its charts may show other figures.
    """
    asked, digests = _study_of(run), Digests(run.folder)
    if asked is None:
        return []
    changed = [
        name
        for name, record in run.notebook_records().items()
        if executed_path(run, name).exists() and "executed" in record and executed_changed(name, record, digests)
    ]
    if changed:
        raise StudyError(
            f"run {run.name!r}: {', '.join(changed)} changed since it was executed, so its charts may show other "
            f"figures than its tables; run its study, {asked['name']}, again with the same parameters"
        )
    return [
        f"note: run {run.name!r}: {name} is {state} ({why}); what it showed last is used"
        for name, (state, why) in page_states(run, folders)[1].items()
        if state != "up to date"
    ]


def list_runs(folders: Folders | None = None) -> list[str]:
    """One line per run, newest first: name, date, model, problems and languages, headline.

    An unreadable run has a line that says what is wrong with it.
    """
    folders = folders or Folders.default()
    runs = [Run(name, folders.runs) for name in run_names(folders.runs)]
    runs.sort(key=lambda run: -_changed(run.folder))
    return [_one_line(run) for run in runs] or [f"no runs in {folders.runs}; `bestofl run lab` makes one"]


def _study_of(run: Run) -> dict[str, Any] | None:
    """Name, title and overrides of the study that made a run; None where it was made by hand."""
    asked = run.recorded().get("study")
    if asked is not None and (absent := {"name", "title", "overrides"} - asked.keys()):
        raise StudyError(f"run {run.name!r}: its run.json does not say the study's {min(absent)}; run the study again")
    return asked


def _notebooks(run: Run, folders: Folders) -> list[str]:
    asked = _study_of(run)
    if asked is None:
        return ["  made by hand: no study has run here, so nothing says what is up to date"]
    _, steps = plan(load_study(asked["name"], folders), asked["overrides"], folders)
    running, records = run.is_in_use(), run.notebook_records()
    lines = [f"notebooks of study {asked['name']}" + (", running now" if running else "")]
    for state in states(run, steps):
        record = records.get(state.name, {})
        if running and record.get("status") == "running":
            lines.append(f"  {state.name:<32} {_now(run, state, record)}")
        else:
            lines.append(f"  {state.name:<32} {state.state}{': ' + state.why if state.why else ''}")
    return lines


def _now(run: Run, state: State, record: dict[str, Any]) -> str:
    """What a running notebook is doing, such as `running since 10:02: 4 of 320 candidates, …`."""
    since = datetime.fromisoformat(record["started"]).astimezone().strftime("%H:%M")
    snapshot = read_snapshot(progress_path(executed_path(run, state.name)))
    parts = f" ({snapshot.part_words()})" if snapshot and snapshot.parts else ""
    return f"running since {since}" + (f": {snapshot.words()}{parts}" if snapshot else "")


def _candidates(run: Run) -> list[str]:
    if not run.has("readings"):
        return []
    try:
        counts = dict(run.read("readings").group_by("language").agg(pl.len()).sort("language").iter_rows())
        order = [code for code in run.languages_by_accuracy() if code in counts]
    except ValueError:
        return []  # the list of tables says so
    return ["candidates", "  " + ", ".join(f"{code} {counts[code]:,}" for code in dict.fromkeys([*order, *counts]))]


def _changed(folder: Path) -> float:
    account = folder / "run.json"
    return (account if account.exists() else folder).stat().st_mtime


def _headline(claims: pl.DataFrame) -> str:
    """The whole of each claim in a few words: its effect in points and its verdict."""
    whole = claims.filter((pl.col("part") == "total") & pl.col("high_resource").ne_missing(pl.lit("strongest")))
    told = []
    for claim, effect, verdict in whole.select("claim", "effect", "verdict").iter_rows():
        known = effect is not None and effect == effect
        told.append(f"{claim} {signed(effect)} {verdict}" if known else f"{claim} {verdict}")
    return ", ".join(told)


def _one_line(run: Run) -> str:
    date = datetime.fromtimestamp(_changed(run.folder), UTC).astimezone().strftime("%Y-%m-%d %H:%M")
    try:
        records = run.notebook_records()
        model = next((r["parameters"]["model"] for r in records.values() if r["parameters"].get("model")), "")
        study = run.recorded().get("study", {}).get("name", "by hand")
        parts = [f"{run.name:<20} {date}  {study}"]
        model = model or ", ".join(origin(run).models)  # a pool of one model needs no parameter
        if model:
            parts.append(str(model))
        if run.has("problems"):
            problems = run.read("problems")
            judged = problems.filter(split="test")
            problems = judged if judged.height else problems
            asked = counted(problems["problem_id"].n_unique(), "problem")
            parts.append(f"{asked} in {counted(problems['language'].n_unique(), 'language')}")
        if run.has("claims"):
            parts.append(_headline(run.read("claims")))
        if run.is_in_use():
            parts.append("running now")
        return " · ".join(parts)
    except ValueError as error:
        return f"{run.name:<20} {date}  {error}"
