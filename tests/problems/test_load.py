"""Problems from the lab, the benchmarks and tables of one's own."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import polars as pl
import pytest

from bestofl_lib.languages import LANGUAGES
from bestofl_lib.problems import lab
from bestofl_lib.problems.files import FileWarning, json_lines, read_table, read_text
from bestofl_lib.problems.load import check_problems, load
from bestofl_lib.tables import SCHEMAS

DATA = Path(__file__).resolve().parents[1] / "data"

ROWS = [
    {"problem_id": "a", "language": "en", "question": "One and one?", "reference": "2"},
    {"problem_id": "a", "language": "de", "question": "Eins und eins?", "reference": "2,0"},
    {"problem_id": "b", "language": "en", "question": "How much?", "reference": "5,600"},
    {"problem_id": "b", "language": "de", "question": "Wie viel?", "reference": "5.600"},
]


def jsonl(path: Path, rows: list[dict]) -> str:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf8")
    return str(path)


def changed(place: int, **values: object) -> list[dict]:
    return [row | values if i == place else row for i, row in enumerate(ROWS)]


def small_mgsm(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for code, text in files.items():
        (folder / f"mgsm_{code}.tsv").write_text(text, "utf8")
    return folder


# -- the benchmarks ----------------------------------------------------------------------------------------------------


def test_mgsm_has_250_problems_in_eleven_languages_with_equal_references():
    table = load("mgsm", folder=DATA / "mgsm")
    assert table.schema == SCHEMAS["problems"]
    assert dict(table.group_by("language").len().iter_rows()) == dict.fromkeys(lab.languages(), 50)
    assert table["problem_id"].n_unique() == 50
    assert table.filter(pl.col("problem_id") == "mgsm-001")["reference"].unique().to_list() == ["18"]
    assert table["is_revised"].null_count() == len(table)
    assert set(table["split"]) == {"test"}


def test_revised_questions_are_marked_per_language_from_a_list():
    table = load("mgsm", folder=DATA / "mgsm", revised=DATA / "mgsm_rev2_replaced.json")
    count = dict(table.group_by("language").agg(pl.col("is_revised").sum()).iter_rows())
    assert (count["en"], count["te"], sum(count.values())) == (4, 9, 76)
    assert table.filter("is_revised")["problem_id"].n_unique() == 24
    assert table["is_revised"].null_count() == 0
    assert table.filter(pl.col("problem_id") == "mgsm-003", language="en")["is_revised"].item()


def test_revised_questions_are_found_by_comparison_with_the_revised_files(tmp_path):
    old = small_mgsm(tmp_path / "old", de="Alt eins?\t1\nGleich?\t2\n", fr="Un?\t1\nDeux?\t2\n")
    new = small_mgsm(tmp_path / "new", de="Neu eins?\t1\nGleich?\t2\n", fr="Un?\t1\nDeux?\t2\n")
    table = load("mgsm", folder=old, revised=new)
    assert table.filter("is_revised").select("problem_id", "language").rows() == [("mgsm-001", "de")]


def test_the_revised_edition_itself_loads_under_the_ids_of_mgsm(tmp_path):
    table = load("mgsm-rev2", folder=small_mgsm(tmp_path / "new", de="Neu?\t1\n"))
    assert table["problem_id"].to_list() == ["mgsm-001"]


def test_a_folder_of_mgsm_files_is_recognised_by_its_files(tmp_path):
    folder = small_mgsm(tmp_path / "m", de="Eins?\t1\n", sw="Moja?\t1\n")
    assert load(str(folder)).equals(load("mgsm", folder=folder))


def test_mgsm_lines_with_crlf_bom_and_line_separators_inside_stay_one_problem_each(tmp_path):
    folder = small_mgsm(tmp_path / "m", en="\ufeffWhat\u2028is it?\t1\r\nAnd\x85this?\t2\r\n")
    assert load("mgsm", folder=folder)["question"].to_list() == ["What\u2028is it?", "And\x85this?"]


def test_a_torn_mgsm_line_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"mgsm_en\.tsv, line 2: expected question TAB answer, found 1 fields"):
        load("mgsm", folder=small_mgsm(tmp_path / "m", en="One?\t1\nTwo"))


def test_msvamp_has_1000_problems_in_ten_languages():
    table = load("msvamp", folder=DATA / "msvamp")
    assert table["problem_id"].n_unique() == 50
    assert sorted(table["language"].unique()) == sorted(set(lab.languages()) - {"te"})
    assert table.row(0, named=True)["reference"] == "8"  # written 8.0
    assert table["problem_id"][0] == "msvamp-0001"


def test_a_language_that_a_benchmark_lacks_is_named():
    with pytest.raises(OSError, match=r"test_Telugu\.json cannot be read"):
        load("msvamp", languages=["te"], folder=DATA / "msvamp")


def test_the_lab_loads_by_split_language_and_limit():
    table = load("lab", languages=["en", "th"], split="dev", limit=3)
    assert len(table) == 6
    assert set(table["split"]) == {"dev"}
    assert table.filter(language="en")["reference"].to_list() == table.filter(language="th")["reference"].to_list()


# -- a table of one's own ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["jsonl", "parquet", "csv", "tsv"])
def test_an_own_table_reads_the_same_from_every_kind_of_file(tmp_path, ending):
    path, table = tmp_path / f"own.{ending}", pl.DataFrame(ROWS)
    if ending == "parquet":
        table.write_parquet(path)
    elif ending == "jsonl":
        table.write_ndjson(path)
    else:
        table.write_csv(path, separator="," if ending == "csv" else "\t")
    loaded = load(str(path))
    assert loaded.schema == SCHEMAS["problems"]
    assert loaded["reference"].to_list() == ["2", "2", "5600", "5600"]
    assert loaded["split"].to_list() == ["test"] * 4


def test_columns_of_other_names_are_mapped_and_usual_names_known(tmp_path):
    rows = [
        {"nr": 7, "lang": "en", "Frage": "Q?", "answer": "She pays 3.\n#### 3"},
        {"nr": 12, "lang": "en", "Frage": "R?", "answer": "4"},
    ]
    table = load(jsonl(tmp_path / "own.jsonl", rows), columns={"problem_id": "nr", "question": "Frage"})
    assert table.select("problem_id", "question", "reference").rows() == [("07", "Q?", "3"), ("12", "R?", "4")]


def test_a_missing_column_is_an_error_with_a_suggestion(tmp_path):
    source = jsonl(tmp_path / "own.jsonl", [{"problem_id": "a", "language": "en", "questoin": "Q?", "reference": "1"}])
    with pytest.raises(ValueError, match=r"no column for question; is it 'questoin'\?"):
        load(source)
    with pytest.raises(ValueError, match=r"no column 'question_text' \(for question\)"):
        load(source, columns={"question": "question_text"})
    with pytest.raises(ValueError, match=r"this project has no column 'qestion'; did you mean 'question'\?"):
        load(source, columns={"qestion": "questoin"})


def test_questions_are_nfc_and_trimmed(tmp_path):
    decomposed = unicodedata.normalize("NFD", "Où est l’été ?")
    source = jsonl(tmp_path / "own.jsonl", [{"id": "a", "lang": "fr", "question": f" {decomposed}\r\n", "answer": 1}])
    assert load(source)["question"].to_list() == ["Où est l’été ?"]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (changed(1, reference="3"), r"with other references in other languages:\n  a \(en\): '2'\n  a \(de\): '3'"),
        (
            changed(1, reference="viele"),
            r"1 problem row with a reference that is neither one number nor.*letters or words: 1 row\n  a \(de\): 'viele'",
        ),
        (changed(1, reference=None), r"with no reference"),
        (changed(1, question=" \n"), r"1 problem row with no question"),
        (changed(1, question=None), r"1 problem row with no question"),
        (changed(0, problem_id=""), r"without a problem_id"),
        (
            changed(2, problem_id="a"),
            r"2 problem rows occurring twice in one language.*\n  a \(en\): 'One and one\?'\n  a \(en\): 'How much\?'",
        ),
        (ROWS[:3], r"1 problem missing in some language.*\n  b lacks de"),
        (changed(0, language="eng"), r"unknown language 'eng'.*did you mean 'en'.*bestofl_lib/languages\.py"),
        (changed(0, split="val"), r"split"),
        ([row | {"split": "test" if row["language"] == "en" else "dev"} for row in ROWS], r"with several splits"),
    ],
)
def test_data_that_would_spoil_every_figure_is_refused_with_the_rows(rows, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        check_problems(pl.DataFrame(rows))


def test_of_many_faulty_rows_ten_are_shown_and_the_rest_counted():
    rows = [{"problem_id": str(i), "language": "en", "question": "", "reference": "1"} for i in range(25)]
    with pytest.raises(ValueError, match="25 problem rows with no question") as caught:
        check_problems(pl.DataFrame(rows))
    assert "and 15 more" in str(caught.value)


def test_what_a_source_has_no_use_for_is_refused(tmp_path):
    with pytest.raises(ValueError, match="lab has no use for `columns`"):
        load("lab", columns={"question": "q"})
    with pytest.raises(ValueError, match="lab has no use for `folder`"):
        load("lab", folder=tmp_path)
    with pytest.raises(ValueError, match="`revised` marks the questions of MGSM"):
        load("lab", languages=["en"], revised=tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "mgsn"}, "no problems at 'mgsn'; did you mean 'mgsm'"),
        ({"source": "lab", "languages": ["xx"]}, "unknown language 'xx'"),
        ({"source": "lab", "languages": ["en", "en"]}, "languages named twice: en"),
        ({"source": "lab", "languages": ["en"], "split": "tset"}, "no split 'tset'; it has dev, test, train"),
        ({"source": "lab", "languages": ["en"], "limit": 0}, "limit 0 leaves no problem"),
    ],
)
def test_a_wrong_request_says_what_there_is(arguments, message):
    with pytest.raises(ValueError, match=message):
        load(**arguments)


def test_an_empty_folder_says_which_files_it_should_hold(tmp_path):
    with pytest.raises(ValueError, match=r"has no files such as mgsm_bn\.tsv, .*test_Bengali\.json"):
        load(str(tmp_path))


# -- files -------------------------------------------------------------------------------------------------------------


def test_a_last_line_cut_short_is_left_out_with_a_warning():
    with pytest.warns(FileWarning, match=r"pool\.jsonl: its last line, 2, was cut short"):
        assert json_lines('{"a": 1}\n{"a": 2, "b": "x', "pool.jsonl") == [{"a": 1}]


def test_half_a_line_in_mid_file_is_an_error_with_its_number():
    with pytest.raises(ValueError, match=r"pool\.jsonl, line 2: not JSON"):
        json_lines('{"a": 1}\n{"a": 2, "b"\n{"a": 3}\n', "pool.jsonl")
    with pytest.raises(ValueError, match=r"line 2: not JSON"):  # a whole last line is damage, not a stopped writer
        json_lines('{"a": 1}\n{"a": 2, "b"\n', "pool.jsonl")


def test_a_line_that_is_no_object_is_an_error():
    with pytest.raises(ValueError, match=r"line 1: expected a JSON object, found list"):
        json_lines("[1, 2]\n", "pool.jsonl")


def test_half_surrogate_pairs_become_replacement_characters():
    assert json_lines('{"a": "x\\ud83d y \\ud83d\\ude00"}\n', "p") == [{"a": "x\ufffd y 😀"}]


@pytest.mark.parametrize("coding", ["utf-8", "utf-8-sig", "utf-16"])
def test_byte_order_marks_are_understood(tmp_path, coding):
    path = tmp_path / "a.csv"
    path.write_bytes("id,question\r\n1,Où ?\r\n".encode(coding))
    assert read_table(path).rows() == [("1", "Où ?")]


def test_another_encoding_is_refused_with_its_line(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("id,question\n1,été\n".encode() + "2,été\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"a\.csv, line 3: byte 0xe9 is not UTF-8; convert the file first"):
        read_text(path)


def test_semicolons_of_spreadsheets_are_recognised(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('id;question\n1;"3,5; or so"\n', "utf8")
    assert read_table(path).rows() == [("1", "3,5; or so")]


def test_mixed_and_nested_values_of_json_lines_become_text(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text('{"a": 1, "m": {"x": [1]}}\n{"a": "two", "m": "plain"}\n{"a": null}\n', "utf8")
    assert read_table(path).rows() == [("1", '{"x": [1]}'), ("two", "plain"), (None, None)]


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("a.xlsx", b"PK", r"expected a file that ends in \.parquet, \.csv, \.tsv or \.jsonl"),
        ("a.parquet", b"PAR1 broken", r"a\.parquet is damaged"),
        ("a.csv", b"x,x\n1,2\n", r"several columns named x"),
        ("a.jsonl", b"", r"holds no rows"),
        ("a.csv", b"x,y\n", r"holds no rows"),
    ],
)
def test_a_file_that_is_no_table_is_refused_by_name(tmp_path, name, data, message):
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ValueError, match=message):
        read_table(tmp_path / name)


# -- instructions ------------------------------------------------------------------------------------------------------

FIRST_WORDS = {
    "bn": "নিচের", "de": "Löse", "en": "Solve", "es": "Resuelve", "fr": "Résous", "ja": "次の問題", "ru": "Реши",
    "sw": "Tatua", "te": "కింది", "th": "จงแก้", "zh": "请用中文",
}  # fmt: skip


@pytest.mark.parametrize("code", lab.languages())
def test_a_native_instruction_is_whole_and_names_the_answer_line(code):
    record = LANGUAGES[code]
    assert record.instruction.startswith(
        FIRST_WORDS[code]
    )  # public MGSM prompts lack their first character in Japanese
    assert not unicodedata.combining(record.instruction[0])
    assert record.instruction == unicodedata.normalize("NFC", record.instruction).strip()
    before, after = record.answer_line.split("{answer}")
    assert before.strip() in record.instruction
    assert record.instruction.endswith(("”", "“", "»", "。", ".", "।")), record.instruction[-3:]
    assert after.strip(" .") in record.instruction
