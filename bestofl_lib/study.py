"""Runs the notebooks of a study in order, only what changed, and keeps account of it.

A study is a YAML file with parameters; a notebook is a function with one cell of defaults; a run folder holds what
they make. This file knows files, hashes and papermill. It knows nothing of what a table means or how a page looks:
the report is asked for from `display/report/build.py`.

When is a notebook up to date? When its parameters, its cells, the library files that it imports (directly or not),
the files in `data/` that its parameters name, the files that earlier notebooks left in the run folder, and the files
that it left there itself are all what they were when it last finished.
"""

from __future__ import annotations

import ast
import contextlib
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError, field_validator

from bestofl_lib.languages import check_languages
from bestofl_lib.runs import ROOT, Run, replace_file
from bestofl_lib.text import content_digest, suggestion

LIBRARY = Path(__file__).resolve().parent
LANGUAGE_PARAMETERS = ("language", "languages", "target", "targets")  # checked against the known languages before a run
TYPES = ("str", "int", "float", "bool", "list[str]", "list[int]", "list[float]")
LARGE = 64 * 2**20  # bytes; larger files are told apart by size and time of change, not by content
VERSIONS = ("bestofl", "torch", "transformers", "polars", "numpy", "scipy", "altair", "papermill", "nbconvert")


class StudyError(Exception):
    """A study that cannot go on; the message says what was found, what was expected and the next step."""

    def __init__(self, message: str, exit_code: int = 1):
        super().__init__(message)
        self.exit_code = exit_code  # what the command line ends with


@dataclass(frozen=True)
class Folders:
    """Where things are."""

    notebooks: Path  # NN_verb_object.ipynb and studies/*.yaml
    runs: Path  # one folder per run
    reports: Path  # one folder per run

    @classmethod
    def default(cls) -> Folders:
        """The project's folders, or those named by BESTOFL_NOTEBOOKS, BESTOFL_RUNS and BESTOFL_REPORTS."""
        return cls(
            Path(os.environ.get("BESTOFL_NOTEBOOKS") or ROOT / "notebooks"),
            Path(os.environ.get("BESTOFL_RUNS") or ROOT / "data" / "runs"),
            Path(os.environ.get("BESTOFL_REPORTS") or ROOT / "reports"),
        )


@dataclass(frozen=True)
class Parameter:
    """One line of a notebook's parameters cell."""

    name: str
    type: str  # one of TYPES
    default: Any
    help: str


class Study(BaseModel):
    """The parameters of one study, as read from `notebooks/studies/<name>.yaml`."""

    model_config = ConfigDict(extra="forbid")

    name: str = ""
    title: str
    notebooks: list[str] = []  # file names without .ipynb, in order; empty: all numbered notebooks from 01 on
    parameters: dict[str, Any] = {}  # given to every notebook that declares them
    per_notebook: dict[str, dict[str, Any]] = {}  # given to one notebook only

    @field_validator("per_notebook", "parameters", mode="before")
    @classmethod
    def _empty_section(cls, value: Any) -> Any:
        return {} if value is None else value


@dataclass(frozen=True)
class Step:
    """One notebook of a study with the parameters that it is about to get."""

    name: str  # such as 08_budget_curves
    path: Path
    passed: dict[str, Any]  # what papermill is given
    effective: dict[str, Any]  # the same over the notebook's defaults


@dataclass(frozen=True)
class State:
    """Whether one notebook has to run."""

    name: str
    state: str  # "up to date", "stale", "missing" or "failed"
    why: str  # empty when up to date


# -- what a study asks for ---------------------------------------------------------------------------------------------


def study_names(folders: Folders | None = None) -> list[str]:
    """The studies that have a YAML file."""
    return sorted(path.stem for path in ((folders or Folders.default()).notebooks / "studies").glob("*.yaml"))


def load_study(name: str, folders: Folders | None = None) -> Study:
    """One study's parameters.

    Args:
        name: of a file in `notebooks/studies`, without `.yaml`.

    Raises:
        StudyError: there is no such study, or its file holds something else than a study.
    """
    folders = folders or Folders.default()
    path = folders.notebooks / "studies" / f"{name}.yaml"
    if name not in study_names(folders):
        raise StudyError(
            f"no study {name!r} in {path.parent}; {suggestion(name, study_names(folders))}"
            f"studies: {', '.join(study_names(folders)) or 'none'}"
        )
    try:
        content = yaml.safe_load(path.read_text("utf8"))
        return Study.model_validate({"name": name} | (content if isinstance(content, dict) else {"": content}))
    except yaml.YAMLError as error:
        raise StudyError(f"{path} is not YAML: {error}") from error
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg'].lower()}" for e in error.errors())
        raise StudyError(
            f"{path} is not a study: {found}; it needs 'title' and may have 'notebooks', 'parameters' and 'per_notebook'"
        ) from error


def read_parameters(notebook: Path) -> dict[str, Parameter]:
    """The parameters that a notebook declares in its cell tagged `parameters`.

    Args:
        notebook: an .ipynb file whose tagged cell has one `name: type = literal  # help` per line.

    Raises:
        StudyError: the notebook cannot be read, has no such cell, or a line of the cell is anything else.
    """
    cells = [cell for cell in _cells(notebook) if "parameters" in cell.get("metadata", {}).get("tags", [])]
    if len(cells) != 1:
        raise StudyError(f"{notebook.name} has {len(cells)} cells tagged 'parameters'; it needs exactly one")
    source = _source(cells[0])
    found: dict[str, Parameter] = {}
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise StudyError(f"{notebook.name}: its parameters cell is not Python: {error}") from error
    lines = source.splitlines()
    for statement in statements:
        line = lines[statement.lineno - 1]
        if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value):
            raise StudyError(f"{notebook.name}: parameter line {line!r}; write 'name: type = literal  # help'")
        kind = ast.unparse(statement.annotation)
        try:
            default = ast.literal_eval(statement.value)
        except ValueError as error:
            raise StudyError(f"{notebook.name}: the default in {line!r} is not a literal") from error
        if kind not in TYPES:
            raise StudyError(
                f"{notebook.name}: parameter line {line!r} has type {kind!r}; use one of {', '.join(TYPES)}"
            )
        rest = lines[(statement.end_lineno or statement.lineno) - 1].encode()[statement.end_col_offset or 0 :].decode()
        found[statement.target.id] = Parameter(statement.target.id, kind, default, rest.strip().lstrip("#").strip())
    return found


def check_value(parameter: Parameter, value: Any, where: str) -> Any:
    """The value as the type that the notebook declares.

    Args:
        value: from YAML, or a string from the command line: `en,de` and `[en, de]` are lists, `007` stays text
            where text is declared.
        where: the study file or `-p`, for the message.

    Raises:
        StudyError: the value is of another type (a language code `no` that YAML made False, for example).
    """
    kind, name = parameter.type, parameter.name
    if where == "-p" and isinstance(value, str):
        if kind.startswith("list["):
            value = _list_of_text(value, name)
            return [_one(kind[5:-1], item, f"{where} {name}", from_text=True) for item in value]
        return _one(kind, value, f"{where} {name}", from_text=True)
    if kind.startswith("list["):
        if not isinstance(value, list):
            raise StudyError(
                f"{where}: parameter {name!r} is {value!r}; expected {kind}, such as {parameter.default!r}"
            )
        return [_one(kind[5:-1], item, f"{where}: {name}[{i}]", from_text=False) for i, item in enumerate(value)]
    return _one(kind, value, f"{where}: {name}", from_text=False)


def _list_of_text(text: str, name: str) -> list[str]:
    """`en,de`, `[en, de]` or `["no"]` as a list of strings, none of them turned into a number or a truth value."""
    if not text.strip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        items = yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise StudyError(f"-p {name}: {text!r} is not a list; write {name}=a,b or {name}='[a, b]'") from error
    return [str(item) for item in items]


def _one(kind: str, value: Any, where: str, from_text: bool) -> Any:
    """A single value of one of the four plain types."""
    truth = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    with contextlib.suppress(ValueError):
        if from_text:
            if kind == "bool" and value.lower() in truth:
                return truth[value.lower()]
            if kind in ("str", "int", "float"):
                return {"str": str, "int": int, "float": float}[kind](value)
        elif kind == "float" and isinstance(value, int) and not isinstance(value, bool):
            return float(value)
        elif type(value).__name__ == kind:
            return value
    hint = "; put quotes around it" if kind == "str" else ""
    raise StudyError(f"{where} is {value!r}; expected {kind}{hint}")


def plan(
    study: Study, overrides: dict[str, str] | None = None, folders: Folders | None = None
) -> tuple[str, list[Step]]:
    """What is to run, checked before anything runs.

    Args:
        study: from `load_study`.
        overrides: parameter to text, as given by `-p name=value`.

    Returns:
        The run's name (parameter `run`, by default the study's name) and the steps in order.

    Raises:
        StudyError: an unknown notebook or parameter (with a suggestion), a value of the wrong type, an unknown language.
    """
    folders, overrides = folders or Folders.default(), overrides or {}
    names = study.notebooks or default_notebooks(folders)
    if not names:
        raise StudyError(f"no notebooks in {folders.notebooks}; expected files such as 01_generate_candidates.ipynb")
    names = [find_notebook(name, notebook_names(folders)) for name in names]
    declared = {name: read_parameters(folders.notebooks / f"{name}.ipynb") for name in names}
    every = {parameter for parameters in declared.values() for parameter in parameters}
    source = f"{study.name}.yaml"
    for where, given in ((source, study.parameters), ("-p", overrides)):
        for parameter in given:
            if parameter not in every:
                raise StudyError(
                    f"{where}: no notebook of study {study.name!r} has a parameter {parameter!r}; "
                    f"{suggestion(parameter, every)}parameters: {', '.join(sorted(every))}"
                )
    special = {find_notebook(name, names): values for name, values in study.per_notebook.items()}
    for name, values in special.items():
        for parameter in values:
            if parameter not in declared[name]:
                raise StudyError(
                    f"{source}: {name}.ipynb has no parameter {parameter!r}; {suggestion(parameter, declared[name])}"
                    f"parameters: {', '.join(declared[name])}"
                )
    run = str(overrides.get("run", study.parameters.get("run", study.name)))
    steps = []
    for name in names:
        passed: dict[str, Any] = {"run": run} if "run" in declared[name] else {}
        for where, given in ((source, study.parameters), (source, special.get(name, {})), ("-p", overrides)):
            for parameter, value in given.items():
                if parameter in declared[name]:
                    passed[parameter] = check_value(declared[name][parameter], value, where)
        defaults = {parameter.name: parameter.default for parameter in declared[name].values()}
        steps.append(Step(name, folders.notebooks / f"{name}.ipynb", passed, defaults | passed))
    for step in steps:
        for parameter in set(LANGUAGE_PARAMETERS) & set(step.effective):
            value = step.effective[parameter]
            codes = value if isinstance(value, list) else [value] if value else []
            if codes:
                check_languages(codes)
    return Run(run, folders.runs).name, steps


def notebook_names(folders: Folders | None = None) -> list[str]:
    """All numbered notebooks, in order."""
    return sorted(path.stem for path in (folders or Folders.default()).notebooks.glob("[0-9][0-9]_*.ipynb"))


def default_notebooks(folders: Folders | None = None) -> list[str]:
    """The notebooks that a study runs unless it names its own: from 01 on, without those that have a cell tagged
    `interactive` (they are for a person, not for a report)."""
    folders = folders or Folders.default()
    return [
        name
        for name in notebook_names(folders)
        if name >= "01"
        and not any("interactive" in c["metadata"].get("tags", []) for c in _cells(folders.notebooks / f"{name}.ipynb"))
    ]


def find_notebook(name: str, among: list[str]) -> str:
    """The notebook meant by `05`, `05_budget` or its whole name.

    Raises:
        StudyError: none or several begin so; with a suggestion.
    """
    wanted = name.removesuffix(".ipynb")
    found = [candidate for candidate in among if candidate == wanted] or [c for c in among if c.startswith(wanted)]
    if len(found) != 1 or not wanted:
        raise StudyError(f"no notebook {name!r}; {suggestion(wanted, among)}notebooks: {', '.join(among)}")
    return found[0]


# -- what has changed --------------------------------------------------------------------------------------------------


def states(run: Run, steps: list[Step]) -> list[State]:
    """Whether each notebook has to run, and why; one per step."""
    records = run.recorded().get("notebooks", {})
    digests = _Digests(run)
    return [_state(run, step, steps, records, digests) for step in steps]


def _state(run: Run, step: Step, steps: list[Step], records: dict[str, Any], digests: _Digests) -> State:
    record = records.get(step.name)
    if record is None:
        return State(step.name, "missing", "it has not run")
    if record["status"] == "failed":
        return State(step.name, "failed", f"cell {record['error']['cell']}: {record['error']['message']}")
    if record["status"] != "done":
        return State(step.name, "stale", "it was interrupted")
    why = _difference("parameter", record["parameters"], step.effective, show=True)
    why = why or ("" if record["source"] == _digest_cells(step.path) else "the notebook changed")
    why = why or _difference("library file", record["library"], library_files(step.path))
    why = why or _difference("input", record["data"], _data_files(step, digests))
    why = why or _difference("file", record["outputs"], {name: digests.of(name) for name in record["outputs"]})
    why = why or _difference("earlier table", *_upstream(step, steps, records, digests))
    why = why or ("" if executed_path(run, step.name).exists() else "its executed notebook is missing")
    return State(step.name, "stale" if why else "up to date", why)


def _upstream(step: Step, steps: list[Step], records: dict[str, Any], digests: _Digests) -> tuple[dict, dict]:
    """What earlier notebooks left when this one ran, and what they have left now.

    A file that a later notebook has since taken over (a store that it topped up) is nobody's concern upstream.
    """
    order = [other.name for other in steps]
    earlier = {f for name in order[: order.index(step.name)] for f in records.get(name, {}).get("outputs", {})}
    others = {
        f for name, record in records.items() if name not in order[: order.index(step.name)] for f in record["outputs"]
    }
    then = {name: digest for name, digest in records[step.name]["inputs"].items() if name not in others - earlier}
    return then, {name: digests.of(name) for name in earlier}


def _difference(what: str, then: dict[str, Any], now: dict[str, Any], show: bool = False) -> str:
    """The first few entries that differ, in words; empty when none does."""
    changed = [key for key in sorted(then.keys() | now.keys()) if then.get(key) != now.get(key)]
    if not changed:
        return ""
    if show:
        changed = [f"{key} ({then.get(key)!r} → {now.get(key)!r})" for key in changed]
    return f"{what} changed: " + ", ".join(changed[:3]) + (f" and {len(changed) - 3} more" if len(changed) > 3 else "")


class _Digests:
    """SHA-256 of the files of a run, each computed once for as long as size and time of change stay the same."""

    def __init__(self, run: Run):
        self.folder = run.folder
        self.memory = run.folder / ".digests.json"
        try:
            self.known: dict[str, list] = json.loads(self.memory.read_text("utf8"))
        except (OSError, ValueError):
            self.known = {}  # only a memory: what is missing is computed

    def stamp(self, name: str) -> list[int] | None:
        """Size, time of change and inode of a file; None when it is not there."""
        with contextlib.suppress(OSError):
            stat = os.stat(self.folder / name)
            return [stat.st_size, stat.st_mtime_ns, stat.st_ino]
        return None

    def of(self, name: str) -> str:
        """Digest of a file, its name taken from the run folder (or absolute); empty when it is not there."""
        stamp = self.stamp(name)
        if stamp is None:
            return ""
        if name not in self.known or self.known[name][0] != stamp:
            self.known[name] = [stamp, file_digest(self.folder / name)]
        return self.known[name][1]

    def save(self) -> None:
        replace_file(self.memory, json.dumps(self.known).encode())


def file_digest(path: Path) -> str:
    """First 16 hex digits of a file's SHA-256; beyond 64 MB of its size and time of change."""
    stat = path.stat()
    if stat.st_size > LARGE:
        return content_digest(f"{stat.st_size} {stat.st_mtime_ns}")
    return content_digest(path.read_bytes())


def _files(folder: Path) -> list[str]:
    """Files of a run that count: not hidden, not half-written, not the account of the run itself."""
    return sorted(
        name
        for path in folder.rglob("*")
        if path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
        and path.suffix not in (".lock", ".part", ".tmp")
        and (name := path.relative_to(folder).as_posix()) != "run.json"
        and not name.startswith("notebooks/")
    )


def _data_files(step: Step, digests: _Digests) -> dict[str, str]:
    """Digests of the files that the parameters name: a path, or a folder of the project or of its `data`."""
    found: dict[str, str] = {}
    for name, value in step.effective.items():
        for text in value if isinstance(value, list) else [value]:
            if name == "run" or not isinstance(text, str) or not re.fullmatch(r"[\w./~ -]{1,200}", text):
                continue
            for path in (ROOT / Path(text).expanduser(), ROOT / "data" / text):
                files = [path] if path.is_file() else sorted(path.rglob("*")) if path.is_dir() and path != ROOT else []
                for file in files[:1000]:
                    if file.is_file() and not any(part.startswith(".") for part in file.relative_to(path).parts):
                        shown = file.relative_to(ROOT) if file.is_relative_to(ROOT) else file
                        found[str(shown)] = digests.of(str(file))
    return found


def _stamp(path: Path) -> tuple[int, int]:
    """Size and time of change: what was read from a file holds for as long as they do."""
    with contextlib.suppress(OSError):
        return path.stat().st_size, path.stat().st_mtime_ns
    return 0, 0


def _cells(notebook: Path) -> list[dict[str, Any]]:
    return _cells_at(notebook, _stamp(notebook))


@lru_cache(maxsize=64)
def _cells_at(notebook: Path, stamp: tuple[int, int]) -> list[dict[str, Any]]:
    try:
        cells = json.loads(notebook.read_text("utf8"))["cells"]
        return [cell | {"metadata": cell.get("metadata", {})} for cell in cells]
    except FileNotFoundError as error:
        raise StudyError(f"no notebook {notebook}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{notebook} is not a notebook ({error}); restore it from git") from error


def _source(cell: dict[str, Any]) -> str:
    return "".join(cell["source"]) if isinstance(cell["source"], list) else cell["source"]


def _digest_cells(notebook: Path) -> str:
    cells = [[cell["cell_type"], _source(cell), cell["metadata"].get("tags", [])] for cell in _cells(notebook)]
    return content_digest(json.dumps(cells))


def library_files(notebook: Path) -> dict[str, str]:
    """Digest of every library file that a notebook imports, directly or through another one.

    Data files beside an imported module count as well.
    """
    todo: list[str] = []
    for cell in _cells(notebook):
        if cell["cell_type"] == "code":
            lines = [line for line in _source(cell).splitlines() if not line.lstrip().startswith(("%", "!", "?"))]
            todo += _imported("\n".join(lines), "")
    found: dict[str, str] = {}
    seen: set[str] = set()
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        base = LIBRARY.parent / module.replace(".", "/")
        path = base / "__init__.py" if base.is_dir() else base.with_suffix(".py")
        if path.is_file():
            package = module if base.is_dir() else module.rpartition(".")[0]
            digest, imports = _read_module(path, package, _stamp(path))
            found[path.relative_to(LIBRARY.parent).as_posix()] = digest
            todo += [*imports, module.rpartition(".")[0] or LIBRARY.name]
    for folder in {(LIBRARY.parent / name).parent for name in found}:
        for path in folder.iterdir():
            if path.is_file() and path.suffix not in (".py", ".pyc") and not path.name.startswith("."):
                found[path.relative_to(LIBRARY.parent).as_posix()] = file_digest(path)
    return dict(sorted(found.items()))


@lru_cache(maxsize=512)
def _read_module(path: Path, package: str, stamp: tuple[int, int]) -> tuple[str, list[str]]:
    """Digest of a module and the modules that it imports."""
    return file_digest(path), _imported(path.read_text("utf8"), package)


def _imported(source: str, package: str) -> list[str]:
    """The names of this library's modules that a piece of Python imports, wherever in it."""
    try:
        tree = ast.parse(source)
    except SyntaxError:
        return []  # it will fail when it runs, and say where
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            parts = package.split(".")
            base = ".".join(parts[: len(parts) - node.level + 1]) if node.level else ""
            module = ".".join(part for part in (base, node.module or "") if part)
            names += [module] + [f"{module}.{alias.name}" for alias in node.names]
    return [name for name in names if name.split(".")[0] == LIBRARY.name]


# -- running -----------------------------------------------------------------------------------------------------------


def run_study(
    study: str,
    overrides: dict[str, str] | None = None,
    *,
    start_from: str | None = None,
    only: str | None = None,
    force: bool = False,
    folders: Folders | None = None,
    say: Callable[[str], None] = print,
) -> Path:
    """Run what has changed of a study and bring its report up to date.

    Args:
        study: the name of a file in `notebooks/studies`.
        overrides: parameter to text, as given by `-p name=value`.
        start_from: leave out the notebooks before this one.
        only: leave out all notebooks but this one.
        force: run them even if they are up to date.
        folders: where notebooks, runs and reports are; by default the project's.
        say: gets each line of progress.

    Returns:
        The report's index.html.

    Raises:
        StudyError: nothing has run, because the request is wrong or the run is in use; or a notebook failed, and the
            message names the cell, the error and the next step. The report then says so too.
    """
    import filelock

    folders = folders or Folders.default()
    asked = load_study(study, folders)
    name, steps = plan(asked, overrides, folders)
    chosen = _choose(steps, start_from, only)
    run = Run(name, folders.runs)
    try:
        run.folder.mkdir(parents=True, exist_ok=True)
        replace_file(run.folder / ".writable", b"")
    except OSError as error:
        raise StudyError(
            f"cannot write to {run.folder}: {error.strerror}; free some space or set BESTOFL_RUNS"
        ) from error
    lock = filelock.FileLock(run.folder / ".study.lock")
    try:
        held = lock.acquire(timeout=0)
    except filelock.Timeout as error:
        raise StudyError(
            f"run {name!r} is in use by another `bestofl run`; wait for it, or give this one a name: -p run={name}-2"
        ) from error
    with held:
        run.record("study", {"name": study, "title": asked.title, "overrides": overrides or {}})
        try:
            for step in chosen:
                _bring_up_to_date(run, step, steps, force, say)
        except StudyError:
            _report(run, asked.title, steps, folders, say)
            raise
        return _report(run, asked.title, steps, folders, say)


def _choose(steps: list[Step], start_from: str | None, only: str | None) -> list[Step]:
    names = [step.name for step in steps]
    if start_from and only:
        raise StudyError("give --from or --only, not both")
    if only:
        return [steps[names.index(find_notebook(only, names))]]
    return steps[names.index(find_notebook(start_from, names)) :] if start_from else steps


def _bring_up_to_date(run: Run, step: Step, steps: list[Step], force: bool, say: Callable[[str], None]) -> None:
    digests = _Digests(run)
    records = run.recorded().get("notebooks", {})
    state = _state(run, step, steps, records, digests)
    if state.state == "up to date" and not force:
        say(f"  {step.name}: up to date")
        return
    say(f"  {step.name}: running ({state.why or 'asked to run again'})")
    before = {name: digests.stamp(name) for name in _files(run.folder)}
    order = [other.name for other in steps]
    earlier = {f for name in order[: order.index(step.name)] for f in records.get(name, {}).get("outputs", {})}
    record: dict[str, Any] = {
        "status": "running",
        "parameters": step.effective,
        "source": _digest_cells(step.path),
        "library": library_files(step.path),
        "data": _data_files(step, digests),
        "inputs": {name: digests.of(name) for name in sorted(earlier) if digests.of(name)},
        "outputs": records.get(step.name, {}).get("outputs", {}),
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        "git": git_state(),
        "versions": versions(),
    }
    _remember(run, step.name, record)
    began = time.monotonic()
    failure: StudyError | None = None
    with _peak_memory() as peak:
        try:
            _execute(step, executed_path(run, step.name))
            record["status"] = "done"
        except _Failed as failed:
            record |= {"status": "failed", "error": {"cell": failed.cell, "message": failed.short}}
            failure = StudyError(failed.message(step.name, run), failed.exit_code)
    record |= {"seconds": round(time.monotonic() - began, 1), "peak_memory_mb": round(peak[0] / 2**20)}
    digests = _Digests(run)
    records = run.recorded()["notebooks"]
    foreign = {f for name, other in records.items() if name != step.name for f in other["outputs"]}
    mine = [
        name
        for name in _files(run.folder)
        if name not in foreign or before.get(name) != digests.stamp(name)  # its own, unclaimed, or changed meanwhile
    ]
    record["outputs"] = {name: digests.of(name) for name in mine}
    for name, other in records.items():
        if name != step.name:
            other["outputs"] = {f: digest for f, digest in other["outputs"].items() if f not in record["outputs"]}
    run.record("notebooks", dict(sorted((records | {step.name: record}).items())))
    digests.save()
    if failure:
        raise failure
    say(f"  {step.name}: done in {record['seconds']:.0f} s, at most {record['peak_memory_mb']:,} MB")


def _remember(run: Run, name: str, record: dict[str, Any]) -> None:
    run.record("notebooks", dict(sorted((run.recorded().get("notebooks", {}) | {name: record}).items())))


def executed_path(run: Run, notebook: str) -> Path:
    """Where a run keeps an executed notebook."""
    return run.folder / "notebooks" / f"{notebook}.ipynb"


class _Failed(Exception):
    """A notebook that did not reach its end."""

    def __init__(self, cell: str, name: str, value: str, source: str = "", exit_code: int = 1):
        super().__init__(name)
        self.cell, self.name, self.value, self.source, self.exit_code = cell, name, value, source, exit_code
        self.short = f"{name}: {value}".strip(": ")[:500]

    def message(self, notebook: str, run: Run) -> str:
        lines = [f"{notebook} failed in cell {self.cell}: {self.short}"]
        lines += ["    " + line for line in self.source.splitlines()[:12]]
        lines.append(f"the whole traceback is in {executed_path(run, notebook)}")
        lines.append(
            f"next: mend it and run the same command again (it goes on at {notebook[:2]}; what is done is kept)"
        )
        return "\n".join(lines)


def _execute(step: Step, target: Path) -> None:
    """Run one notebook into `target`, which is replaced in one step and only by a whole notebook.

    Raises:
        _Failed: with the cell and the error; `target` then shows how far it came.
    """
    os.environ.setdefault("PYDEVD_DISABLE_FILE_VALIDATION", "1")  # else the kernel prints a warning about debugging
    import papermill
    from nbclient.exceptions import CellTimeoutError, DeadKernelError

    target.parent.mkdir(parents=True, exist_ok=True)
    for left in target.parent.glob(f".{target.stem}.*.part.ipynb"):
        left.unlink()  # of a run that was killed; this run holds the lock
    part = target.parent / f".{target.stem}.{os.getpid()}.part.ipynb"
    failed: _Failed | None
    try:
        try:
            papermill.execute_notebook(
                step.path,
                part,
                parameters=step.passed,
                kernel_name="python3",
                cwd=step.path.parent,
                progress_bar={"desc": f"  {step.name}", "leave": False, "disable": None},
                start_timeout=120,
                extra_arguments=["--IPKernelApp.log_level=50"],  # else each kernel warns of TCP on this machine
            )
        except papermill.PapermillExecutionError as error:
            failed = _Failed(f"[{error.exec_count}]", error.ename, error.evalue, error.source)
        except DeadKernelError:
            failed = _Failed(
                _last_cell(part),
                "the kernel was killed",
                "most often for want of memory (close other programs or lower the batch), or by an exit() in a cell",
                exit_code=138,
            )
        except CellTimeoutError as error:
            failed = _Failed(_last_cell(part), "time-out", str(error).splitlines()[0])
        else:
            failed = _unfinished(part)
        _sign(part)
        if part.exists():
            os.replace(part, target)
        if failed:
            raise failed
    finally:
        part.unlink(missing_ok=True)


def _last_cell(notebook: Path) -> str:
    """The execution count of the last cell that was begun, as far as the file says."""
    try:
        counts = [cell.get("execution_count") for cell in json.loads(notebook.read_text("utf8"))["cells"]]
    except (OSError, ValueError, KeyError):
        return "[?]"
    return f"[{max([count for count in counts if count] or [0]) + 1}]"


def _unfinished(notebook: Path) -> _Failed | None:
    """Papermill takes `exit()` in a cell for a good end: a code cell that never ran says otherwise."""
    for cell in json.loads(notebook.read_text("utf8"))["cells"]:
        if cell["cell_type"] == "code" and _source(cell).strip() and cell.get("execution_count") is None:
            return _Failed(_last_cell(notebook), "the notebook ended early", "this cell never ran", _source(cell))
    return None


def _sign(path: Path) -> None:
    """Mark an executed notebook as trusted, so that its charts show when it is opened."""
    import nbformat
    from nbformat.sign import NotebookNotary

    if path.exists():
        with contextlib.suppress(OSError):  # the signature store is a comfort, not a result
            NotebookNotary().sign(nbformat.read(path, as_version=4))


@contextlib.contextmanager
def _peak_memory(every: float = 0.5) -> Iterator[list[int]]:
    """Largest resident memory in bytes of this process and all below it, in a list of one."""
    import psutil

    peak, end, me = [0], threading.Event(), psutil.Process()

    def watch() -> None:
        while not end.wait(every):
            total = 0
            for process in [me, *me.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    total += process.memory_info().rss
            peak[0] = max(peak[0], total)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield peak
    finally:
        end.set()
        thread.join()


def git_state() -> str:
    """The commit of the project and whether files differ from it, such as `650463b, 3 files changed`."""
    try:
        commit = subprocess.run(
            ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "-C", str(ROOT), "status", "--porcelain"], capture_output=True, text=True, check=True, timeout=20
        ).stdout.splitlines()
    except (OSError, subprocess.SubprocessError):
        return "not a git checkout"
    return commit + (f", {len(changed)} files changed" if changed else ", clean")


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape a result."""
    found = {"python": ".".join(map(str, sys.version_info[:3]))}
    for package in VERSIONS:
        with contextlib.suppress(metadata.PackageNotFoundError):
            found[package] = metadata.version(package)
    return found


def _report(run: Run, title: str, steps: list[Step], folders: Folders, say: Callable[[str], None]) -> Path:
    """Bring the report up to date; nothing is built when neither its pages nor its looks have changed."""
    target = folders.reports / run.name
    records = run.recorded().get("notebooks", {})
    now = {state.name: state for state in states(run, steps)}
    looks = [
        LIBRARY / "display" / "embed.py",
        *(LIBRARY / "display" / "report").rglob("*.*"),
        *(LIBRARY / "display" / "assets").rglob("*.*"),
    ]
    code = {path.name: file_digest(path) for path in looks if path.is_file()}
    shown = [[n, s.state, records.get(n, {}).get("started"), records.get(n, {}).get("outputs")] for n, s in now.items()]
    key = content_digest(json.dumps([title, code, shown], sort_keys=True))
    index = target / "index.html"
    if index.exists() and run.recorded().get("report", {}).get("key") == key:
        say(f"  report: up to date, {index}")
        return index
    from bestofl_lib.display.report.build import LARGEST, build_report

    began = time.monotonic()
    build_report(run, target, title=title, states={name: (state.state, state.why) for name, state in now.items()})
    run.record("report", {"key": key, "seconds": round(time.monotonic() - began, 1)})
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file())
    say(f"  report: {index} ({size / 1e6:.1f} MB)")
    if size > LARGEST:
        say(f"  report: larger than {LARGEST / 1e6:.0f} MB; show shorter tables or fewer charts in the notebooks")
    return index


def describe_run(name: str, folders: Folders | None = None) -> list[str]:
    """What a run holds, line by line: notebooks with their state, tables with their rows, candidates per language.

    Raises:
        StudyError: there is no such run.
    """
    import polars as pl

    folders = folders or Folders.default()
    run = Run(name, folders.runs)
    if not run.folder.is_dir():
        runs = sorted(path.name for path in folders.runs.glob("*") if path.is_dir())
        raise StudyError(
            f"no run {name!r} in {folders.runs}; {suggestion(name, runs)}"
            + (f"runs: {', '.join(runs)}" if runs else "run `bestofl run lab` first")
        )
    lines = [f"run {name} in {run.folder}"]
    asked = run.recorded().get("study")
    if asked is None:
        lines.append("  made by hand: no study has run here, so nothing says what is up to date")
    else:
        _, steps = plan(load_study(asked["name"], folders), asked["overrides"], folders)
        lines.append(f"notebooks of study {asked['name']}")
        lines += [f"  {s.name:<32} {s.state}{': ' + s.why if s.why else ''}" for s in states(run, steps)]
    lines.append("tables")
    tables = sorted(run.folder.glob("*.parquet"))
    for path in tables:
        try:
            lines.append(f"  {path.stem:<32} {pl.scan_parquet(path).select(pl.len()).collect().item():,} rows")
        except (pl.exceptions.PolarsError, OSError) as error:
            lines.append(f"  {path.stem:<32} cannot be read ({error}); delete it and run its notebook again")
    if run.has("readings"):
        lines.append("candidates")
        counts = pl.scan_parquet(run.path("readings")).group_by("language").len().sort("language").collect()
        lines.append("  " + ", ".join(f"{language} {n:,}" for language, n in counts.iter_rows()))
    report = folders.reports / name / "index.html"
    lines.append(f"report\n  {report}" if report.exists() else "report\n  none yet")
    return lines
