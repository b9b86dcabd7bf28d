"""The parameters of notebooks: what a parameters cell declares, and values checked before a kernel starts.

Types are checked by pydantic. Ranges are declared here once, by the parameter's name, since a name means the same in
every notebook; choices are the library's own lists.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import yaml
from pydantic import AfterValidator, Field, TypeAdapter, ValidationError

from bestofl_lib.analysis import axes
from bestofl_lib.candidates.rollouts import MOST_ROLLOUTS
from bestofl_lib.languages import check_languages
from bestofl_lib.models.contract import DTYPES, check_device, check_engine
from bestofl_lib.numbers.references import DECIMAL_MARKS
from bestofl_lib.problems.prompts import STYLES, WAYS
from bestofl_lib.problems.references import KINDS
from bestofl_lib.rewards.pairs import CROSS_SHARES, reward_model_names
from bestofl_lib.rewards.spec import LOSSES, READOUTS, SCOPES, STEP_TARGETS, TUNINGS
from bestofl_lib.rewards.steps import AGGREGATIONS
from bestofl_lib.study.errors import StudyError
from bestofl_lib.study.notebooks import cell_source, read_cells
from bestofl_lib.tables import SPLITS

TYPES: dict[str, type] = {
    "str": str, "int": int, "float": float, "bool": bool,
    "list[str]": list[str], "list[int]": list[int], "list[float]": list[float],
}  # fmt: skip
# values are language codes
LANGUAGE_PARAMETERS = (
    "language",
    "languages",
    "target",
    "targets",
    "base",
    "question_language",
    "think_in",
    "answer_in",
)


@dataclass(frozen=True)
class Parameter:
    """One line of a notebook's parameters cell."""

    name: str
    type: str  # one of TYPES
    default: Any
    help: str


def _usable_temperature(value: float) -> float:
    if value != 0 and not 0.01 <= value <= 10:
        raise ValueError("expected 0 (the likeliest token) or 0.01 to 10")
    return value


def _one_of(*choices: str) -> Any:
    return Literal[choices]


def _passing(kind: Any, check: Callable[[Any], object]) -> Any:
    """A type whose values pass a check of the library's."""

    def checked(value: Any) -> Any:
        check(value)
        return value

    return Annotated[kind, AfterValidator(checked)]


def _check_columns(texts: list[str]) -> None:
    from bestofl_lib.candidates.pool_rows import named_columns

    named_columns(texts)


_COUNT = Annotated[int, Field(ge=0, le=10**9)]
_POSITIVE = Annotated[int, Field(ge=1, le=10**9)]
_SEED = Annotated[int, Field(ge=0, lt=2**63)]
RANGES: dict[str, Any] = {
    "train_problems": _COUNT,
    "train_candidates": _COUNT,
    "dev_problems": _COUNT,
    "dev_candidates": _COUNT,
    "test_problems": _POSITIVE,
    "test_candidates": _POSITIVE,
    "wordings": _POSITIVE,
    "temperature": Annotated[float, AfterValidator(_usable_temperature)],
    "top_p": Annotated[float, Field(gt=0, le=1)],
    "top_k": _COUNT,
    "max_new_tokens": _POSITIVE,
    "batch_rows": _COUNT,
    "workers": _COUNT,
    "seed": _SEED,
    "limit": _COUNT,
    "reader_sample": _POSITIVE,
    "rollouts": Annotated[int, Field(ge=1, le=MOST_ROLLOUTS)],
    "samples": _COUNT,
    "rows": _POSITIVE,
    "folds": _COUNT,
    "trainings": _COUNT,
    "epochs": Annotated[float, Field(ge=0, le=1000)],
    "learning_rate": Annotated[float, Field(ge=0, lt=1)],
    "batch_pairs": _COUNT,
    "budgets": list[_POSITIVE],
    "small_budgets": list[_POSITIVE],
    "engine": _passing(str, check_engine),
    "device": _passing(str, check_device),
    "dtype": _one_of(*DTYPES),
    "style": _one_of(*STYLES),
    "think_by": _one_of(*WAYS),
    "split": _one_of(*SPLITS),
    "axis": _one_of("", *axes.AXES),
    "decimal_mark": _one_of(*DECIMAL_MARKS),
    "answer_kind": _one_of("", *KINDS),
    "columns": _passing(list[str], _check_columns),
    "variants": _passing(list[str], lambda names: reward_model_names(names, [])),
    "cross_shares": _one_of(*CROSS_SHARES),
    "loss": _one_of(*LOSSES),
    "readout": _one_of(*READOUTS),
    "tuning": _one_of(*TUNINGS),
    "aggregation": _one_of(*AGGREGATIONS),
    "step_target": _one_of(*STEP_TARGETS),
    "scope": _one_of(*SCOPES),
}
_SECRET = re.compile(r"://[^/\s@]+@|[?&](?:api[-_]?key|key|(?:access_)?token|password|secret)=", re.IGNORECASE)


def read_parameters(notebook: Path) -> dict[str, Parameter]:
    """The parameters that a notebook declares in its cell tagged `parameters`.

    Args:
        notebook: an .ipynb file whose tagged cell has one `name: type = literal  # help` per line.

    Raises:
        StudyError: the notebook cannot be read, has no such cell, or a line of the cell is anything else.
    """
    cells = [cell for cell in read_cells(notebook) if "parameters" in cell["metadata"].get("tags", [])]
    if len(cells) != 1:
        raise StudyError(f"{notebook.name} has {len(cells)} cells tagged 'parameters'; it needs exactly one")
    source = cell_source(cells[0])
    try:
        statements = ast.parse(source).body
    except SyntaxError as error:
        raise StudyError(f"{notebook.name}: its parameters cell is not Python: {error}") from error
    found = [_declared(statement, source.splitlines(), notebook.name) for statement in statements]
    return {parameter.name: parameter for parameter in found}


def check_value(parameter: Parameter, value: Any, where: str) -> Any:
    """The value as the type that the notebook declares, within the range that its name allows.

    Args:
        value: from YAML, or a string from the command line: `en,de` and `[en, de]` are lists, `007` stays text
            where text is declared.
        where: the study file or `-p`, for the message.

    Raises:
        StudyError: the value is of another type (a language code `no` that YAML made False, for example), out of
            range, an unknown language, or an address with a password.
    """
    if any(_SECRET.search(text) for text in (value if isinstance(value, list) else [value]) if isinstance(text, str)):
        raise StudyError(  # which does not show it
            f"{where}: {parameter.name} holds an address with a user name, password or key, which would be recorded "
            "with the run; remove it and put the key into BESTOFL_API_KEY"
        )
    kind = parameter.type
    from_text = where == "-p" and isinstance(value, str)
    if from_text and kind.startswith("list["):
        value = _list_of_text(value, parameter.name)
    spoken = (
        (lambda shown: f"-p {parameter.name}={shown}")
        if from_text
        else (lambda shown: f"{where}: {parameter.name}: {shown}")
    )
    checked = _validated(parameter, TypeAdapter(TYPES[kind]), value, spoken, from_text)
    if parameter.name in RANGES:
        checked = _validated(parameter, TypeAdapter(RANGES[parameter.name]), checked, spoken, from_text)
    if parameter.name in LANGUAGE_PARAMETERS and checked:
        check_languages(checked if isinstance(checked, list) else [checked])
    return checked


def choices(name: str) -> tuple[str, ...]:
    """The values that a parameter can have, where they are a closed list; empty ones are left out."""
    kind = RANGES.get(name)
    return tuple(filter(None, get_args(kind))) if get_origin(kind) is Literal else ()


def spoken(message: str, names: Iterable[str]) -> str:
    """A library's message, with the parameters it advises written as on the command line.

    Args:
        names: of parameters that the user can set.

    >>> spoken("choose one with model='32B', or columns={'language': 'lang'}", ["model", "columns"])
    'choose one with -p model=32B, or -p columns=language:lang'
    """
    names = set(names)

    def single(match: re.Match[str]) -> str:
        return f"-p {match[1]}={match[2] or match[3]}" if match[1] in names else match[0]

    def pair(match: re.Match[str]) -> str:
        return f"-p {match[1]}={match[2]}:{match[3]}" if match[1] in names else match[0]

    def several(match: re.Match[str]) -> str:
        return (
            f"-p {match[1]}={re.sub('[ ]*,[ ]*', ',', match[2]).replace(chr(39), '')}"
            if match[1] in names
            else match[0]
        )

    def truth(match: re.Match[str]) -> str:
        return f"-p {match[1]}={match[2].lower()}" if match[1] in names else match[0]

    message = re.sub(r"(?<![\w-])(\w+)=\{'([^']*)': '([^']*)'\}", pair, message)
    message = re.sub(r"(?<![\w-])(?<!-p )(\w+)=\[([^\]\n]*)\]", several, message)
    message = re.sub(r"(?<![\w-])(?<!-p )(\w+)=(True|False)\b", truth, message)
    return re.sub(r"(?<![\w-])(?<!-p )(\w+)=(?:'([^'\n]*)'|(-?\d[\d.e-]*))(?![\w'])", single, message)


def _declared(statement: ast.stmt, lines: list[str], notebook: str) -> Parameter:
    line = lines[statement.lineno - 1]
    if not (isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value):
        raise StudyError(f"{notebook}: parameter line {line!r}; write 'name: type = literal  # help'")
    kind = ast.unparse(statement.annotation)
    try:
        default = ast.literal_eval(statement.value)
    except ValueError as error:
        raise StudyError(f"{notebook}: the default in {line!r} is not a literal") from error
    if kind not in TYPES:
        raise StudyError(f"{notebook}: parameter line {line!r} has type {kind!r}; use one of {', '.join(TYPES)}")
    rest = lines[(statement.end_lineno or statement.lineno) - 1].encode()[statement.end_col_offset or 0 :].decode()
    return Parameter(statement.target.id, kind, default, rest.strip().lstrip("#").strip())


def _list_of_text(text: str, name: str) -> list[str]:
    """`en,de`, `[en, de]` or `["no"]` as a list of strings, none of them turned into a number or a truth value."""
    if not text.strip().startswith("["):
        return [part.strip() for part in text.split(",") if part.strip()]
    try:
        items = yaml.load(text, Loader=yaml.BaseLoader)
    except yaml.YAMLError as error:
        raise StudyError(f"-p {name}: {text!r} is not a list; write -p {name}=a,b or -p {name}='[a, b]'") from error
    return [str(item) for item in items]


def _validated(
    parameter: Parameter, adapter: TypeAdapter, value: Any, spoken: Callable[[str], str], from_text: bool
) -> Any:
    """What pydantic makes of a value: strictly for values that have a type already, leniently for text."""
    try:
        return adapter.validate_python(value, strict=not from_text)
    except ValidationError as error:
        first = error.errors()[0]
        place = "".join(f"[{i}]" for i in first["loc"] if isinstance(i, int))
        hint = "; put quotes around it" if parameter.type.endswith(("str", "str]")) and not from_text else ""
        expected = _expected(parameter, first)
        raise StudyError(
            f"{spoken(_shown(first['input'], from_text))}{f' (item {place})' if place else ''}; {expected}{hint}"
        ) from error


def _shown(value: Any, from_text: bool) -> str:
    return value if from_text and isinstance(value, str) else repr(value)


def _expected(parameter: Parameter, error: Any) -> str:
    """What was expected: the range that was missed, or else the type."""
    context = error.get("ctx", {})
    limits = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
    for key, words in limits.items():
        if key in context:
            return f"expected {words} {context[key]}"
    if "error" in context:
        return str(context["error"])
    if error["type"] == "literal_error":
        return f"expected {context['expected']}"
    return f"expected {parameter.type}, such as {parameter.default!r}"
