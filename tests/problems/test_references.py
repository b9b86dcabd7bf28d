"""References are numbers or expressions by one rule, and ids are text; what is neither is refused with its rows."""

from __future__ import annotations

import json
from fractions import Fraction

import polars as pl
import pytest

from bestofl_lib.candidates.pools import read_pool
from bestofl_lib.numbers.references import possible_values
from bestofl_lib.problems.files import FileWarning, read_table
from bestofl_lib.problems.load import check_problems, load


def problems(*references: object, languages: tuple[str, ...] = ("en",)) -> pl.DataFrame:
    """One problem per reference, or one problem where there is a reference per language."""
    ids = ["p"] * len(references) if len(languages) > 1 else [f"p{i}" for i in range(len(references))]
    codes = list(languages) if len(languages) > 1 else [*languages] * len(references)
    return pl.DataFrame(
        {
            "problem_id": ids,
            "language": codes,
            "question": [f"Q {i}?" for i in range(len(references))],
            "reference": references,
        },
        strict=False,
    )


def write(path, rows: list[dict]):
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf8")
    else:
        pl.DataFrame(rows).write_parquet(path)
    return str(path)


@pytest.mark.parametrize("ending", ["jsonl", "parquet"])
def test_references_that_come_as_numbers_are_those_numbers(tmp_path, ending):
    rows = [
        {"problem_id": f"p{i}", "language": "de", "question": f"Q{i}?", "completion": "Antwort: 1", "reference": value}
        for i, value in enumerate([2.125, 18.0, 1234.0, 0.5])
    ]
    path = write(tmp_path / f"own.{ending}", rows)
    assert load(path)["reference"].to_list() == ["17/8", "18", "1234", "1/2"]
    assert read_pool(path).problems["reference"].to_list() == ["17/8", "18", "1234", "1/2"]


def test_numbers_beside_texts_stay_numbers(tmp_path):
    rows = [
        {"problem_id": f"p{i}", "language": "en", "question": f"Q{i}?", "completion": "1", "reference": value}
        for i, value in enumerate([2.125, "18", 7, 1.5e-3])
    ]
    path = write(tmp_path / "mixed.jsonl", rows)
    assert load(path)["reference"].to_list() == ["17/8", "18", "7", "3/2000"]
    assert read_pool(path).problems["reference"].to_list() == ["17/8", "18", "7", "3/2000"]


@pytest.mark.parametrize("dtype", [pl.Float32, pl.Float64, pl.Decimal(10, 3), pl.Int64])
def test_every_type_of_number_column_is_exact(dtype):
    value = 2 if dtype == pl.Int64 else 2.125
    table = problems(value).with_columns(pl.col("reference").cast(dtype))
    assert check_problems(table)["reference"].item() == ("2" if dtype == pl.Int64 else "17/8")


@pytest.mark.parametrize(
    ("text", "code"),
    [("18.000", "en"), ("1.234", "de"), ("18.000", "fr"), ("1,234", "de"), ("3,5", "en"), ("-18.000", "sw")],
)
def test_a_mark_that_could_be_either_is_refused_with_the_row_until_it_is_said_which_it_is(text, code):
    table = problems("7", text, languages=(code,))
    with pytest.raises(ValueError, match=r"(?s)decimal_mark=.*could be two numbers.*p1 \(" + code) as caught:
        check_problems(table)
    assert repr(text) in str(caught.value)
    values = {mark: possible_values(text, code, mark)[0] for mark in (".", ",")}
    assert values["."] != values[","]
    for mark, value in values.items():
        if value:
            assert check_problems(table, decimal_mark=mark)["reference"][1] == str(value[0])


def test_a_comma_groups_thousands_where_the_language_does_so_and_other_languages_decide_the_rest():
    assert check_problems(problems("1,234"))["reference"].to_list() == ["1234"]
    for en, de, value in (
        ("5,600", "5.600", "5600"),
        ("57,500", "57,500", "57500"),
        ("18", "18.000", "18"),
        ("3,5", "3,5", "7/2"),
    ):
        assert set(check_problems(problems(en, de, languages=("en", "de")))["reference"]) == {value}
    with pytest.raises(ValueError, match="could be two numbers"):  # a program wrote both
        check_problems(problems("18.000", "18.000", languages=("en", "de")))


def test_a_stated_mark_refuses_texts_that_are_written_otherwise():
    with pytest.raises(ValueError, match=r"(?s)not written with '\.'.*p0 \(en\): '3,5'"):
        check_problems(problems("3,5"), decimal_mark=".")
    with pytest.raises(ValueError, match="decimal_mark ';'"):
        check_problems(problems("3,5"), decimal_mark=";")
    assert check_problems(problems("1,234.500"), decimal_mark=".")["reference"].item() == "2469/2"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        (r"11\sqrt2", "root"),
        (r"11\sqrt{2}", "root"),
        ("3√2", "root"),
        (r"11\pi", "π"),
        ("2π", "π"),
        (r"\frac{\pi}{2}", "root or a fraction"),
        ("2x", "letters"),
        ("x", "letters"),
        ("B", "letters"),
        ("5 x", "letters"),
        ("2i", "letters"),
        ("(1, 2)", "brackets"),
        ("[0, 1)", "brackets"),
        (r"\{1, 2\}", "brackets"),
        ("x = 5", "equation"),
        (r"x \geq 5", "equation"),
        ("2^{10}", "expression"),
        ("5!", "expression"),
        ("3n+1", "expression"),
        ("18 or 19", "several numbers"),
        ("18, 19", "several numbers"),
        ("18:30", "several numbers"),
        ("eighteen or nineteen", "letters"),
        ("9" * 5000, "more than 300 digits"),
    ],
)
def test_what_is_no_number_is_refused_by_kind_with_its_row_where_numbers_are_asked_for(text, kind):
    with pytest.raises(ValueError, match=f"(?s)1 problem row.*{kind}.*p1") as caught:
        check_problems(problems("18", text), answer_kind="number")
    assert text[:20] in str(caught.value).replace("\\\\", "\\")
    pool = problems("18", text).with_columns(completion=pl.lit("18"))
    with pytest.raises(ValueError, match=f"(?s){kind}.*p1"):
        read_pool(pool, answer_kind="number")


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("x", "letters"),
        ("18 or 19", "several numbers"),
        ("1,234,5", "several numbers"),
        ("18:30", "several numbers"),
        ("3.4.5", "several numbers"),
        ("eighteen or nineteen", "letters"),
        ("see solution", "letters"),
        ("n/a", "letters"),
        ("yes", "letters"),
        ("1 +", "expression"),
        ("3 apples or more", "letters"),
        (r"\frac{1}{", "expression"),
        ("9" * 5000, "more than 300 digits"),
    ],
)
def test_what_is_neither_a_number_nor_an_expression_is_refused_with_its_row(text, kind):
    for answer_kind in ("", "expression"):
        with pytest.raises(ValueError, match="(?s)1 problem row.*p1") as caught:
            check_problems(problems("18", text), answer_kind=answer_kind)
        assert kind in str(caught.value) or answer_kind


@pytest.mark.parametrize(
    ("text", "written"),
    [
        (r"11\sqrt2", r"11\sqrt{2}"),
        ("3√2", r"3\sqrt{2}"),
        (r"$\dfrac{\pi}{2}$", r"\frac{\pi}{2}"),
        ("2x", "2x"),
        ("B", "B"),
        (r"\text{(B)}", r"\text{(B)}"),
        ("(1, 2)", "(1, 2)"),
        (r"\left[0, 1\right)", "[0, 1)"),
        (r"\{1, 2\}", r"\{1, 2\}"),
        ("x = 5", "x=5"),
        (r"x \geq 5", r"x\ge5"),
        ("2^{10}", "2^{10}"),
        ("18, 19", "18, 19"),
        ("1,-2", "1, -2"),
    ],
)
def test_expressions_are_references_and_their_spelling_stays_when_it_is_read_again(text, written):
    for mark in ("", "."):
        table = check_problems(problems("18", text), decimal_mark=mark)
        assert table.select("reference", "answer_kind").rows() == [("18", "number"), (written, "expression")]
        assert check_problems(table, decimal_mark=mark).equals(table)
    pool = read_pool(problems("18", text).with_columns(completion=pl.lit("18")))
    assert pool.problems["reference"].to_list() == ["18", written]
    assert check_problems(problems("18", "19"), answer_kind="expression")["answer_kind"].unique().to_list() == [
        "expression"
    ]


def test_expressions_that_are_equal_in_all_languages_are_written_alike_and_others_are_refused():
    table = check_problems(problems(r"\sqrt{8}", r"2\sqrt2", languages=("en", "de")))
    assert table["reference"].to_list() == [r"2\sqrt{2}"] * 2
    same = check_problems(problems("4", r"\sqrt{16}", languages=("en", "de")))
    assert same["answer_kind"].to_list() == ["expression"] * 2 and same["reference"].n_unique() == 1
    with pytest.raises(ValueError, match="(?s)other references in other languages.*sqrt3"):
        check_problems(problems(r"\sqrt{8}", r"2\sqrt3", languages=("en", "de")))
    given = check_problems(problems(r"\sqrt{8}"))
    rows = problems(r"2\sqrt2").with_columns(completion=pl.lit(r"\boxed{2\sqrt2}"))
    assert read_pool(rows, problems=given).problems["reference"].to_list() == [r"\sqrt{8}"]
    with pytest.raises(ValueError, match="disagree"):
        read_pool(problems(r"2\sqrt3").with_columns(completion=pl.lit("1")), problems=given)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"1,\!000", 1000),
        ("1{,}000", 1000),
        ("1,000,000", 10**6),
        ("1.000.000", 10**6),
        ("1.234,5", Fraction(2469, 2)),
        ("12,34,567", 1234567),
        ("0.125", Fraction(1, 8)),
        ("$18", 18),
        ("$18$", 18),
        (r"\$18", 18),
        (r"50\%", 50),
        (r"90^\circ", 90),
        ("18 eggs", 18),
        ("5 kg", 5),
        ("18 m2", 18),
        (r"14 \text{ cm}", 14),
        ("12 km/h", 12),
        (r"\frac{3}{4}", Fraction(3, 4)),
        ("1 3/4", Fraction(7, 4)),
        ("−3", -3),
        ("১৮", 18),
        ("９＋9 = 18\n#### 18", 18),
        ("1.5 million", 1500000),
    ],
)
def test_one_number_with_its_sign_scale_or_unit_is_a_reference(text, value):
    assert check_problems(problems(text))["reference"].item() == str(Fraction(value))


# -- ids ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["csv", "tsv", "jsonl", "parquet"])
def test_ids_stay_what_they_are(tmp_path, ending):
    path = tmp_path / f"own.{ending}"
    table = problems("1", "2").with_columns(problem_id=pl.Series([1.1, 1.2]), completion=pl.lit("Answer: 1"))
    if ending in ("csv", "tsv"):
        table.write_csv(path, separator="\t" if ending == "tsv" else ",")
    elif ending == "jsonl":
        table.write_ndjson(path)
    else:
        table.write_parquet(path)
    assert load(str(path))["problem_id"].to_list() == ["1.1", "1.2"]
    assert read_pool(path).problems["problem_id"].to_list() == ["1.1", "1.2"]


@pytest.mark.parametrize("ending", ["csv", "jsonl"])
def test_ids_with_leading_zeros_are_other_ids(tmp_path, ending):
    table = problems("1", "2", "3").with_columns(
        problem_id=pl.Series(["1", "01", "10"]), completion=pl.lit("Answer: 1")
    )
    path = tmp_path / f"own.{ending}"
    table.write_csv(path) if ending == "csv" else table.write_ndjson(path)
    assert dict(load(str(path)).select("problem_id", "reference").iter_rows()) == {"1": "1", "01": "2", "10": "3"}
    pool = read_pool(path)
    assert dict(pool.problems.select("problem_id", "reference").iter_rows()) == {"1": "1", "01": "2", "10": "3"}
    assert len(pool.candidates) == 3


def test_large_whole_numbers_beside_fractions_stay_two_ids(tmp_path):
    path = tmp_path / "own.jsonl"
    rows = [
        f'{{"id": {name}, "lang": "en", "question": "Q{name}?", "answer": 1}}\n'
        for name in ("9007199254740993", "9007199254740992", "1.5")
    ]
    path.write_text("".join(rows))
    assert load(str(path))["problem_id"].n_unique() == 3


@pytest.mark.parametrize("value", ['""', '" "', "null", "NaN", '"nan"', '"None"'])
def test_an_id_that_is_not_there_is_refused_with_file_and_line(tmp_path, value):
    path = tmp_path / "own.jsonl"
    row = '{{"id": {}, "lang": "en", "question": "Q{}?", "answer": 1, "completion": "1"}}\n'
    path.write_text("\n" + row.format('"a"', 0) + row.format(value, 1))
    for read in (load, read_pool):
        with pytest.raises(ValueError, match=r"own\.jsonl, line 3"):
            read(str(path))


def test_two_questions_under_one_id_in_one_language_are_refused_with_both():
    table = problems("1", "1").with_columns(problem_id=pl.lit("p"), completion=pl.lit("Answer: 1"))
    with pytest.raises(ValueError, match=r"(?s)'Q 0\?'.*'Q 1\?'"):
        check_problems(table.drop("completion"))
    with pytest.raises(ValueError, match=r"(?s)'Q 0\?'.*'Q 1\?'"):
        read_pool(table)
    same = table.with_columns(question=pl.lit("Q?"))
    assert len(read_pool(same).candidates) == 2


# -- rows of CSV and TSV -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("ending", "mark"), [("csv", ","), ("tsv", "\t")])
def test_quotes_are_honoured(tmp_path, ending, mark):
    path = tmp_path / f"a.{ending}"
    rows = [["a", "b"], ["1", f'two\nlines{mark}"quoted"'], ["", '""'], ["3", 'five 6" nails']]
    text = "\n".join(
        mark.join('"' + cell.replace('"', '""') + '"' if any(c in cell for c in f"\n{mark}") else cell for cell in row)
        for row in rows
    )
    path.write_text(text + "\n")
    assert read_table(path).rows() == [("1", f'two\nlines{mark}"quoted"'), (None, ""), ("3", 'five 6" nails')]
    assert read_table(path, numbered=True)["_line"].to_list() == [2, 4, 5]


@pytest.mark.parametrize("end", ["2,18", '2,"x', '2,"x\n', "2", "2,"])
def test_a_torn_last_row_is_set_aside_with_a_warning(tmp_path, end):
    path = tmp_path / "a.csv"
    path.write_text(f"a,b\n1,7\n{end}")
    with pytest.warns(FileWarning, match=r"a\.csv: its last row \(line 3\)"):
        assert read_table(path).rows() == [("1", "7")]


def test_a_last_row_that_ends_in_a_quote_is_whole(tmp_path, recwarn):
    (tmp_path / "a.csv").write_text('a,b\n1,"7"')
    assert read_table(tmp_path / "a.csv").rows() == [("1", "7")] and not recwarn.list


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a,b\n1,2,3\n4,5\n", 2),
        ("a,b\n1\n4,5\n", 2),
        ('a,b\n1,"open\n2,3\n4,5\n', 2),  # would swallow the rest of the file
        ('a,b\n1,"x"y\n', 2),
    ],
)
def test_rows_that_do_not_fit_their_header_are_refused_by_line(tmp_path, text, line):
    (tmp_path / "a.csv").write_text(text)
    with pytest.raises(ValueError, match=rf"a\.csv, line {line}"):
        read_table(tmp_path / "a.csv")


@pytest.mark.parametrize(
    "row", ['{"a": ' + "[" * 200_000 + "}", '{"a": ' + '{"b": ' * 100_000 + "1" + "}" * 100_001, '{"a": ' + "9" * 5000 + "}"]
)  # fmt: skip
def test_deep_nesting_and_endless_digits_are_refused_by_line(tmp_path, row):
    (tmp_path / "a.jsonl").write_text('{"a": 1}\n' + row + "\n")
    with pytest.raises(ValueError, match=r"a\.jsonl, line 2"):
        read_table(tmp_path / "a.jsonl")
