"""Several processes draw one run: disjoint shares that merge by being in one folder, and no two writers of one share."""

from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_up_samplers import SeedWriter, problems

from bestofl_lib.candidates.sampling import generate
from bestofl_lib.candidates.store import Store
from bestofl_lib.candidates.writers import Share


def draw(folder, share=None, **kwargs):
    sampler = SeedWriter()
    table = generate(problems(12), Store(folder, share), sampler, 3, progress=False, **kwargs)
    return table, sampler


@given(st.text(max_size=20), st.sampled_from(["en", "sw", "zh"]), st.integers(1, 40))
def test_each_question_is_in_exactly_one_share(problem_id, language, of):
    assert sum(Share(number, of).takes(problem_id, language) for number in range(1, of + 1)) == 1


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/2", "1/2/3"])
def test_a_share_that_cannot_be_is_refused_with_an_example(text):
    with pytest.raises(ValueError, match=rf"{text}.*1/4"):
        Share.parse(text)


def test_no_text_stands_for_everything():
    assert Share.parse("") is None


def test_shares_drawn_one_by_one_give_the_candidates_of_one_draw(tmp_path):
    asked = []
    for number in (3, 1, 2):
        table, sampler = draw(tmp_path / "shared", Share(number, 3))
        asked.append(set(sampler.asked))
        assert 0 < len(sampler.asked) < 72
    assert not (asked[0] & asked[1] | asked[0] & asked[2] | asked[1] & asked[2])
    whole, _ = draw(tmp_path / "whole")
    assert table.equals(whole)
    merged, sampler = draw(tmp_path / "shared")
    assert merged.equals(whole) and sampler.asked == []


def test_a_share_returns_what_is_there_and_reading_the_run_says_how_much_is_missing(tmp_path):
    table, sampler = draw(tmp_path, Share(1, 2))
    assert len(table) == len(sampler.asked)
    with pytest.raises(ValueError, match=rf"{len(table)} of the 72 candidates"):
        Store(tmp_path).candidates()


@pytest.mark.parametrize(
    ("first", "second", "who"),
    [
        (Share(1, 2), Share(1, 2), r"shard 1/2 of .*process \d+"),
        (Share(1, 2), Share(1, 3), r"shard 1/3 cannot .* while shard 1/2 .*process \d+"),
        (Share(1, 2), None, r"everything cannot .* while shard 1/2 .*process \d+"),
        (None, Share(1, 2), r"is being written by process \d+"),
    ],
)
def test_two_writers_of_one_candidate_are_refused(tmp_path, monkeypatch, first, second, who):
    monkeypatch.setattr("bestofl_lib.candidates.writers._GATE_SECONDS", 0.2)
    with (
        Store(tmp_path, first).writing(),
        pytest.raises(RuntimeError, match=who),
        Store(tmp_path, second).writing(),
    ):
        pass
    with Store(tmp_path, second).writing():
        pass


def test_writers_of_different_shares_write_at_once_and_neither_sweeps_the_others_files(tmp_path):
    tmp_path.mkdir(exist_ok=True)
    with Store(tmp_path, Share(1, 2)).writing():
        unfinished = tmp_path / ".000000.parquet.x.part"
        unfinished.write_bytes(b"")
        with Store(tmp_path, Share(2, 2)).writing():
            assert unfinished.exists()
    with Store(tmp_path).writing():
        assert not unfinished.exists()


def test_what_samplers_say_of_their_calls_is_kept_in_order_and_a_torn_last_line_is_left_out(tmp_path):
    for number, share in enumerate((Share(1, 2), Share(2, 2), None)):
        store = Store(tmp_path, share)
        with store.writing():
            store.note({"faults": {"HTTP 503": number}})
    with open(tmp_path / "drawn.jsonl", "a") as file:
        file.write('{"at": "2026')
    assert sorted(note["faults"]["HTTP 503"] for note in Store(tmp_path).notes()) == [0, 1, 2]


def test_token_ids_are_kept_beside_the_candidates(tmp_path):
    row = {
        "problem_id": "p",
        "language": "en",
        "sample_index": 0,
        "draw": "d",
        "model": "m",
        "completion": "7",
        "n_tokens": 2,
    }
    store = Store(tmp_path)
    with store.writing():
        store.ask(pl.DataFrame({"problem_id": ["p"], "language": ["en"], "draw": ["d"], "n": [2]}))
        store.add(row | {"token_ids": (5, 1), "token_logprobs": (-0.5, -0.25)})
        store.add(row | {"sample_index": 1})
    assert len(store.candidates()) == 2
    tokens = store.tokens()
    assert tokens["token_ids"].to_list() == [[5, 1]] and tokens["token_logprobs"].to_list() == [[-0.5, -0.25]]
