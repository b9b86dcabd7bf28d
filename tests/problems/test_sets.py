"""Benchmarks by one word, read through the real loading code from small files with the columns that the real ones have."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import pytest

from bestofl_lib.analysis.reading_quality import accuracy_by_level
from bestofl_lib.answers.columns import read_answers
from bestofl_lib.languages import is_language
from bestofl_lib.problems import files, sets
from bestofl_lib.problems.load import load
from bestofl_lib.problems.sets import SETS

ASKED = {  # a question in each language; {n} is the problem
    "am": "{n} እና 1 ስንት ነው?", "ar": "كم يساوي {n} + 1؟", "de": "Wie viel ist {n} plus 1?", "en": "What is {n} plus 1?",
    "fr": "Combien font {n} plus 1 ?", "id": "Berapa {n} tambah 1?", "sw": "{n} na 1 ni ngapi?", "tw": "{n} ne 1 yɛ sɛn?",
    "yo": "Kí ni {n} àti 1?", "zh": "{n} 加 1 等于几？", "fil": "Ano ang {n} dagdag 1?", "vai": "{n} ꗏ 1?",
}  # fmt: skip
N = 3  # problems in a file


def asked(code: str, n: int, level: str = "") -> str:
    return ASKED[code].format(n=n) + (f" ({level})" if level else "")


def parquet(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pl.DataFrame(rows).write_parquet(path)


def write(name: str, folder: Path, codes: list[str], answers: Sequence[str] = ("2", "3", "4")) -> None:
    """The small files of a set in its own shape, as its hub has them.

    Args:
        answers: of its problems 1, 2, 3, …
    """
    numbers = range(1, len(answers) + 1)
    for code in codes:
        if name == "global-mgsm":
            shared = {"instruction": "Solve it.", "answer_prefix": "Answer"}
            rows = [shared | {"question": asked(code, n), "answer": str(n + 1)} for n in numbers]
            parquet(folder / code / "test.parquet", rows)
        elif name == "polymath":
            for level in SETS[name].levels:
                rows = [
                    {"id": f"{code}-{level}-{n}", "question": asked(code, n, level), "answer": answers[n - 1]}
                    for n in numbers
                ]
                parquet(folder / code / f"{level}.parquet", rows)
        elif name == "mgsm-pro":
            for level in SETS[name].levels:
                rows = [{"question": asked(code, n, level), "answer": n + 1} for n in numbers]
                parquet(folder / level / f"{SETS[name].spelled[code]}.parquet", rows)
        elif name == "afrimgsm":
            path = folder / "data" / SETS[name].spelled.get(code, code) / "test.tsv"
            path.parent.mkdir(parents=True, exist_ok=True)
            lines = [f"{asked(code, n)}\t\t{n + 1}\t{n} + 1 = {n + 1}" for n in numbers]
            path.write_text("\n".join(["question\tanswer\tanswer_number\tequation_solution", *lines]) + "\n", "utf8")
        elif name == "mmath":
            path = folder / "mmath" / f"{code}.json"
            path.parent.mkdir(exist_ok=True)
            rows = [
                {
                    "gid": 10 * n,
                    "lang": code,
                    "question": asked(code, n),
                    "answer": answers[n - 1],
                    "data_source": "AIME2024" if n == 1 else "MATH500",
                    "data_source_id": n,
                }
                for n in numbers
            ]
            path.write_text(json.dumps(rows, ensure_ascii=False, indent=1), "utf8")
    if name == "mclm":
        spelled = SETS[name].spelled
        for level in SETS[name].levels:
            whole = all(answer.isdecimal() for answer in answers)
            given = [int(answer) if whole else answer for answer in answers]  # integers in MT-AIME2024, LaTeX elsewhere
            rows = [{"answer": given[n - 1]} | {spelled.get(c, c): asked(c, n, level) for c in codes} for n in numbers]
            if level == "m-imo":
                rows = [row | {"id": None} for row in rows]  # this part is not in every language
            parquet(folder / f"{level}.parquet", rows)


SHAPES = {  # set -> languages of its small files, the first problem's id, and all levels
    "global-mgsm": (["en", "am", "yo"], "global-mgsm-001", {None}),
    "polymath": (["ar", "de", "zh"], "polymath-low-001", {"low", "medium", "high", "top"}),
    "mgsm-pro": (["am", "en", "sw", "tw"], "mgsm-pro-symbolic-0001", {"symbolic", "ic"}),
    "afrimgsm": (["en", "am", "sw", "vai", "yo"], "afrimgsm-001", {None}),
    "mmath": (["ar", "fr", "zh"], "mmath-010", {"AIME2024", "MATH500"}),
    "mclm": (["de", "en", "fil", "zh"], "mclm-mt-math100-001", {"mt-math100", "mt-aime2024", "m-imo"}),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_set_loads_from_files_of_its_own_shape(name, tmp_path):
    codes, first, levels = SHAPES[name]
    write(name, tmp_path, codes)
    table = load(name, codes, folder=tmp_path)
    assert sorted(table["language"].unique()) == sorted(codes)
    assert table["problem_id"][0] == first
    assert set(table["level"]) == levels
    assert len(table) == len(codes) * N * max(1, len(SETS[name].levels))
    assert set(table["reference"]) == {"2", "3", "4"}
    for code in codes:  # each question stands under its own language and number
        row = table.filter(language=code, problem_id=first).row(0, named=True)
        assert row["question"].startswith(asked(code, 1)) and row["reference"] == "2"


EXPRESSIONS = {  # reference -> how a right completion may write it, and a wrong one that looks near
    r"\frac{\sqrt{3}}{2}": (r"\boxed{\dfrac{\sqrt3}2}", r"\boxed{\frac{\sqrt{2}}{3}}"),
    r"$[0, 1)$": (r"\boxed{\left[0, 1\right)}", r"\boxed{(0, 1]}"),
    r"\{1, 3\}": (r"\boxed{\{3, 1\}}", r"\boxed{\{1\}}"),
    "12\\pi": (r"\boxed{12\pi \text{ cm}^2}", r"\boxed{12}"),
    "x^2-4x+3": (r"\boxed{(x-1)(x-3)}", r"\boxed{x^2+4x+3}"),
    "17": (r"\boxed{17}", r"\boxed{71}"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["polymath", "mclm", "mmath"])
def test_expressions_of_a_set_are_graded_from_its_files_to_the_last_completion(name, tmp_path):
    codes, _, _ = SHAPES[name]
    write(name, tmp_path, codes, list(EXPRESSIONS))
    table = load(name, codes, folder=tmp_path)
    assert set(table["answer_kind"]) == {"expression", "number"}
    parts = max(1, len(SETS[name].levels))
    written = [pair for pair in EXPRESSIONS.values() for _ in range(parts)]  # levels take turns
    ids = table["problem_id"].unique(maintain_order=True).to_list()
    said = dict(zip(ids, written, strict=True))
    drawn = pl.DataFrame(
        [(p, c, i, said[p][i]) for p, c in table.select("problem_id", "language").iter_rows() for i in (0, 1)],
        schema=["problem_id", "language", "sample_index", "completion"],
        orient="row",
    )
    judged = read_answers(drawn, table)
    assert judged["answer"].null_count() == 0
    assert judged["is_correct"].to_list() == [i == 0 for i in judged["sample_index"]]


@pytest.mark.parametrize("name", [name for name in SHAPES if name != "mclm"])
def test_a_folder_of_a_sets_files_is_recognised_by_them(name, tmp_path):
    codes, _, _ = SHAPES[name]
    write(name, tmp_path, codes)
    assert (
        load(str(tmp_path))
        .sort("problem_id", "language")
        .equals(load(name, codes, folder=tmp_path).sort("problem_id", "language"))
    )


def test_a_limit_takes_all_levels_in_equal_shares(tmp_path):
    write("polymath", tmp_path, ["de", "zh"])
    table = load("polymath", ["de", "zh"], limit=8, folder=tmp_path)
    assert table["problem_id"].n_unique() == 8
    assert dict(table.unique("problem_id").group_by("level").len().iter_rows()) == dict.fromkeys(
        SETS["polymath"].levels, 2
    )


def test_a_part_that_lacks_a_language_is_refused_with_the_problems(tmp_path):
    write("mclm", tmp_path, ["en", "id"])
    with pytest.raises(ValueError, match=r"3 problems missing in some language(?s:.*)mclm-m-imo-001 lacks id"):
        load("mclm", ["en", "id"], folder=tmp_path)


def test_a_column_that_a_set_lacks_is_named(tmp_path):
    write("mclm", tmp_path, ["en", "de"])
    with pytest.raises(ValueError, match=r"mt-math100\.parquet has no column tl; it has answer, en, de"):
        load("mclm", ["en", "fil"], folder=tmp_path)
    path = tmp_path / "mmath" / "fr.json"
    path.parent.mkdir()
    path.write_text('[{"question": "Un?", "answer": "1"}]', "utf8")
    with pytest.raises(ValueError, match=r"fr\.json has no column gid, data_source; it has question, answer"):
        load("mmath", ["fr"], folder=tmp_path)


def test_a_torn_list_of_json_is_named_with_its_line(tmp_path):
    (tmp_path / "mmath").mkdir()
    (tmp_path / "mmath" / "fr.json").write_text('[{"question": "Un?",\n "answer": "1"', "utf8")
    with pytest.raises(ValueError, match=r"fr\.json, line 2: not JSON"):
        load("mmath", ["fr"], folder=tmp_path)


@pytest.mark.parametrize("name", SETS)
def test_every_language_of_a_set_has_a_record_and_an_address_of_its_own(name):
    one = SETS[name]
    assert all(is_language(code) for code in one.languages)
    assert len(set(one.languages)) == len(one.languages)
    assert set(one.spelled) <= set(one.languages)
    level = one.levels[0] if one.levels else ""
    addresses = [one.address(one.hub, code, level) for code in one.languages]
    assert len(set(addresses)) == (1 if one.columns else len(addresses))
    assert all(address.startswith(("hf://datasets/", "https://")) and "{" not in address for address in addresses)


HUB = {  # one address of each set, as the set's page has it
    "mgsm": ("sw", "hf://datasets/juletxara/mgsm/mgsm_sw.tsv"),
    "mgsm-rev2": ("sw", "hf://datasets/lightonai/mgsm-rev2@~parquet/sw/test/0000.parquet"),
    "global-mgsm": ("am", "hf://datasets/CohereLabs/global-mgsm/am/test.parquet"),
    "afrimgsm": ("rw", "hf://datasets/masakhane/afrimgsm/data/kin/test.tsv"),
    "mgsm-pro": ("tw", "hf://datasets/McGill-NLP/mgsm-pro@~parquet/symbolic/twi/0000.parquet"),
    "msvamp": ("zh", "hf://datasets/Mathoctopus/MSVAMP/test_Chinese.json"),
    "polymath": ("ar", "hf://datasets/Qwen/PolyMath/ar/low.parquet"),
    "mclm": ("zh", "hf://datasets/amphora/MCLM/mt-math100.parquet"),
    "mmath": ("zh", "https://raw.githubusercontent.com/RUCAIBox/MMATH/main/mmath/zh.json"),
}


@pytest.mark.parametrize("name", SETS)
def test_without_a_folder_a_set_is_read_from_its_hub(name, monkeypatch):
    """Only the bytes are made up: everything above the network is what runs on a machine with one."""
    code, address = HUB[name]
    fetched = []

    def table(path: str) -> pl.DataFrame:
        fetched.append(path)
        return pl.DataFrame({"question": ["One?"], "zh-cn": ["One?"], "answer": ["1"]})

    def text(path: str) -> str:
        fetched.append(path)
        row = {"question": "One?", "m_query": "One?", "answer": "1", "response": "1", "gid": 1, "data_source": "A"}
        return "One?\t1\n" if path.endswith(".tsv") else json.dumps(row if name == "msvamp" else [row])

    monkeypatch.setattr(sets, "read_table", table)
    monkeypatch.setattr(sets, "read_text", text)
    loaded = load(name, [code])
    assert fetched[0] == address
    assert set(loaded["reference"]) == {"1"}


def test_a_set_that_cannot_be_reached_says_so_with_the_address(monkeypatch):
    def refuse(*_args: object, **_more: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(files.urllib.request, "urlopen", refuse)
    with pytest.raises(OSError, match=r"mmath/zh\.json cannot be read .*no route.*or give a local copy"):
        load("mmath", ["zh"])


# -- files of one's own in these shapes --------------------------------------------------------------------------------


def test_files_per_language_are_named_by_a_form(tmp_path):
    for code in ("en", "yo"):
        parquet(tmp_path / f"mine_{code}.parquet", [{"question": asked(code, n), "answer": n} for n in (5, 6)])
    table = load(str(tmp_path / "mine_{language}.parquet"), ["en", "yo"])
    assert table.filter(language="yo").select("problem_id", "question", "reference").rows() == [
        ("mine-0001", asked("yo", 5), "5"), ("mine-0002", asked("yo", 6), "6"),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="say which languages it has"):
        load(str(tmp_path / "mine_{language}.parquet"))


def test_a_table_with_a_column_per_language_becomes_rows(tmp_path):
    rows = [
        {"English": asked("en", n), "question_swa": asked("sw", n), "yo": asked("yo", n), "answer": n} for n in (5, 6)
    ]
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf8")
    table = load(str(path))
    assert sorted(table["language"].unique()) == ["en", "sw", "yo"]
    assert table.filter(language="sw")["question"].to_list() == [asked("sw", 5), asked("sw", 6)]
    assert table["problem_id"].unique().sort().to_list() == ["1", "2"]


def test_a_column_called_id_is_the_problems_and_not_indonesian(tmp_path):
    parquet(
        tmp_path / "mine.parquet",
        [{"id": f"p{n}", "en": asked("en", n), "de": asked("de", n), "answer": n} for n in (5, 6)],
    )
    table = load(str(tmp_path / "mine.parquet"))
    assert (set(table["language"]), set(table["problem_id"])) == ({"en", "de"}, {"p5", "p6"})


def test_languages_may_be_written_as_names_or_three_letters(tmp_path):
    rows = [{"id": "a", "language": said, "question": "Q?", "answer": 1} for said in ("Swahili", "eng", "YO")]
    parquet(tmp_path / "mine.parquet", rows)
    assert load(str(tmp_path / "mine.parquet"))["language"].to_list() == ["sw", "en", "yo"]


def test_the_level_of_an_own_table_is_kept(tmp_path):
    rows = [{"id": n, "language": "en", "question": asked("en", n), "answer": n, "difficulty": f"d{n}"} for n in (1, 2)]
    parquet(tmp_path / "mine.parquet", rows)
    assert load(str(tmp_path / "mine.parquet"))["level"].to_list() == ["d1", "d2"]


def test_levels_are_strata_of_accuracy(tmp_path):
    write("polymath", tmp_path, ["de", "zh"])
    problems = load("polymath", ["de", "zh"], folder=tmp_path)
    readings = problems.select(
        "problem_id", "language", sample_index=0, answer=pl.lit("1"), note=pl.lit(""),
        is_correct=pl.col("level") != "top",
    )  # fmt: skip
    table = accuracy_by_level(readings, problems)
    assert len(table) == 4 * 2 and set(table["n_problems"]) == {N}
    assert dict(table.filter(language="zh").select("level", "accuracy").iter_rows()) == {
        "low": 1.0, "medium": 1.0, "high": 1.0, "top": 0.0,
    }  # fmt: skip
    assert accuracy_by_level(readings, problems.with_columns(level=pl.lit(None, pl.String))).is_empty()
