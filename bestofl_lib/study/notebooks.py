"""Notebook files: their names, their cells, and the library modules they import. Nothing is run here."""

from __future__ import annotations

import ast
import contextlib
import json
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from bestofl_lib.runs import Folders
from bestofl_lib.study.errors import StudyError
from bestofl_lib.text import content_digest, suggestion

LIBRARY = "bestofl_lib"


def notebook_names(folders: Folders) -> list[str]:
    """All numbered notebooks without their `.ipynb`, in order."""
    return sorted(path.stem for path in folders.notebooks.glob("[0-9][0-9]_*.ipynb"))


def find_notebook(name: str, among: list[str]) -> str:
    """The notebook meant by `5`, `05`, `05_score` or its whole name.

    Raises:
        StudyError: none or several begin so; with a suggestion.
    """
    wanted = name.strip().removesuffix(".ipynb")
    wanted = f"0{wanted}" if len(wanted) == 1 and wanted.isdigit() else wanted
    found = [candidate for candidate in among if candidate == wanted] or [c for c in among if c.startswith(wanted)]
    if len(found) != 1 or not wanted:
        raise StudyError(f"no notebook {name!r}; {suggestion(wanted, among)}notebooks: {', '.join(among)}")
    return found[0]


def read_cells(notebook: Path) -> list[dict[str, Any]]:
    """The cells of a notebook, each with its metadata.

    Raises:
        StudyError: the file is missing or holds something else.
    """
    return _cells_at(notebook, stamp(notebook))


def cell_source(cell: dict[str, Any]) -> str:
    """The text of a cell, whose lines a notebook may store apart."""
    return "".join(cell["source"]) if isinstance(cell["source"], list) else cell["source"]


def cells_digest(notebook: Path) -> str:
    """Digest of what a notebook does: kinds, sources and tags of its cells."""
    cells = read_cells(notebook)
    return content_digest(json.dumps([[c["cell_type"], cell_source(c), c["metadata"].get("tags", [])] for c in cells]))


def code_of(notebook: Path) -> Iterator[ast.Module]:
    """Each code cell as Python, without lines that only Jupyter understands; cells that are not Python are left out
    (they will fail when they run, and say where)."""
    for cell in read_cells(notebook):
        if cell["cell_type"] == "code":
            lines = [line for line in cell_source(cell).splitlines() if not line.lstrip().startswith(("%", "!", "?"))]
            with contextlib.suppress(SyntaxError):
                yield ast.parse("\n".join(lines))


def imported_names(notebook: Path, package: str = LIBRARY) -> set[str]:
    """Dotted names that a notebook imports from the library, modules and things in modules alike."""
    names: set[str] = set()
    for tree in code_of(notebook):
        for node in ast.walk(tree):
            if isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return {name for name in names if name.split(".")[0] == package}


def stamp(path: Path) -> tuple[int, int]:
    """Size and time of change: what was read from a source file holds for as long as they do."""
    with contextlib.suppress(OSError):
        status = path.stat()
        return status.st_size, status.st_mtime_ns
    return 0, 0


@lru_cache(maxsize=64)
def _cells_at(notebook: Path, _stamp: tuple[int, int]) -> list[dict[str, Any]]:
    try:
        cells = json.loads(notebook.read_text("utf8"))["cells"]
        return [cell | {"metadata": cell.get("metadata", {})} for cell in cells]
    except FileNotFoundError as error:
        raise StudyError(f"no notebook {notebook}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise StudyError(f"{notebook} is not a notebook ({error}); restore it from git") from error
