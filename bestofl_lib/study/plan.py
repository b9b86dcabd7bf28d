"""What a study asks for: its YAML file, and the notebooks with the parameters that each is about to get."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from bestofl_lib.files import ROOT
from bestofl_lib.languages import use_language_file
from bestofl_lib.problems.files import find
from bestofl_lib.runs import Folders, Run
from bestofl_lib.study.errors import StudyError
from bestofl_lib.study.notebooks import find_notebook, notebook_names
from bestofl_lib.study.parameters import Parameter, check_value, read_parameters
from bestofl_lib.text import suggestion

LANGUAGE_FILE = "language.toml"  # in a run folder: its language file
RENAMED = {"prompt": "style"}  # parameters that had another name


class Study(BaseModel):
    """The parameters of one study, as read from `notebooks/studies/<name>.yaml`."""

    model_config = ConfigDict(extra="forbid")

    name: str = ""
    title: str
    notebooks: list[str] = Field(min_length=1)  # file names without .ipynb, in the order in which they run
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


def study_names(folders: Folders) -> list[str]:
    """The studies that have a YAML file."""
    return sorted(path.stem for path in (folders.notebooks / "studies").glob("*.yaml"))


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
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StudyError(f"{path} is not YAML: {error}") from error
    except ValidationError as error:
        found = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg'].lower()}" for e in error.errors())
        raise StudyError(
            f"{path} is not a study: {found}; it needs 'title' and 'notebooks' (a list in the order in which they run) "
            "and may have 'parameters' and 'per_notebook'"
        ) from error


def plan(
    study: Study, overrides: Mapping[str, str] | None = None, folders: Folders | None = None
) -> tuple[str, list[Step]]:
    """What is to run, checked before anything runs.

    Args:
        study: from `load_study`.
        overrides: parameter to text, as given by `-p name=value`.

    Returns:
        The run's name (parameter `run`, by default the study's name) and the steps in order.

    Raises:
        StudyError: an unknown notebook or parameter (with a suggestion), or a value of the wrong type or range.
    """
    folders = folders or Folders.default()
    overrides = _with_language_file(study, overrides or {}, folders)
    names = [find_notebook(name, notebook_names(folders)) for name in study.notebooks]
    declared = {name: read_parameters(folders.notebooks / f"{name}.ipynb") for name in names}
    every = {parameter for parameters in declared.values() for parameter in parameters}
    source = f"{study.name}.yaml"
    for where, given in ((source, study.parameters), ("-p", overrides)):
        _check_known(given, every, f"{where}: no notebook of study {study.name!r} has a parameter")
    special = {find_notebook(name, names): values for name, values in study.per_notebook.items()}
    for name, values in special.items():
        _check_known(values, declared[name], f"{source}: {name}.ipynb has no parameter")
    run = Run(str(overrides.get("run", study.parameters.get("run", study.name))), folders.runs).name
    steps = []
    for name in names:
        passed: dict[str, Any] = {"run": run} if "run" in declared[name] else {}
        for where, given in ((source, study.parameters), (source, special.get(name, {})), ("-p", overrides)):
            wanted = {parameter: value for parameter, value in given.items() if parameter in declared[name]}
            passed |= {p: check_value(declared[name][p], value, where) for p, value in wanted.items()}
        defaults = {p.name: check_value(p, p.default, f"{name}.ipynb") for p in declared[name].values()}
        steps.append(Step(name, folders.notebooks / f"{name}.ipynb", passed, defaults | passed))
    return run, steps


def _with_language_file(study: Study, overrides: Mapping[str, str], folders: Folders) -> Mapping[str, str]:
    """The overrides, with `language_file` being the run folder's own where none is named; its language is known from
    here on.

    Raises:
        StudyError: the file is none, or not a language's.
    """
    run = Run(str(overrides.get("run", study.parameters.get("run", study.name))), folders.runs)
    own = run.folder / LANGUAGE_FILE
    named = overrides.get("language_file", study.parameters.get("language_file", ""))
    if not named and own.exists():
        named, overrides = str(own), {**overrides, "language_file": str(own)}
    try:
        use_language_file(find(named) if named else "")
    except (OSError, ValueError) as error:
        raise StudyError(f"language_file: {error}") from error
    return overrides


def with_absolute_paths(overrides: Mapping[str, str], here: Path | None = None) -> dict[str, str]:
    """Values that name a file or folder relative to the user's folder, as absolute paths: notebooks run in another one.

    A bare word counts for `pool` only; for other parameters it may be a keyword or a name on the Hub (`source=lab`). A
    path that means the same file from the project's folder stays as it is.

    Args:
        here: the user's folder; by default the current one.
    """
    here = here or Path.cwd()
    found = {}
    for name, text in overrides.items():
        place = here / Path(text).expanduser() if text and "\0" not in text and len(text) < 4096 else here
        is_path = name != "run" and text and (name == "pool" or "/" in text or "." in text)
        try:
            elsewhere = bool(is_path) and place.exists() and place.resolve() != (ROOT / text).resolve()
        except (OSError, ValueError):  # too long a name, or none at all
            elsewhere = False
        found[name] = str(place.resolve()) if elsewhere else text
    return found


def declared_parameters(study: Study, folders: Folders | None = None) -> list[tuple[Parameter, Any, list[str]]]:
    """Every parameter of a study once: its declaration, the value that the study gives it, and the notebooks that take
    it.
    """
    folders = folders or Folders.default()
    _, steps = plan(study, None, folders)
    found: dict[str, tuple[Parameter, Any, list[str]]] = {}
    for step in steps:
        for name, parameter in read_parameters(step.path).items():
            found.setdefault(name, (parameter, step.effective[name], []))[2].append(step.name)
    return list(found.values())


def _check_known(given: Iterable[str], known: Iterable[str], complaint: str) -> None:
    known = list(known)
    for parameter in given:
        if parameter not in known:
            new = RENAMED.get(parameter)
            hint = f"it is called {new!r} now; " if new in known else suggestion(parameter, known)
            raise StudyError(f"{complaint} {parameter!r}; {hint}parameters: {', '.join(sorted(known))}")
