"""The data behind the report's atlas: what it holds, what it leaves out, and that it says so."""

from __future__ import annotations

import base64
import gzip
import json
import re

import polars as pl
import pytest
from made_up_runs import write_run

from bestofl_lib.analysis import run_scan
from bestofl_lib.display import embed
from bestofl_lib.display.report import atlas

LANGUAGES = ("en", "sw", "th")
TEXT = {
    ("lab-test-0000", "en", 0): "x" * 5000 + " The answer is 12,345. " + "y" * 3000,
    ("lab-test-0000", "sw", 1): "a\x1bb</script><b>",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs"), n_problems=12, n=4, languages=LANGUAGES, texts=TEXT)


@pytest.fixture(scope="module")
def data(run):
    return atlas.atlas_data(run)


def candidate(data, problem, language, index):
    place = [found["code"] for found in data["languages"]].index(language)
    rows = data["problems"][data["ids"].index(problem)]["candidates"][place]
    return next(row for row in rows if row[0] == index)


def text_of(row, read=False):
    """What is shown of a candidate, or of its answer's place."""
    return "".join(piece["text"] for piece in row[1] if "cut" not in piece and (piece.get("read") or not read))


def test_maths_travels_typeset_and_the_page_parses_no_latex(run, data):
    text = r"Half is $\frac{1}{2}$ of it. #### 7"
    pieces = atlas._around(text, text.index("7"), text.index("7") + 1, 4_000)
    assert any(piece.get("math") for piece in pieces) and pieces[-1] == {"text": "7", "read": True}
    assert "frac" not in embed.asset("atlas.js") + embed.asset("common.js")


def shown(data):
    """Language codes in the order of the atlas."""
    return [language["code"] for language in data["languages"]]


def test_its_languages_stand_in_the_order_of_their_accuracy(run, data):
    accuracy = (
        run.read("readings").group_by("language").agg(pl.col("is_correct").mean()).sort("is_correct", descending=True)
    )
    assert shown(data) == accuracy["language"].to_list()


def test_its_counts_are_the_counts_of_the_readings(run, data):
    readings = run.read("readings")
    for y, code in enumerate(shown(data)):
        for x, problem in enumerate(data["ids"]):
            cell = readings.filter((pl.col("problem_id") == problem) & (pl.col("language") == code))
            assert data["n"][y][x] == len(cell) and data["correct"][y][x] == cell["is_correct"].sum()
            assert data["unread"][y][x] == cell["answer"].is_null().sum()


def test_it_orders_problems_as_the_explorer_does(run, data):
    source = run_scan.open_run(run)
    facts = run_scan.describe_problems(source.cells, run_scan.count_mistakes(source, "cross"))
    for name in data["sorts"]:
        assert [data["ids"][place] for place in data["orders"][name]] == run_scan.choose_problems(facts, name)


def test_the_span_that_was_read_stands_apart(run, data):
    for row in run.read("readings").filter(pl.col("answer").is_not_null()).head(20).iter_rows(named=True):
        found = candidate(data, row["problem_id"], row["language"], row["sample_index"])
        assert found[2] == row["answer"] and len(text_of(found, read=True)) == row["end"] - row["start"]


def test_a_long_completion_is_cut_around_its_answer_and_the_page_says_so(data):
    row = candidate(data, "lab-test-0000", "en", 0)
    cuts = [piece["cut"] for piece in row[1] if "cut" in piece]
    assert len(cuts) == 2 and "12,345" in text_of(row, read=True) and len(text_of(row)) == 4_000
    assert sum(cuts) + 4_000 == len(TEXT["lab-test-0000", "en", 0])
    assert any("1 completions of more than 4,000 characters are cut" in sentence for sentence in data["capped"])
    assert "Not everything is on this page" in atlas.atlas_body(data)


def test_control_characters_are_shown_as_symbols(data):
    row = candidate(data, "lab-test-0000", "sw", 1)
    assert "a␛b" in text_of(row)


def test_the_best_rewarded_of_all_candidates_is_named(run, data):
    rewards = run.read("rewards").filter((pl.col("reward_model") == "cross") & (pl.col("problem_id") == data["ids"][3]))
    top = rewards.sort("reward", descending=True).row(0, named=True)
    winner = next(row for row in data["problems"][3]["winners"] if row[0] == "cross")
    assert (shown(data)[winner[1]], winner[2]) == (top["language"], top["sample_index"])
    assert data["models"] == ["cross", "multi", "mono"], "single languages' models stand together"


def test_votes_count_every_candidate(data):
    for x, problem in enumerate(data["problems"]):
        assert sum(vote[1] for vote in problem["votes"]) == sum(row[x] for row in data["n"])


def test_what_does_not_fit_is_left_out_and_counted(run, data):
    whole = len(atlas.pack(data))
    small = atlas.atlas_data(run, largest=whole // 2)
    held = sum(len(cell) for problem in small["problems"] for cell in problem["candidates"] or [])
    assert len(atlas.pack(small)) <= whole // 2 and held < 12 * 3 * 4
    assert any(f"{held} of 144 candidates are embedded" in sentence for sentence in small["capped"])
    assert small["n"] == data["n"], "counts are over all candidates, embedded or not"


def test_too_little_room_is_an_error_that_says_so(run):
    with pytest.raises(ValueError, match="does not fit into 100 bytes"):
        atlas.atlas_data(run, largest=100)


def test_packed_data_is_letters_and_digits_and_the_same_every_time(data):
    packed = atlas.pack(data)
    assert re.fullmatch(r"[A-Za-z0-9+/=]+", packed) and packed == atlas.pack(data)
    assert json.loads(gzip.decompress(base64.b64decode(packed)))["ids"] == data["ids"]


def test_without_fresh_rewards_nothing_is_said_of_rewards(run):
    data = atlas.atlas_data(run, with_rewards=False)
    assert (
        data["models"] == []
        and "mistake" not in data["sorts"]
        and all(not problem["winners"] for problem in data["problems"])
    )


def test_a_run_without_readings_has_no_atlas(tmp_path):
    from bestofl_lib.runs import Run

    assert atlas.atlas_data(Run("empty", tmp_path)) is None


@pytest.fixture(scope="module")
def failing(tmp_path_factory):
    """A run in which one text is drawn three times, one has no answer and one a false sum."""
    texts = {
        **{("lab-test-0000", "en", i): "3 + 3 = 6. The answer is 6." for i in (0, 2, 3)},
        ("lab-test-0001", "en", 0): "I do not know.",
        ("lab-test-0002", "sw", 1): "3 + 3 = 999. The answer is 999.",
    }
    return write_run(tmp_path_factory.mktemp("failing"), n_problems=4, n=4, languages=LANGUAGES, texts=texts)


@pytest.mark.slow
def test_equal_completions_are_folded_and_failures_of_one_kind_are_shown_together(opened_alone, failing):
    data = atlas.atlas_data(failing)
    page, _, said = opened_alone(atlas.atlas_body(data), "atlas.js")
    page.select_option(".atlas select >> nth=1", label="lab-test-0000")
    english = page.locator(".board .column").first
    same = [row for row in data["problems"][data["ids"].index("lab-test-0000")]["candidates"][0] if row[2] == "6"]
    assert len(same) == 3 and english.locator(".card").count() == 2
    assert "the same text 3 times" in english.inner_text()

    unread = sum(
        row[2] is None and row[9] != "length" for p in data["problems"] for cell in p["candidates"] for row in cell
    )
    page.select_option("[aria-label=failures]", "unread")
    assert unread and f"{unread} wrong candidate" in page.inner_text(".atlas")
    assert set(page.locator(".board .card .top .icon").all_inner_texts()) == {"∅ unread"}
    page.select_option("[aria-label='failures in']", label="English")
    assert page.locator(".board .card").count() == 1 and "other texts hidden" in page.inner_text(".board")
    page.select_option("[aria-label=failures]", "")
    page.select_option(".atlas select >> nth=1", label="lab-test-0002")
    page.locator(".board .card", has_text="999").locator("button", has_text="failures like this").click()
    assert page.input_value("[aria-label=failures]") == "sums" and page.input_value("[aria-label='failures in']") == "1"
    assert not said


@pytest.mark.slow
def test_levels_filter_problems_and_answers_are_typeset_on_every_card(opened_alone, tmp_path):
    """Levels as PolyMath has them; problem 0 has a root as its answer."""
    run = write_run(tmp_path, n_problems=4, n=2, languages=LANGUAGES)
    root, number = r"\frac{\sqrt{3}}{2}", pl.col("problem_id").str.slice(-1).cast(pl.Int64)
    level = number.replace_strict({0: "low", 1: "low", 2: "medium", 3: "top"})
    run.write("problems", run.read("problems").with_columns(level=level))
    expression = pl.when(number == 0).then(pl.lit(root)).otherwise("answer")
    run.write("readings", run.read("readings").with_columns(answer=expression))
    data = atlas.atlas_data(run)
    assert data["levels"] == ["low", "medium", "top"] and [one["level"] for one in data["problems"]].count("low") == 2
    page, _, said = opened_alone(atlas.atlas_body(data), "atlas.js")
    page.select_option(".atlas select >> nth=1", label="lab-test-0000")
    assert "level low" in page.inner_text(".problem header")
    for place in (".board .card .top .answer", ".facts table:last-of-type td"):
        assert page.locator(f"{place} msqrt").count() >= 1, place
    page.select_option("[aria-label=level]", "medium")
    assert "1 of 4 problems" in page.inner_text(".atlas .bar >> nth=0")
    assert page.locator(".atlas select >> nth=1").locator("option").all_inner_texts()[1:] == ["lab-test-0002"]
    assert not said


def test_a_set_without_levels_has_no_choice_of_them(data):
    assert data["levels"] == [] and {one["level"] for one in data["problems"]} == {None}
