"""The house rules that can be counted: sizes of modules and functions, one home for each low-level need."""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from collections import Counter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from bestofl_lib.files import ROOT

MODULES = sorted((ROOT / "bestofl_lib").rglob("*.py"))
LONGEST_MODULE, LONGEST_FUNCTION = 600, 60  # lines; there is no exception
EACH = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function, its docstring not counted."""
    total = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        total -= (first.end_lineno or first.lineno) - first.lineno + 1
    return total


@EACH
def test_no_module_and_no_function_is_too_long(path: Path):
    name = path.relative_to(ROOT / "bestofl_lib").as_posix()
    text = path.read_text("utf8")
    assert len(text.splitlines()) <= LONGEST_MODULE
    functions = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    found = {f"{name}::{f.name}": length(f) for f in functions if length(f) > LONGEST_FUNCTION}
    assert not found


@EACH
def test_digests_suggestions_and_whole_files_are_written_once(path: Path):
    """`text` has the digests of texts and the suggestions, `files` the files that are whole or not there."""
    name, text = path.relative_to(ROOT / "bestofl_lib").as_posix(), path.read_text("utf8")
    if name not in ("text.py", "files.py"):
        assert "difflib" not in text
        assert not re.search(r"hashlib\.\w+\([^)\n]+\)\.hexdigest", text), "use text.content_digest or text.key_digest"
        assert not re.search(r"def _(suggest|valid|signed|digest_of|points_of)\b", text)


@EACH
def test_shares_are_written_by_the_functions_of_text(path: Path):
    """`percent`, `points`, `unsigned`, `signed`: one number of decimals and one minus sign everywhere."""
    if path.name != "text.py":
        inline = re.compile(r"\{[^{}]*\b[15]00? \* [^{}]*:[^{}]*f\}(?!%)|:\.\d%\}|\.\df\} ?%(?!;|\")|\"< 0\.001\"")
        assert not inline.search(path.read_text("utf8"))


def names_defined(path: Path) -> set[str]:
    """Functions, classes and constants of a module that others may import; what a decorator registers is left out."""
    names = set()
    for node in ast.parse(path.read_text("utf8")).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.decorator_list:
            names.add(node.name)
        names |= {t.id for t in getattr(node, "targets", [getattr(node, "target", None)]) if isinstance(t, ast.Name)}
    return {name for name in names if not name.startswith("_")}


def names_used(path: Path) -> list[str]:
    """Every name in a source, without docstrings and names of modules; a definition counts as one."""
    text = path.read_text("utf8")
    if path.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        text = re.sub(r"from [\w.]+ import", "", "\n".join("".join(cell["source"]) for cell in cells))
    elif path.suffix == ".py":
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
                node.value.value = None
            if isinstance(node, ast.ImportFrom):
                node.module = "_"
        text = ast.unparse(tree)
    return re.findall(r"[A-Za-z_]\w*", text)


def test_nothing_in_the_library_is_there_for_tests_alone():
    lab, notebooks = (ROOT / "data" / "lab").glob("*.py"), (ROOT / "notebooks").glob("*.ipynb")
    doors = [*lab, *notebooks, ROOT / "README.md", ROOT / "Makefile", ROOT / "tests" / "gpu" / "measure.py"]
    used = Counter(name for path in [*MODULES, *doors] for name in names_used(path))
    alone = {f"{path.stem}.{name}" for path in MODULES for name in names_defined(path) if used[name] < 2}
    assert not alone, f"only tests call {sorted(alone)}"


def test_modules_and_functions_that_contributing_names_exist():
    named = re.findall(r"`([a-z_]+)/([a-z_/]+)(?:\.([A-Za-z_]+)s?)?`", (ROOT / "CONTRIBUTING.md").read_text("utf8"))
    named = [found for found in named if found[0] not in ("tests", "data")]
    assert len(named) > 20
    for folder, module, name in named:
        path = ROOT / "bestofl_lib" / folder / f"{module}.py"
        assert path.is_file() or path.with_suffix("").is_dir(), f"{folder}/{module}"
        assert name in ("", "py") or re.search(rf"\b(def|class) {name}\b", path.read_text("utf8")), (
            f"{folder}/{module}.{name}"
        )


def normal_name(distribution: str) -> str:
    return distribution.lower().replace("_", "-")


def test_every_package_imported_directly_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    declared = {normal_name(re.match(r"[\w.-]+", line)[0]) for line in [*project["dependencies"], *extras]}
    nodes = [node for path in MODULES for node in ast.walk(ast.parse(path.read_text("utf8")))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    packages = {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"bestofl_lib"}
    known = packages_distributions()
    lacking = {p for p in packages if not declared & {normal_name(d) for d in known.get(p, [p])}}
    assert len(packages) > 20 and not lacking
