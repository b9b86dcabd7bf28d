"""Pools made elsewhere: tables of any shape and the logs that the real tools wrote (see make_pool_files.py)."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import polars as pl
import pytest

from bestofl_lib.answers.columns import read_answers
from bestofl_lib.candidates.eval_logs import inspect_rows
from bestofl_lib.candidates.pools import read_pool, store_pool
from bestofl_lib.candidates.store import Store
from bestofl_lib.problems.files import FileWarning
from bestofl_lib.problems.load import load
from bestofl_lib.runs import UNDER_STUDY, Run
from bestofl_lib.tables import KEY, SCHEMAS, check_table

FILES = Path(__file__).resolve().parent / "pool_files"
DATA = Path(__file__).resolve().parents[1] / "data"
S1 = DATA / "pools/s1_mgsm_sample.parquet"


def rows(**columns: list) -> pl.DataFrame:
    """Two problems in two languages, one completion each, with columns replaced, added or (None) removed."""
    table = {
        "problem_id": ["p1", "p1", "p2", "p2"],
        "language": ["en", "sw", "en", "sw"],
        "completion": ["The answer is 18.", "Jibu ni 18.", "The answer is 3.", "Jibu ni 4."],
        "reference": ["18", "18", "3", "3"],
    } | columns
    return pl.DataFrame({name: values for name, values in table.items() if values is not None})


def write(path: Path, table: pl.DataFrame) -> Path:
    getattr(table, {"parquet": "write_parquet", "jsonl": "write_ndjson", "csv": "write_csv"}[path.suffix[1:]])(path)
    return path


# -- tables ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["parquet", "jsonl", "csv"])
def test_a_table_of_any_kind_gives_the_same_pool(tmp_path, ending):
    pool = read_pool(write(tmp_path / f"pool.{ending}", rows()))
    assert pool.problems.schema == SCHEMAS["problems"] and pool.candidates.schema == SCHEMAS["candidates"]
    assert pool.candidates["completion"].to_list() == rows()["completion"].to_list()
    assert pool.candidates.equals(read_pool(rows()).candidates)
    assert pool.problems["reference"].to_list() == ["18", "18", "3", "3"]
    assert pool.notes[-1] == "4 candidates of 2 problems in 2 languages, 1 each."


def test_a_large_pool_is_kept_in_files_in_any_order_and_is_the_same_table(tmp_path, monkeypatch):
    several = pl.concat([rows(), rows(completion=["6 + 12 = 18. It is 18.", None, "3", "4"]), rows()[::-1]])
    for number, part in enumerate(several.iter_slices(5)):
        part.write_parquet(tmp_path / f"{number}.parquet")
    whole = read_pool(tmp_path)
    monkeypatch.setattr("bestofl_lib.candidates.pool_rows.HELD", 4)
    monkeypatch.setattr("bestofl_lib.candidates.pools.PART", 3)
    pool = read_pool(tmp_path)
    assert [part.height for part in pool.parts()] == [3, 3, 3, 2]
    assert pool.candidates.equals(whole.candidates) and pool.notes == whole.notes
    assert pool.notes[0] == "Set aside: 1 row without a completion (null)."
    assert pool.rows["length"].to_list() == pool.candidates["completion"].str.len_chars().to_list()


def test_conditions_count_as_samples_in_an_order_that_the_file_does_not_decide():
    table = pl.concat([rows().with_columns(condition=pl.lit(name)) for name in ("wait", "prefix")])
    pool = read_pool(table)
    assert pool.candidates.filter(problem_id="p1", language="en")["condition"].to_list() == ["prefix", "wait"]
    assert pool.candidates.filter(problem_id="p1", language="en")["sample_index"].to_list() == [0, 1]
    assert read_pool(table.reverse()).candidates.equals(pool.candidates)
    assert set(read_pool(table, conditions=["wait"]).candidates["condition"]) == {"wait"}
    with pytest.raises(ValueError, match="no condition weit; the chosen model has prefix, wait"):
        read_pool(table, conditions=["weit"])


def test_samples_without_an_index_keep_the_order_of_the_file():
    table = pl.concat([rows(), rows(completion=["a", "b", "c", "d"])])
    assert read_pool(table).candidates.filter(problem_id="p1", language="sw")["completion"].to_list() == [
        "Jibu ni 18.",
        "b",
    ]


def test_unequal_numbers_of_candidates_per_language_are_normal():
    table = pl.concat([rows(), rows().filter(pl.col("language") == "en").with_columns(completion=pl.lit("Hm."))])
    pool = read_pool(table)
    assert dict(pool.candidates.group_by("language").len().iter_rows()) == {"en": 4, "sw": 2}
    assert "1 to 2 each" in pool.notes[-1]


def test_either_language_can_be_the_axis():
    table = rows(question_language=["bn", "bn", "bn", "bn"], reasoning_language=["en", "bn", "en", "bn"], language=None)
    by_question = read_pool(table).candidates
    assert set(by_question["language"]) == {"bn"}
    assert by_question.filter(problem_id="p1")["condition"].to_list() == [None, "thinking in en"]
    by_reasoning = read_pool(table, axis="thinking").candidates
    assert by_reasoning.filter(problem_id="p1").select("language", "condition").rows() == [
        ("bn", None),
        ("en", "asked in bn"),
    ]
    with pytest.raises(ValueError, match="unknown axis 'trace'; use one of: question, thinking"):
        read_pool(table, axis="trace")
    with pytest.raises(ValueError, match="the pool does not say in which language the model thought"):
        read_pool(rows(), axis="thinking")


def test_a_pool_of_several_models_asks_for_one():
    table = pl.concat([rows().with_columns(model=pl.lit(name)) for name in ("7B", "32B")])
    with pytest.raises(ValueError, match=r"holds 2 models: 32B, 7B; choose one with model='32B'"):
        read_pool(table)
    assert set(read_pool(table, model="7B").candidates["model"]) == {"7B"}
    with pytest.raises(ValueError, match="no model '8B'; it holds 32B, 7B"):
        read_pool(table, model="8B")


def test_columns_are_mapped_as_a_table_or_as_texts():
    table = rows().rename({"completion": "txt", "reference": "sol"})
    wanted = read_pool(rows()).candidates
    assert read_pool(table, columns={"completion": "txt", "reference": "sol"}).candidates.equals(wanted)
    assert read_pool(table, columns=["completion:txt", "reference:sol"]).candidates.equals(wanted)
    with pytest.raises(ValueError, match="columns entry 'txt': write our name:their name"):
        read_pool(table, columns=["txt"])


@pytest.mark.parametrize(
    ("theirs", "message"),
    [
        (
            "completoin",
            r"no column for completion; is it 'completoin'\? say which it is with columns=\{'completion': 'completoin'\}",
        ),
        ("wrote", r"no column for completion; .*it has problem_id, language, wrote, reference"),
    ],
)
def test_a_column_of_an_unknown_name_is_an_error_with_a_suggestion(theirs, message):
    with pytest.raises(ValueError, match=message):
        read_pool(rows().rename({"completion": theirs}))


def test_what_the_pool_knows_of_tokens_probabilities_and_ends_is_kept():
    table = rows(
        n_tokens=[7, 8, 9, None], logprob=[-1.5, -2.0, None, -3.0], stop_reason=["eos", "max_tokens", "length", "odd"]
    )
    got = read_pool(table).candidates
    assert got["n_tokens"].to_list() == [7, 8, 9, None]
    assert got["logprob"].to_list() == [-1.5, -2.0, None, -3.0]
    assert got["finish_reason"].to_list() == ["stop", "length", "length", None]


def test_rewards_of_the_pool_are_taken_when_named():
    table = rows(scores=[[0.1, 0.9], [0.2], [0.3, 0.4], [0.5]])
    assert read_pool(table).rewards.is_empty()
    rewards = read_pool(table, columns={"reward": "scores"}).rewards
    assert rewards.schema == SCHEMAS["rewards"]
    assert rewards["reward"].to_list() == [0.9, 0.2, 0.4, 0.5]


def test_a_value_that_cannot_be_is_named_with_file_line_and_remedy(tmp_path):
    path = tmp_path / "pool.csv"
    rows(n_tokens=[7, 8, -5, 9], completion=["a\nb", "b", "c", "d"]).write_csv(path)
    with pytest.raises(ValueError, match=r"pool\.csv, line 5: n_tokens -5; expected .*columns=\{'n_tokens': '…'\}"):
        read_pool(path)


def test_a_torn_last_row_is_said_in_the_notes(tmp_path):
    path = tmp_path / "pool.csv"
    path.write_text(rows().write_csv() + "p3,en,The answer is 4.,1")
    with pytest.warns(FileWarning):
        pool = read_pool(path)
    assert len(pool.candidates) == 4
    assert any("pool.csv: its last row (line 6)" in note for note in pool.notes)


# -- the problems behind a pool ----------------------------------------------------------------------------------------


def known(**columns: list) -> pl.DataFrame:
    table = {
        "problem_id": ["m-1", "m-1", "m-2", "m-2"],
        "language": ["en", "sw", "en", "sw"],
        "split": ["test"] * 4,
        "question": ["Eggs?", "Mayai?", "Robe?", "Joho?"],
        "reference": ["18", "18", "3", "3"],
        "is_revised": [False, False, True, False],
        "answer_kind": ["number"] * 4,
    }
    return check_table("problems", pl.DataFrame(table | columns))


def test_questions_come_from_the_pool_or_from_given_problems_or_are_said_to_be_missing():
    assert read_pool(rows(question=["a", "b", "c", "d"])).problems["question"].to_list() == ["a", "b", "c", "d"]
    absent = read_pool(rows())
    assert absent.problems["question"][0] == "[the pool does not hold the question of problem p1]"
    assert "4 questions missing in the pool" in absent.notes[0]
    given = read_pool(rows(problem_id=["m-1", "m-1", "m-2", "m-2"]), problems=known())
    assert given.problems.equals(known())


@pytest.mark.parametrize("first", [0, 1])
def test_running_numbers_count_the_given_problems_from_where_the_references_agree(first):
    pool = read_pool(rows(problem_id=[first, first, first + 1, first + 1]), problems=known())
    assert pool.problems.equals(known())
    assert f"count the given problems from {first}" in pool.notes[0]


def test_references_come_from_the_given_problems_where_the_pool_has_none():
    numbered = rows(reference=None, problem_id=[0, 0, 1, 1])
    assert read_pool(numbered, problems=known()).problems.equals(known())
    with pytest.raises(ValueError, match="the pool has no references; name their column"):
        read_pool(numbered)


def test_problems_that_do_not_fit_the_pool_are_refused_with_the_difference():
    with pytest.raises(ValueError, match=r"disagree with the given problems: m-2 \(en\) '3', m-2 \(sw\) '3'"):
        read_pool(rows(problem_id=["m-1", "m-1", "m-2", "m-2"]), problems=known(reference=["18", "18", "5", "5"]))
    with pytest.raises(
        ValueError, match=r"from 0: 2 references differ, 0 numbers too many; from 1: .* 1 numbers too many"
    ):
        read_pool(rows(problem_id=[0, 0, 1, 1]), problems=known(reference=["18", "18", "5", "5"]))
    with pytest.raises(ValueError, match=r"not among those given: p1 \(en\)"):
        read_pool(rows(), problems=known())


def test_whole_numbers_as_ids_sort_as_numbers():
    ids = read_pool(rows(problem_id=[2, 2, 10, 10])).problems["problem_id"].unique(maintain_order=True).to_list()
    assert ids == ["02", "10"]


def test_a_worked_solution_is_a_reference_by_what_follows_its_mark():
    table = rows(reference=["9 + 9 = 18\n#### 18"] * 2 + ["#### 3"] * 2)
    assert read_pool(table).problems["reference"].to_list() == ["18", "18", "3", "3"]


def test_problems_that_lack_a_language_are_refused_or_set_aside_with_their_number():
    table = rows().head(3)
    with pytest.raises(
        ValueError, match=r"1 of 2 problems have no candidate in some language: p2 \(sw\).*sw 1.*set_aside=True"
    ):
        read_pool(table)
    pool = read_pool(table, set_aside=True)
    assert set(pool.candidates["problem_id"]) == {"p1"}
    assert "Set aside: 1 problem without candidates in every language." in pool.notes
    assert len(read_pool(table, languages=["en"]).candidates) == 2


def test_problems_whose_reference_cannot_be_read_are_refused_or_set_aside_with_their_number():
    table = rows(reference=["18", "18", "(1 to 2)", "(1 to 2)"])
    with pytest.raises(ValueError, match=r"(?s)set_aside=True.*brackets.*p2 \(en\): '\(1 to 2\)'"):
        read_pool(table)
    notes = read_pool(table, set_aside=True).notes
    assert "Set aside: 1 problem whose reference is neither one number nor an expression." in notes


# -- bad input ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (
            {"reference": ["18", "19", "3", "3"]},
            r"references differ between rows of one problem: p1 \(en\) '18', p1 \(sw\) '19'",
        ),
        ({"problem_id": ["p1", None, "p2", "p2"]}, r"1 row without a problem_id, the first the table, row 2"),
        ({"language": ["en", None, "en", "sw"]}, r"1 row without a language, the first of problem p1"),
        ({"language": None}, r"no column of languages; name it .* or give the language of all rows with language='en'"),
        ({"language": ["Klingonese", "sw", "Klingonese", "sw"]}, r"unknown language 'Klingonese'"),
        (
            {"language": ["xx", "sw", "xx", "sw"]},
            r"unknown language 'xx'.*bestofl_lib/languages\.py",
        ),
        ({"completion": [1, 2, 3, 4]}, r"column 'completion' holds Int64, not text"),
        ({"completion": [None] * 4}, r"holds no completion|not text"),
        ({"n_tokens": ["many", "7", "8", "9"]}, r"the table, row 1: n_tokens many"),
        ({"n_tokens": [7, -5, 8, -9]}, r"the table, row 2: n_tokens -5; .*of 2 such rows.*columns=\{'n_tokens'"),
        ({"n_tokens": [7.0, 7.5, 8.0, 8.0]}, r"row 2: n_tokens 7\.5"),
        ({"n_tokens": ["9" * 5000, "7", "8", "9"]}, r"row 1: n_tokens 999"),
        ({"n_tokens": [2**40, 7, 8, 9]}, r"row 1: n_tokens 1099511627776"),
        ({"sample_index": [0, -1, 0, 0]}, r"row 2: sample_index -1"),
        ({"logprob": [-1.0, 3.0, -1.0, -1.0]}, r"row 2: logprob 3\.0"),
        ({"logprob": [-1.0, float("inf"), -1.0, -1.0]}, r"row 2: logprob inf"),
    ],
)
def test_a_pool_that_cannot_be_right_is_refused_with_its_rows(columns, message):
    with pytest.raises(ValueError, match=f"(?s){message}"):
        read_pool(rows(**columns))


def test_a_candidate_that_stands_twice_is_refused_by_its_key():
    table = pl.concat([rows(sample_index=[0, 0, 0, 0])] * 2)
    with pytest.raises(ValueError, match=r"8 rows with the same key.*problem_id 'p1', language 'en', sample_index 0"):
        read_pool(table)


def test_equal_completions_count_as_drawn_and_are_mentioned():
    pool = read_pool(pl.concat([rows(), rows()]))
    assert len(pool.candidates) == 8
    assert any("8 completions equal to another one" in note for note in pool.notes)


def test_null_completions_are_set_aside_and_counted_but_empty_ones_are_candidates():
    pool = read_pool(pl.concat([rows(completion=["", "b", "c", "d"]), rows(completion=[None, "b", "c", None])]))
    assert len(pool.candidates) == 6
    assert "Set aside: 2 rows without a completion (null)." in pool.notes
    assert pool.candidates["completion"].to_list().count("") == 1


def test_a_language_for_all_rows_is_given_only_where_the_pool_does_not_say():
    assert set(read_pool(rows(language=None).head(1), language="th").candidates["language"]) == {"th"}
    with pytest.raises(ValueError, match="the pool names its languages"):
        read_pool(rows(), language="en")
    with pytest.raises(ValueError, match="no completions in de; it has en, sw"):
        read_pool(rows(), languages=["en", "de"])


def test_markup_scripts_and_control_characters_stay_text():
    nasty = ["<script>alert(1)</script> 18", "\x1b[31m18 \u202e", "=HYPERLINK('x') 3", "</script>\x00 4"]
    assert read_pool(rows(completion=nasty)).candidates["completion"].to_list() == nasty


def test_completions_of_a_megabyte_survive_every_kind_of_file(tmp_path):
    long = ['x, "y"\n' * 150_000 + "18", "Jibu ni 18.", "3", "4"]
    for ending in ("parquet", "jsonl", "csv"):
        pool = read_pool(write(tmp_path / f"pool.{ending}", rows(completion=long)))
        assert pool.candidates["completion"].to_list() == long


def test_a_torn_last_line_loses_one_row_with_a_warning(tmp_path):
    path = write(tmp_path / "pool.jsonl", pl.concat([rows(), rows()]))
    path.write_text(path.read_text("utf8")[:-30], "utf8")
    with pytest.warns(FileWarning, match=r"its last line, 8, was cut short"):
        assert len(read_pool(path).candidates) == 7


def test_crlf_and_a_byte_order_mark_change_nothing(tmp_path):
    path = tmp_path / "pool.csv"
    path.write_bytes(b"\xef\xbb\xbf" + rows().write_csv().replace("\n", "\r\n").encode())
    assert read_pool(path).candidates.equals(read_pool(rows()).candidates)


def test_a_pool_that_is_not_there_or_no_pool_says_so(tmp_path):
    with pytest.raises(FileNotFoundError, match="no pool at nowhere"):
        read_pool("nowhere")
    with pytest.raises(ValueError, match=r"holds no \.eval"):
        read_pool(tmp_path)
    (tmp_path / "x.json").write_text('{"a": 1}')
    with pytest.raises(ValueError, match="expected a log of inspect_ai"):
        read_pool(tmp_path / "x.json")


# -- stored in a run ---------------------------------------------------------------------------------------------------


def test_a_stored_pool_reads_back_as_it_was_and_storing_it_again_adds_nothing(tmp_path):
    run, pool = Run("pool", tmp_path), read_pool(rows())
    assert (store_pool(run, pool), store_pool(run, pool)) == (4, 0)
    assert Store(run.folder / "candidates").candidates().equals(pool.candidates.sort(*KEY))
    assert run.read("problems").equals(pool.problems)


def store_rewards(run: Run) -> pl.DataFrame:
    key = run.candidates().select(*KEY)
    return run.write("rewards", key.with_columns(reward_model=pl.lit("mine"), reward=pl.lit(1.0)))


def test_a_second_pool_is_refused_by_hand_and_replaces_the_first_in_a_study_without_mixing(tmp_path, monkeypatch):
    run, table = Run("pool", tmp_path), pl.concat([rows().with_columns(model=pl.lit(m)) for m in ("a", "b")])
    store_pool(run, read_pool(table, model="a"))
    rewards = store_rewards(run)
    with pytest.raises(ValueError, match="run 'pool' already holds other candidates.*run = 'pool-2'"):
        store_pool(run, read_pool(table, model="b", languages=["en"]))
    assert run.read("rewards").equals(rewards) and set(run.candidates()["model"]) == {"a"}
    monkeypatch.setenv(UNDER_STUDY, "1")
    store_pool(run, read_pool(table, model="b", languages=["en"]))
    assert not run.has("rewards")  # of the first pool: they would rank candidates that they never saw
    stored = Store(run.folder / "candidates").candidates()
    assert stored.select("model", "language").unique().rows() == [("b", "en")]


# -- logs that the real tools wrote ------------------------------------------------------------------------------------


def test_inspect_logs_of_both_formats_make_one_pool():
    pool = read_pool([FILES / "inspect_en.eval", FILES / "inspect_te.json"])
    assert pool.problems.group_by("language").len().sort("language").rows() == [("en", 3), ("te", 3)]
    assert pool.problems["problem_id"].unique().sort().to_list() == [f"lab-test-{n:04d}" for n in range(3)]
    lab = load("lab", ["en", "te"], "test").join(pool.problems, on=["problem_id", "language"], how="semi")
    assert pool.problems.select("question", "reference").equals(lab.select("question", "reference"))
    assert pool.candidates["sample_index"].to_list() == [0, 1] * 6  # two epochs
    assert set(pool.candidates["model"]) == {"hf/policy"}
    assert pool.candidates["n_tokens"].min() > 0
    assert pool.candidates["completion"].str.len_chars().min() > 0


def test_an_inspect_log_gives_reasoning_probabilities_choices_and_failures():
    rows = inspect_rows(FILES / "inspect_mock.eval")
    assert [row["problem_id"] for row in rows] == ["1", "2", "3", "3", "4"]  # de-1 and fr-1 would be one problem
    assert {row["language"] for row in rows} == {"de"} and {row["condition"] for row in rows} == {"mock"}
    assert rows[0]["completion"].startswith("<think>\n9 plus 9") and rows[0]["completion"].endswith(
        "Die Antwort lautet 18."
    )
    assert rows[0]["logprob"] == -0.75 and rows[0]["n_tokens"] == 7
    assert rows[1]["finish_reason"] == "max_tokens"
    assert [row["sample_index"] for row in rows[2:4]] == [0, 1]
    assert rows[4]["completion"] is None  # the sample failed
    pool = read_pool(FILES / "inspect_mock.eval")
    assert "Set aside: 1 row without a completion (null)." in pool.notes


def test_parquet_that_makes_its_reader_panic_is_refused_by_name(tmp_path, monkeypatch):
    path = write(tmp_path / "pool.parquet", rows())

    def panic(*args):  # as Polars does where an altered byte is a length
        raise pl.exceptions.PanicException("assertion failed: offset + length <= self.length")

    monkeypatch.setattr(pl, "read_parquet", panic)
    with pytest.raises(ValueError, match=r"pool\.parquet is damaged"):
        read_pool(path)


def test_a_damaged_inspect_log_is_refused_by_name(tmp_path):
    whole = (FILES / "inspect_en.eval").read_bytes()
    (tmp_path / "cut.eval").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ValueError, match=r"cut\.eval is not a complete log of inspect_ai"):
        read_pool(tmp_path / "cut.eval")
    with zipfile.ZipFile(FILES / "inspect_en.eval") as archive:
        entry = next(i for i in archive.infolist() if i.filename.startswith("samples/"))
    at = entry.header_offset + 30 + len(entry.filename) + entry.compress_size // 2
    (tmp_path / "flip.eval").write_bytes(whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :])
    with pytest.raises(ValueError, match=r"flip\.eval: samples/.* is damaged"):
        read_pool(tmp_path / "flip.eval")
    with zipfile.ZipFile(tmp_path / "other.eval", "w") as archive:
        archive.writestr("a.txt", "x")
    with pytest.raises(ValueError, match="not a log of inspect_ai"):
        read_pool(tmp_path / "other.eval")


def test_lm_eval_samples_give_each_repeat_once_however_many_filters_there_are():
    pool = read_pool(FILES / "lm_eval")
    assert pool.problems.select("problem_id", "language").rows() == [
        (str(n), c) for n in range(3) for c in ("en", "te")
    ]
    assert pool.candidates["sample_index"].to_list() == [0, 1] * 6  # two repeats, two filters
    assert set(pool.candidates["model"]) == {"data/lab/policy"} and set(pool.candidates["condition"]) == {"lab"}
    first = load("lab", ["te"], "test", limit=1)
    assert pool.problems.filter(problem_id="0", language="te")["question"].item() == first["question"].item()
    with_known = read_pool(FILES / "lm_eval", problems=load("lab", ["en", "te"], "test"))
    assert with_known.problems["problem_id"][0] == "lab-test-0000"


def test_the_model_of_lm_eval_samples_is_known_by_their_folder_too(tmp_path):
    folder = tmp_path / "Qwen__Qwen2.5-7B"
    shutil.copytree(FILES / "lm_eval/data__lab__policy", folder, ignore=shutil.ignore_patterns("results*"))
    assert set(read_pool(folder).candidates["model"]) == {"Qwen/Qwen2.5-7B"}


def test_lm_eval_samples_of_likelihoods_are_refused(tmp_path):
    line = {"doc_id": 0, "doc": {}, "target": "1", "resps": [[[-1.0, False]]]}
    (tmp_path / "samples_arc_de_2026-01-01T00-00-00.0.jsonl").write_text(json.dumps(line) + "\n")
    with pytest.raises(ValueError, match="document 0 has likelihoods, not completions"):
        read_pool(tmp_path)


@pytest.mark.parametrize("name", ["best_of_n_completions.jsonl", "best_of_n_completions.parquet"])
def test_a_list_of_completions_per_row_becomes_one_candidate_each(name):
    pool = read_pool(FILES / name, language="en", columns={"reward": "scores"})
    assert pool.candidates["sample_index"].to_list() == [0, 1] * 3
    assert pool.candidates["n_tokens"].null_count() == 0
    assert pool.problems["question"][0].startswith("A rectangular floor")
    assert pool.problems["problem_id"][0] == "lab-test-0000"
    scores = pl.read_parquet(FILES / "best_of_n_completions.parquet")["scores"][0]
    assert pool.rewards["reward"].to_list()[:2] == [steps[-1] for steps in scores]


def test_problems_of_one_language_without_ids_are_known_by_their_question():
    table = pl.read_parquet(FILES / "best_of_n_completions.parquet").drop("unique_id")
    pool = read_pool(table, language="en")
    assert pool.candidates["problem_id"].n_unique() == 3
    assert pool.candidates["problem_id"].str.starts_with("question-").all()


def test_lists_of_different_lengths_are_refused():
    table = pl.DataFrame({"id": ["a"], "answer": ["1"], "completions": [["x", "y"]], "completion_tokens": [[1]]})
    with pytest.raises(ValueError, match="lists of 'completion_tokens' and 'completions' differ in length"):
        read_pool(table, language="en")


# -- a real pool -------------------------------------------------------------------------------------------------------


def test_the_s1_pool_is_recognised_by_itself():
    pool = read_pool(S1, model="32B")
    assert len(pool.candidates) == 530 and pool.candidates["language"].n_unique() == 11
    counts = dict(pool.candidates.filter(problem_id="0").group_by("language").len().iter_rows())
    assert counts == dict.fromkeys(sorted(counts), 5) | {"te": 3}
    assert pool.candidates["finish_reason"].null_count() == 530  # the pool does not say what ended a completion
    reasoning = read_pool(S1, model="32B", axis="thinking").candidates
    assert len(reasoning.filter(problem_id="0", language="en")) == 15


def test_the_s1_pool_joins_the_questions_of_mgsm():
    asked = load("mgsm", folder=DATA / "mgsm", revised=DATA / "mgsm_rev2_replaced.json")
    pool = read_pool(S1, model="7B", problems=asked, limit=10)
    assert pool.problems["problem_id"].unique().sort().to_list() == [f"mgsm-{n:03d}" for n in range(1, 11)]
    assert pool.problems["is_revised"].null_count() == 0
    with pytest.raises(ValueError, match="[0-9] of 3 problems have no candidate in some language"):
        read_pool(S1, model="3B")


def test_pools_in_korean_arabic_and_a_language_without_a_record_of_its_own_are_imported_and_read():
    table = pl.DataFrame(
        {
            "problem_id": ["p1", "p1", "p1"],
            "language": ["ko", "ar", "yo"],
            "completion": ["따라서 답은 5,600입니다.", "الإجابة هي ٥٬٦٠٠.", "Answer: 5,600"],
            "reference": ["5600", "5600", "5600"],
            "question": ["얼마입니까?", "كم؟", "Elo ni?"],
        }
    )
    pool = read_pool(table)
    read = read_answers(pool.candidates, pool.problems)
    assert read["answer"].to_list() == ["5600"] * 3 and read["is_correct"].all()


# -- rewards that come with a pool --------------------------------------------------------------------------------------


def test_each_given_reward_is_a_reward_model_named_after_its_column_unless_it_has_a_name():
    table = rows(score=[0.1, 0.2, 0.3, 0.4], prm=[[0.5, 0.2], [0.3], [0.9, 1.0], [0.4, 0.1]])
    given = read_pool(table, rewards=["score", "worst=prm:min", "prm:product"]).rewards
    by_model = {name: part["reward"].to_list() for (name,), part in given.group_by("reward_model")}
    assert by_model["score"] == [0.1, 0.2, 0.3, 0.4]
    assert by_model["worst"] == [0.2, 0.3, 0.9, 0.1]
    assert by_model["prm"] == pytest.approx([0.1, 0.3, 0.9, 0.04])
    assert set(read_pool(table, columns=["reward:score"]).rewards["reward_model"]) == {"score"}


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        (["scroe"], r"no column 'scroe' .*did you mean 'score'"),
        (["score", "score"], "named score more than once"),
        (["score:best"], "no column 'score:best'.*last, min, mean, max, sum, product"),
        (["text"], r"the table, row 1: reward:text good"),
        (["empty"], "not a finite number in any row"),
    ],
)
def test_a_given_reward_that_cannot_be_is_refused(rewards, message):
    table = rows_with_rewards()
    with pytest.raises(ValueError, match=f"(?s){message}"):
        read_pool(table, rewards=rewards)


def rows_with_rewards() -> pl.DataFrame:
    empty = pl.Series([None, float("nan"), float("inf"), None], dtype=pl.Float64)
    return rows(score=[0.1, 0.2, 0.3, 0.4], text=["good"] * 4, empty=empty)


def test_rewards_that_are_no_finite_number_are_set_aside_and_counted():
    pool = read_pool(rows(rm=[0.1, float("nan"), float("inf"), 0.4]), rewards=["rm"])
    assert pool.rewards["reward"].to_list() == [0.1, None, None, 0.4]
    assert any("2 are no finite number" in note for note in pool.notes)


def test_a_pool_without_rewards_takes_the_place_of_one_with_rewards_and_leaves_none(tmp_path, monkeypatch):
    run = Run("pool", tmp_path)
    store_pool(run, read_pool(rows(rm=[0.1, 0.2, 0.3, 0.4]), rewards=["rm"]))
    assert set(run.given_rewards()["reward_model"]) == {"rm"}
    monkeypatch.setenv(UNDER_STUDY, "1")
    store_pool(run, read_pool(rows(completion=["a", "b", "c", "d"])))
    assert run.given_rewards().is_empty() and run.rewards().is_empty()
