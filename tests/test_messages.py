"""Messages advise only what exists: parameters of a notebook, options of the command line, commands, notebooks."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from typer.main import get_command

from bestofl_lib.cli import app
from bestofl_lib.files import ROOT
from bestofl_lib.runs import Folders
from bestofl_lib.study.notebooks import notebook_names
from bestofl_lib.study.parameters import read_parameters

PARAMETERS = {name for path in (ROOT / "notebooks").glob("*.ipynb") for name in read_parameters(path)}
OTHERS = {  # what a message may name beside them, and where it is set
    "drop_incomplete": "an argument of CandidateArrays.of, for those who call it",
    "hold_out": "a field of TrainingSettings, for those who call the library",
    "num_labels": "a field of a checkpoint's config.json",
    "name": "an option after a comma in reward_models; also the word in 'name=value'",
    "template": "an option after a comma in reward_models",
    "local": "an option after a comma in reward_models, of a server",
    "bins": "an argument of calibration, for those who call it",
    "partial": "an argument of Store.candidates, for those who call it",
    "key": "the word in 'key=value'",
    "english": "a setting of a trial in 13_try_reward_settings",
    "mine": "a name of one's own before a column in rewards",
}
NOTEBOOKS = notebook_names(Folders.default())
OF_OTHER_PROGRAMS = {"--logprobs-mode", "--runner", "--convert", "--max-model-len"}  # of vLLM


def messages() -> Iterator[tuple[str, str]]:
    """Where, and the text without its values, of everything that is raised, warned or printed."""
    for path in sorted((ROOT / "bestofl_lib").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf8"))):
            called = getattr(node, "func", None)
            name = getattr(called, "attr", "") or getattr(called, "id", "")
            if isinstance(node, ast.Raise) or name in ("warn", "echo", "say"):
                parts = [n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)]
                yield f"{path.relative_to(ROOT)}:{node.lineno}", "".join(parts)


def test_parameters_that_messages_advise_exist() -> None:
    named = [(where, m) for where, text in messages() for m in re.findall(r"(?<![\w.{/-])([a-z][a-z_]*)=", text)]
    assert len(named) > 30
    assert not [(where, m) for where, m in named if m not in PARAMETERS and m not in OTHERS]


def test_options_and_commands_that_messages_advise_exist() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    options = {option for c in commands.values() for p in c.params for option in (*p.opts, *p.secondary_opts)}
    seen = 0
    for where, text in messages():
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", text):
            assert option in options | OF_OTHER_PROGRAMS, f"{where} advises {option}"
            seen += 1
        for command in re.findall(r"bestofl ([a-z]+)\b(?! [a-z])", text):
            assert command in {*commands, "bestofl"}, f"{where} advises bestofl {command}"
            seen += 1
    assert seen > 15


def test_notebooks_that_messages_name_exist() -> None:
    named = {(where, name) for where, text in messages() for name in re.findall(r"\b\d\d_[a-z_]+\b", text)}
    assert named and not {(where, name) for where, name in named if name not in NOTEBOOKS}
