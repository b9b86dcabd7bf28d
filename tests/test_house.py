"""The house rules that can be counted: sizes of modules and functions, one home for each low-level need."""

from __future__ import annotations

import ast
import json
import re
import sys
import tomllib
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from bestofl_lib.files import ROOT

MODULES = sorted((ROOT / "bestofl_lib").rglob("*.py"))
LONGEST_MODULE, LONGEST_FUNCTION = 600, 60  # lines; there is no exception
EACH = pytest.mark.parametrize("path", MODULES, ids=lambda path: path.relative_to(ROOT).as_posix())


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text("utf8"))


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
    functions = [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    found = {f"{name}::{f.name}": length(f) for f in functions if length(f) > LONGEST_FUNCTION}
    assert not found


@EACH
def test_the_first_line_of_a_module_says_what_it_is_for(path: Path):
    first = path.read_text("utf8").splitlines()[0].removeprefix("r")
    assert first.startswith('"""') and first.removesuffix('"""').endswith((".", "?", "!")), "a sentence in one line"


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
    """Functions, classes and constants of a module; what a decorator registers is left out."""
    names = set()
    for node in tree(path).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not node.decorator_list:
            names.add(node.name)
        names |= {t.id for t in getattr(node, "targets", [getattr(node, "target", None)]) if isinstance(t, ast.Name)}
    return {name for name in names if not name.startswith("__")}


def names_used(path: Path) -> set[str]:
    """Every name that a source uses, and those in its texts; docstrings, definitions and names of modules left out."""
    text = path.read_text("utf8")
    if path.suffix == ".ipynb":
        cells = [cell for cell in json.loads(text)["cells"] if cell["cell_type"] == "code"]
        text = re.sub(r"from [\w.]+ import", "", "\n".join("".join(cell["source"]) for cell in cells))
    if path.suffix != ".py":
        return set(re.findall(r"[A-Za-z_]\w*", text))
    nodes = list(ast.walk(tree(path)))
    docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    texts = [
        n.value for n in nodes if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in docstrings
    ]
    names = {word for text in texts for word in re.findall(r"[A-Za-z_]\w*", text)}
    names |= {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}
    names |= {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return names | {a.name for node in nodes if isinstance(node, ast.ImportFrom) for a in node.names}


def test_nothing_in_the_library_is_there_for_tests_alone():
    lab, notebooks = (ROOT / "data" / "lab").glob("*.py"), (ROOT / "notebooks").glob("*.ipynb")
    doors = [*lab, *notebooks, ROOT / "README.md", ROOT / "Makefile", ROOT / "tests" / "gpu" / "measure.py"]
    used = set().union(*(names_used(path) for path in [*MODULES, *doors]))
    alone = {f"{path.stem}.{name}" for path in MODULES for name in names_defined(path) - used}  # private ones as well
    assert not alone, f"only tests call {sorted(alone)}"


class WithoutNames(ast.NodeTransformer):
    """A function whose names, constants and annotations are all alike: what is left is its logic."""

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return ast.Name("_", node.ctx)

    def visit_arg(self, node: ast.arg) -> ast.arg:
        return ast.arg("_")

    def visit_Constant(self, node: ast.Constant) -> ast.Constant:
        return ast.Constant("_")


def test_no_two_functions_hold_the_same_logic():
    same: dict[str, list[str]] = {}
    for path in [*MODULES, *(ROOT / "data" / "lab").glob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text("utf8"))):
            if isinstance(node, ast.FunctionDef) and sum(1 for _ in ast.walk(node)) > 45:
                body = node.body[1:] if ast.get_docstring(node) else node.body
                bare = WithoutNames().visit(ast.Module([ast.Expr(node.args), *body], []))
                same.setdefault(ast.dump(bare), []).append(f"{path.name}: {node.name}")
    assert not [names for names in same.values() if len(names) > 1]
    assert len(same) > 500


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
    nodes = [node for path in MODULES for node in ast.walk(tree(path))]
    names = {alias.name for node in nodes if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in nodes if isinstance(node, ast.ImportFrom) and node.module}
    packages = {name.split(".")[0] for name in names} - sys.stdlib_module_names - {"bestofl_lib"}
    known = packages_distributions()
    lacking = {p for p in packages if not declared & {normal_name(d) for d in known.get(p, [p])}}
    assert len(packages) > 20 and not lacking
