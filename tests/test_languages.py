"""Language codes stand in one file, and every record is whole."""

from __future__ import annotations

import ast
from pathlib import Path

import bestofl_lib
from bestofl_lib.languages import LANGUAGES

LIBRARY = Path(bestofl_lib.__file__).parent
HTML_TAGS = {
    "display/text.py": {"th", "tr"},
    "display/report/text.py": {"th", "tr"},
}  # HTML elements, not Thai or Turkish


def codes_in(path: Path) -> list[tuple[int, str]]:
    """String constants that are a language code, outside docstrings (examples there are for people)."""
    return [
        (node.lineno, node.value)
        for node in ast.walk(ast.parse(path.read_text("utf8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in LANGUAGES
    ]


def test_no_language_code_stands_outside_the_file_of_languages() -> None:
    found = [
        f"{path.relative_to(LIBRARY)}:{line}: {code!r}"
        for path in sorted(LIBRARY.rglob("*.py"))
        if path.name != "languages.py"
        for line, code in codes_in(path)
        if code not in HTML_TAGS.get(str(path.relative_to(LIBRARY)), set())
    ]
    assert not found, "take it from the record of the language, or PIVOT, in languages.py"
