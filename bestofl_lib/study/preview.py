"""What a study would do, before it does it: a dry run, a trial slice, and the parameters with their help."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from bestofl_lib.candidates.sampling import allocation_of
from bestofl_lib.languages import PIVOT, language
from bestofl_lib.runs import Folders, Run
from bestofl_lib.study.errors import StudyError
from bestofl_lib.study.freshness import states
from bestofl_lib.study.guards import check_models, check_not_finished_otherwise, check_trainings
from bestofl_lib.study.notebooks import find_notebook
from bestofl_lib.study.parameters import choices
from bestofl_lib.study.plan import Step, Study, declared_parameters, load_study, plan
from bestofl_lib.tables import SPLITS
from bestofl_lib.text import shortened

TRIAL = {
    "test_problems": 12,
    "train_problems": 12,
    "dev_problems": 12,
    "test_candidates": 4,
    "train_candidates": 4,
    "limit": 12,
}  # at most
TRIAL_LANGUAGES = 2


def choose(steps: list[Step], start_from: str | None, only: str | None) -> list[Step]:
    """The steps that `--from` or `--only` leave.

    Raises:
        StudyError: both are given, or no notebook is meant.
    """
    names = [step.name for step in steps]
    if start_from is not None and only is not None:
        raise StudyError("give --from or --only, not both")
    if only is not None:
        return [steps[names.index(find_notebook(only, names))]]
    return steps if start_from is None else steps[names.index(find_notebook(start_from, names)) :]


def request(
    study: str,
    overrides: dict[str, str] | None,
    start_from: str | None,
    only: str | None,
    replace: bool,
    folders: Folders,
) -> tuple[Study, Run, list[Step], list[Step]]:
    """The requested study, its run, all its steps and those chosen; checked, with nothing changed.

    Raises:
        StudyError: the request is wrong, or finished figures would be replaced and `replace` is not set.
    """
    asked = load_study(study, folders)
    name, steps = plan(asked, overrides, folders)
    chosen, run = choose(steps, start_from, only), Run(name, folders.runs)
    if not replace:
        check_not_finished_otherwise(run, study, chosen, overrides or {})
    check_models(run, chosen)
    check_trainings(run, chosen)
    return asked, run, steps, chosen


def trial_overrides(study: Study, overrides: Mapping[str, str], folders: Folders | None = None) -> dict[str, str]:
    """Parameters of a small run that shows in minutes whether everything works: 12 problems, 4 candidates, 2 languages.

    The run is called `<run>-trial`. Parameters given by `-p` are kept.
    """
    run, steps = plan(study, overrides, folders)
    values = {name: value for step in reversed(steps) for name, value in step.effective.items()}
    small: dict[str, str] = {"run": f"{run}-trial"}
    for name, most in TRIAL.items():
        if name in values:
            unlimited = name == "limit" and values[name] == 0
            small[name] = str(most if unlimited else min(values[name], most))
    codes = values.get("languages") or []
    if len(codes) > TRIAL_LANGUAGES:
        first = [PIVOT] if PIVOT in codes else []
        small["languages"] = ",".join([*first, *(code for code in codes if code not in first)][:TRIAL_LANGUAGES])
    return small | dict(overrides)


def preview(
    study: str,
    overrides: dict[str, str] | None = None,
    *,
    start_from: str | None = None,
    only: str | None = None,
    replace: bool = False,
    folders: Folders | None = None,
) -> list[str]:
    """What `bestofl run` with the same words would do, line by line; nothing is changed.

    Raises:
        StudyError: what the run itself would be refused for.
    """
    folders = folders or Folders.default()
    asked, run, steps, chosen = request(study, overrides, start_from, only, replace, folders)
    lines = [f"study {study} ({asked.title}) in {run.folder}, report in {folders.reports / run.name}"]
    known = {state.name: state for state in states(run, steps)}
    for step in chosen:
        state = known[step.name]
        lines.append(f"  {step.name:<32} {'up to date' if state.state == 'up to date' else 'would run: ' + state.why}")
    lines += _candidates(run, steps)
    lines.append("parameters that are not at their notebooks' defaults")
    changed: dict[str, Any] = {name: value for step in steps for name, value in step.passed.items()}
    return [*lines, *(f"  {name} = {value!r}" for name, value in sorted(changed.items()))]


def parameter_lines(study: str, folders: Folders | None = None) -> list[str]:
    """Every parameter of a study: name, type, value that the study gives it, and help."""
    asked = load_study(study, folders)
    lines = [
        f"{asked.title}: bestofl run {study} [-p name=value …]",
        "notebooks: " + ", ".join(asked.notebooks),
        "parameters",
    ]
    for parameter, value, notebooks in declared_parameters(asked, folders):
        where = "" if len(notebooks) == len(asked.notebooks) else f" ({', '.join(n[:2] for n in notebooks)})"
        known = choices(parameter.name)
        rest = "" if all(choice in parameter.help for choice in known) else f"; one of {', '.join(known)}"
        lines.append(f"  {parameter.name:<20} {parameter.type:<11} {_shown(value):<28} {parameter.help}{rest}{where}")
    return lines


def _candidates(run: Run, steps: list[Step]) -> list[str]:
    """How many candidates sampling would want, and how many are stored, where the study samples."""
    values = next((step.effective for step in steps if "test_candidates" in step.effective), None)
    if values is None:
        return []
    each = {split: values[f"{split}_problems"] * values[f"{split}_candidates"] for split in SPLITS}
    thinking = values["think_in"] or values["languages"]
    several = sum(bool(language(code).wordings) for code in thinking) / len(thinking)
    tested = each.pop("test") * len(values["languages"])
    if values["allocation"]:
        tested = values["test_problems"] * sum(allocation_of(values["allocation"], values["languages"]).values())
    wanted = round(
        (len(values["think_in"]) or 1)
        * (len(values["languages"]) * sum(each.values()) + tested * (1 + several * (values["wordings"] - 1)))
    )
    held = len(run.store().candidates(partial=True)) if (run.store().folder / "asked.parquet").exists() else 0
    return [f"candidates: at most {wanted:,} wanted, {held:,} stored"]


def _shown(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return shortened(text, 28)
