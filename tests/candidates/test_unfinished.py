"""An interrupt loses nothing of what was being written: rows are continued from their tokens, each in its own stream."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from bestofl_lib.candidates.sampling import generate
from bestofl_lib.candidates.store import Store
from bestofl_lib.candidates.unfinished import UnfinishedRows, UnfinishedWarning
from bestofl_lib.models.contract import Completion, Sampling, Unfinished
from bestofl_lib.progress import PROGRESS_FILE, read_snapshot

SETTINGS = Sampling(max_new_tokens=60)


def count_unfinished(folder: Path) -> int:
    rows = UnfinishedRows(folder)
    rows.load()
    return len(rows)


def problems(count: int = 4) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "problem_id": f"p{i}", "language": code, "split": "test", "question": f"How much is {i}? ({code})",
            "reference": str(i), "is_revised": False,
        }
        for i in range(count)
        for code in ("en", "sw")
    )  # fmt: skip


def draw(store: Store, sampler: object) -> pl.DataFrame:
    return generate(problems(), store, sampler, 3, SETTINGS, progress=False)  # type: ignore[arg-type]


class Interrupted:
    """Passes on what another sampler writes, and stops it where something is handed over for the nth time."""

    def __init__(self, sampler, after: int):
        self.sampler, self.after = sampler, after
        self.name, self.identity = sampler.name, sampler.identity
        self.begun: dict[tuple, int] = {}

    def sample(self, requests, settings):
        self.begun = {(r.problem_id, r.language, r.sample_index): len(r.begun.tokens) for r in requests if r.begun}
        for request, found in self.sampler.sample(requests, settings):
            yield request, found
            self.after -= isinstance(found, Unfinished)
            if self.after <= 0:
                raise KeyboardInterrupt


@pytest.fixture
def sampler(tiny_policy, monkeypatch):
    pytest.importorskip("transformers")
    from bestofl_lib.candidates.transformers_sampler import TransformersSampler
    from bestofl_lib.models import decoding

    monkeypatch.setattr(decoding, "_HAND_OVER_SECONDS", 0.0)
    return TransformersSampler(tiny_policy, device="cpu", batch_rows=16)


def test_rows_in_flight_are_continued_exactly_after_an_interrupt(sampler, tmp_path):
    undisturbed = draw(Store(tmp_path / "whole"), sampler)
    store, continued = Store(tmp_path / "cut"), 0
    for after in (40, 100, 100):
        stopped = Interrupted(sampler, after)
        with pytest.raises(KeyboardInterrupt):
            draw(store, stopped)
        continued += sum(n > 0 for n in stopped.begun.values())
    last = Interrupted(sampler, 10**9)
    assert count_unfinished(store.folder) > 0
    table = draw(store, last)
    assert continued + len(last.begun) > 10
    assert table.drop("seconds", "logprob").equals(undisturbed.drop("seconds", "logprob"))
    assert (table["logprob"] - undisturbed["logprob"]).abs().max() < 1e-3  # type: ignore[operator]
    assert (table["seconds"] > 0).all()
    assert count_unfinished(store.folder) == 0


class Slow:
    """Hands over one token more at each call and ends at the third."""

    name, identity = "slow", "slow@1"

    def sample(self, requests, settings):
        for request in requests:
            tokens = (*(request.begun.tokens if request.begun else ()), 7)
            if len(tokens) < 3:
                yield request, Unfinished(tokens, -0.5 * len(tokens), 0.1)
            else:
                yield request, Completion("done", 3, "stop", -1.5, 0.3)
        if len(tokens) < 3:
            raise KeyboardInterrupt


def test_tokens_of_unfinished_rows_count_once_and_those_of_an_earlier_call_not_at_all(tmp_path, monkeypatch):
    monkeypatch.setenv(PROGRESS_FILE, str(tmp_path / "p.json"))
    for unfinished in (24, 48):
        with pytest.raises(KeyboardInterrupt):
            draw(Store(tmp_path / "store"), Slow())
        note = read_snapshot(tmp_path / "p.json")
        assert (note.done, note.tokens, note.unfinished_tokens, note.most_tokens) == (0, 24, unfinished, 60)
    draw(Store(tmp_path / "store"), Slow())
    note = read_snapshot(tmp_path / "p.json")
    assert (note.done, note.tokens, note.unfinished_tokens) == (24, 24, 0)


def test_any_sampler_may_hand_over_and_gets_it_back(tmp_path):
    store = Store(tmp_path)
    for expected in (24, 24):
        with pytest.raises(KeyboardInterrupt):
            draw(store, Slow())
        assert count_unfinished(tmp_path) == expected
    assert set(draw(store, Slow())["completion"]) == {"done"}
    assert count_unfinished(tmp_path) == 0


def test_a_damaged_table_of_unfinished_rows_is_said_and_begun_anew(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        draw(Store(tmp_path), Slow())
    (path,) = (tmp_path / "unfinished").glob("*.parquet")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))
    with pytest.warns(UnfinishedWarning, match=r"damaged.*again from the start"), pytest.raises(KeyboardInterrupt):
        draw(Store(tmp_path), Slow())
    assert count_unfinished(tmp_path) == 24
