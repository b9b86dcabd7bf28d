"""Every notebook has the same anatomy, is committed without outputs, and leaves logic to the library."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from bestofl_lib.study.parameters import read_parameters

FOLDER = Path(__file__).resolve().parents[2] / "notebooks"
NOTEBOOKS = sorted(FOLDER.glob("*.ipynb"))
LONGEST = 12  # lines of a cell
# Argument and parameter that may differ: in a study `base` is a language, and `revision` and `model` are the policy's.
QUALIFIED = {("base", "reward_base"), ("revision", "reward_revision")}
EVERY = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def cells(path: Path, kind: str = "code") -> list[dict]:
    return [cell for cell in json.loads(path.read_text("utf8"))["cells"] if cell["cell_type"] == kind]


def source(cell: dict) -> str:
    return "".join(cell["source"])


def python(cell: dict) -> ast.Module:
    return ast.parse("\n".join(line for line in source(cell).splitlines() if not line.startswith(("%", "!"))))


def test_there_are_notebooks():
    assert NOTEBOOKS, f"no notebook in {FOLDER}"


@EVERY
def test_its_name_is_two_digits_a_verb_and_an_object(path):
    number, *words = path.stem.split("_")
    assert len(number) == 2 and number.isdigit() and len(words) >= 2 and path.stem == path.stem.lower()


@EVERY
def test_it_opens_with_a_title_a_question_and_what_it_needs_makes_and_takes(path):
    text = "\n".join(source(cell) for cell in cells(path, "markdown"))
    first = source(json.loads(path.read_text("utf8"))["cells"][0])
    assert first.startswith("# ") and not first.splitlines()[0].endswith("?"), "the title is a noun phrase"
    assert any(line.startswith("> ") and "?" in line for line in text.splitlines()), "the question is a blockquote"
    for word in ("Needs", "Makes", "time"):
        assert word.lower() in first.lower(), f"the first cell says nothing of: {word}"


@EVERY
def test_its_parameters_are_plain_literals_one_a_line_with_help(path):
    parameters = read_parameters(path)
    assert "run" in parameters
    [cell] = [cell for cell in cells(path) if "parameters" in cell["metadata"].get("tags", [])]
    lines = [line for line in source(cell).splitlines() if line.strip()]
    assert len(lines) == len(parameters), "one parameter per line and nothing else"
    for parameter in parameters.values():
        assert parameter.help and "=" not in parameter.help, f"{parameter.name}: a help text without '='"


@EVERY
def test_papermill_sees_the_same_parameters(path):
    papermill = pytest.importorskip("papermill")
    seen = papermill.inspect_notebook(path)
    assert {name: found["help"] for name, found in seen.items()} == {
        name: p.help for name, p in read_parameters(path).items()
    }


@EVERY
def test_it_is_committed_without_outputs_and_with_its_kernel(path):
    notebook = json.loads(path.read_text("utf8"))
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    for cell in cells(path):
        assert cell["outputs"] == [] and cell["execution_count"] is None, f"strip the outputs: nbstripout {path}"


@EVERY
def test_it_defines_nothing_and_loops_over_nothing(path):
    banned = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda, ast.For, ast.While)
    for cell in cells(path):
        found = [type(node).__name__ for node in ast.walk(python(cell)) if isinstance(node, banned)]
        assert not found, f"{found} in a cell belongs in a library function:\n{source(cell)}"


@EVERY
def test_its_cells_and_their_lines_are_short(path):
    for cell in cells(path):
        is_parameters = "parameters" in cell["metadata"].get("tags", [])
        lines = source(cell).splitlines()
        assert len(lines) <= (40 if is_parameters else LONGEST), f"{len(lines)} lines:\n{source(cell)}"
        assert is_parameters or all(len(line) <= 120 for line in lines), f"a line of more than 120:\n{source(cell)}"


@EVERY
def test_it_imports_the_library_and_no_model_chart_or_runner_directly(path):
    names = {
        name.split(".")[0]
        for cell in cells(path)
        for node in ast.walk(python(cell))
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert not names & {"torch", "transformers", "altair", "papermill", "nbconvert"}


@EVERY
def test_a_parameter_has_the_name_of_the_argument_that_it_is_passed_to(path):
    parameters = read_parameters(path)
    nodes = [node for cell in cells(path) for node in ast.walk(python(cell))]
    keywords = [node for node in nodes if isinstance(node, ast.keyword)]
    passed = [(keyword.arg, keyword.value) for keyword in keywords if keyword.arg]
    unpacked = {ast.unparse(keyword.value) for keyword in keywords if keyword.arg is None}  # f(**how)
    for node in nodes:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) in unpacked:
            entries = zip(node.value.keys, node.value.values, strict=True)
            passed += [(ast.literal_eval(key), value) for key, value in entries]
    bare = [(name, value.values[0] if isinstance(value, ast.BoolOp) else value) for name, value in passed]  # x or None
    named = {(name, value.id) for name, value in bare if isinstance(value, ast.Name) and value.id in parameters}
    assert not {(name, parameter) for name, parameter in named - QUALIFIED if name != parameter}


@EVERY
def test_it_opens_with_completions_as_people_read_them_rather_than_rows_of_a_table(path):
    assert not [line for cell in cells(path) for line in source(cell).splitlines() if re.search(r"\.head\(3\)$", line)]
