"""A language file adds or changes a language without code, in every process of a study, and belongs to what must be fresh."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bestofl_lib import languages
from bestofl_lib.answers.reading import read_answer
from bestofl_lib.files import ROOT
from bestofl_lib.languages import FILES, forget, is_language, language, use_language_file
from bestofl_lib.problems.prompts import messages
from bestofl_lib.runs import Folders
from bestofl_lib.study.errors import StudyError
from bestofl_lib.study.freshness import Digests, named_files
from bestofl_lib.study.plan import load_study, plan

OWN = """code = "qaa"
name = "Ownish"
endonym = "Ownta"
script = "Latn"
resource = "low"
answer_line = "Vasto: {answer}"
instruction = "Solvi te Ownta. “Vasto: …”"
opening = "Unu"
cues = ["vasto"]

[number_words]
trintok = 38
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv(FILES, "")
    path = tmp_path / "own.toml"
    path.write_text(OWN, "utf8")
    yield path
    for code in ("qaa", "yo"):
        forget(code)


def folders(tmp_path: Path) -> Folders:
    return Folders(ROOT / "notebooks", tmp_path / "runs", tmp_path / "reports")


def test_instruction_cues_and_number_words_come_from_the_file(own):
    use_language_file(own)
    assert messages("2 + 2?", "qaa")[0]["content"].startswith("Solvi te Ownta.")
    assert read_answer("2 + 36 = 38. Vasto: trintok. 5 poki.", "qaa").value == 38


def test_a_file_changes_only_what_it_names(own):
    own.write_text('code = "yo"\ncues = ["ìdáhùn"]\n', "utf8")
    assert language("yo").generic
    use_language_file(own)
    assert (language("yo").cues, language("yo").name, language("yo").generic) == (("ìdáhùn",), "Yoruba", False)


def test_a_study_takes_the_file_before_its_languages_are_checked(own, tmp_path):
    asked = {"languages": "en,qaa", "language_file": str(own)}
    _, steps = plan(load_study("lab"), asked, folders(tmp_path))
    honouring = [step.name[:2] for step in steps if step.effective.get("language_file")]
    assert honouring == ["01", "03", "04", "05"]
    digests = named_files(steps[0], Digests(tmp_path))
    before = digests[str(own)]
    own.write_text(OWN + "# changed\n", "utf8")
    assert named_files(steps[0], Digests(tmp_path))[str(own)] != before


def test_the_run_folders_own_file_is_taken_where_none_is_named(own, tmp_path):
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    place = tmp_path / "runs" / "mine" / "language.toml"
    place.write_text(OWN, "utf8")
    _, steps = plan(load_study("lab"), {"run": "mine", "languages": "en,qaa"}, folders(tmp_path))
    assert {step.effective["language_file"] for step in steps if "language_file" in step.effective} == {str(place)}


def test_processes_started_afterwards_know_the_language(own):
    use_language_file(own)
    use_language_file(own)
    assert os.environ[FILES] == str(own)
    code = "from bestofl_lib.languages import language; print(language('qaa').endonym)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert run.stdout.strip() == "Ownta"


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (
            ('cues = ["vasto"]', 'cuse = ["vasto"]'),
            r"own\.toml, line 9: there is no field 'cuse'; did you mean 'cues'\?",
        ),
        (('cues = ["vasto"]', 'cues = "vasto"'), r"own\.toml, line 9: cues is 'vasto'; expected a list of texts"),
        (("{answer}", "…"), r"own\.toml, line 6: answer_line needs \{answer\} once"),
        (('code = "qaa"', 'code = "Own"'), r"own\.toml, line 1: code is 'Own'; expected two or three small letters"),
        (('code = "qaa"', ""), r"own\.toml has no code"),
        (('name = "Ownish"', 'name = "Ownish'), r"own\.toml is not TOML: .*line 2"),
        (('script = "Latn"', ""), r"own\.toml lacks script, and CLDR does not know 'qaa'"),
    ],
)
def test_a_bad_file_is_refused_by_its_line_before_anything_runs(own, tmp_path, changed, message):
    own.write_text(OWN.replace(*changed), "utf8")
    with pytest.raises(StudyError, match=message):
        plan(load_study("lab"), {"language_file": str(own)}, folders(tmp_path))
    assert not is_language("qaa") and os.environ[FILES] == ""


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(StudyError, match=r"language_file: .*nowhere\.toml"):
        plan(load_study("lab"), {"language_file": str(tmp_path / "nowhere.toml")}, folders(tmp_path))
    assert languages.LANGUAGES
