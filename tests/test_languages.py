"""Language codes stand in one file, and every record is whole."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import bestofl_lib
from bestofl_lib.answers.reading import read_answer
from bestofl_lib.languages import LANGUAGES, forget, register

LIBRARY = Path(bestofl_lib.__file__).parent
OTHER_WORDS = {"id", "ms", "it", "pt"}  # column names and units too, so they prove nothing
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
        if code not in OTHER_WORDS and code not in HTML_TAGS.get(str(path.relative_to(LIBRARY)), set())
    ]
    assert not found, "take it from the record of the language, or PIVOT, in languages.py"


def test_every_language_of_cldr_has_a_record_and_those_written_by_hand_are_whole() -> None:
    assert len(LANGUAGES) >= 31
    for record in LANGUAGES.values():
        assert "{answer}" in record.answer_line and record.instruction and record.cues and not record.generic
        assert record.answer_line.split("{answer}")[0].strip(" :") in record.instruction
        assert {cue.lower() for cue in record.cues} == set(record.cues)
    for code in ("yo", "am", "km", "zu", "fil", "gu"):
        assert LANGUAGES[code].generic and LANGUAGES[code].name and code not in LANGUAGES


def test_a_language_file_adds_cues_and_words_without_code(tmp_path: Path) -> None:
    assert read_answer("Idahun ni 18 nigba ti a ka 3.", "yo").rule == "last_number"
    file = tmp_path / "yo.toml"
    file.write_text('code = "yo"\ncues = ["idahun"]\ncopulas = ["ni"]\n', "utf8")
    try:
        assert not register(file).generic
        assert read_answer("Idahun ni 18 nigba ti a ka 3.", "yo").rule == "cue"
    finally:
        forget("yo")
    assert LANGUAGES["yo"].generic


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cues = []", 'has no code; expected two or three small letters, such as code = "yo"'),
        ('code = "yo"\ncue = ["x"]', "line 2: there is no field 'cue'; did you mean 'cues'"),
        ('code = "yo"\ncues = "x"', "line 2: cues is 'x'; expected a list of texts"),
        ('code = "qqq"', "lacks name"),
        ("code = ", "is not TOML"),
    ],
)
def test_a_language_file_that_cannot_be_used_is_refused_by_field(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "x.toml").write_text(text, "utf8")
    with pytest.raises(ValueError, match=message):
        register(tmp_path / "x.toml")
