"""What a store survives: kills, damage, a second writer, a full disk, odd text."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from bestofl_lib.candidates.store import Store, StoreWarning
from bestofl_lib.tables import SCHEMAS
from bestofl_lib.text import content_digest

ROOT = Path(__file__).resolve().parents[2]


def row(index: int, **changes: object) -> dict[str, object]:
    return {
        "problem_id": "p1", "language": "en", "sample_index": index, "draw": "d1", "model": "m", "completion": f"text {index}",
        "n_tokens": 3, "finish_reason": "stop", "logprob": -1.5, "seed": index, "seconds": 0.1,
    } | changes  # fmt: skip


def fill(store: Store, *shards: list[dict[str, object]], n: int = 10, draw: str = "d1") -> None:
    with store.writing():
        store.ask(pl.DataFrame({"problem_id": ["p1"], "language": ["en"], "draw": [draw], "n": [n]}))
        for rows in shards:
            for item in rows:
                store.add(item)
            store.flush()


def test_what_was_added_comes_back_sorted_and_typed(tmp_path):
    store = Store(tmp_path / "c")
    fill(store, [row(1)], [row(0)], n=2)
    table = store.candidates()
    assert table.schema == SCHEMAS["candidates"]
    assert table["sample_index"].to_list() == [0, 1]
    assert len(store.shards()) == 2


def test_only_the_draw_asked_for_is_returned_and_the_other_is_kept(tmp_path):
    store = Store(tmp_path / "c")
    fill(store, [row(0), row(1)], n=2)
    fill(store, [row(0, draw="d2", completion="new")], n=1, draw="d2")
    assert store.candidates()["completion"].to_list() == ["new"]
    fill(store, n=1)
    assert store.candidates()["completion"].to_list() == ["text 0"]


def test_a_store_read_in_parts_is_the_same_table(tmp_path, monkeypatch):
    monkeypatch.setattr("bestofl_lib.candidates.store.PART", 5)
    store = Store(tmp_path / "c")
    rows = [row(i, problem_id=f"p{p}", completion=f"{p} {i}") for i in range(3) for p in (3, 1, 2, 0)]
    with store.writing():
        for shard in (rows[:5], rows[5:], rows[:2]):
            for one in shard:
                store.add(one)
            store.flush()
        asked = {"problem_id": [f"p{p}" for p in range(4)], "language": ["en"] * 4, "draw": ["d1"] * 4}
        store.ask(pl.DataFrame(asked | {"n": [3, 2, 3, 3]}))
    parts = store.parts()
    assert [part["problem_id"].unique().sort().to_list() for part in parts] == [["p0", "p1"], ["p2"], ["p3"]]
    assert pl.concat(parts).equals(store.candidates())
    some = pl.concat(store.parts(["n_tokens", pl.col("completion").str.len_chars().alias("size")], ["p1", "p3"]))
    assert some.columns == ["problem_id", "language", "sample_index", "n_tokens", "size"] and some.height == 5
    assert pl.concat(store.parts(problems=[])).is_empty()
    with store.writing():
        store.ask(pl.DataFrame(asked | {"n": [3, 2, 4, 3]}))
    with pytest.raises(ValueError, match="holds 3 of the 4"):
        pl.concat(store.parts())


def test_an_interrupted_run_is_not_read_as_a_whole_one(tmp_path):
    store = Store(tmp_path / "c")
    fill(store, [row(0)], n=3)
    with pytest.raises(ValueError, match=r"holds 1 of the 3 candidates .* run 01_generate_candidates again"):
        store.candidates()
    assert len(store.candidates(partial=True)) == 1


def test_an_empty_folder_says_which_notebook_fills_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="run 01_generate_candidates first"):
        Store(tmp_path / "nothing").candidates()


def test_a_candidate_stored_twice_counts_once_and_a_good_one_beats_a_failed_one(tmp_path):
    store = Store(tmp_path / "c")
    fill(store, [row(0, finish_reason="error", completion="")], [row(0)], [row(0, completion="later")], n=1)
    assert store.candidates()["completion"].to_list() == ["text 0"]


@pytest.mark.parametrize("cut", [0, 1, 4, 100, -1])
def test_a_truncated_shard_is_named_and_set_aside(tmp_path, cut):
    store = Store(tmp_path / "c")
    fill(store, [row(0)], [row(1)], n=2)
    victim = store.shards()[0]
    victim.write_bytes(victim.read_bytes()[:cut])
    with pytest.raises(ValueError, match=victim.name):
        store.candidates()
    with store.writing(), pytest.warns(StoreWarning, match=victim.name):
        assert store.held()["sample_index"].to_list() == [1]
    assert (store.folder / "set_aside" / victim.name).exists()
    assert store.candidates(partial=True)["sample_index"].to_list() == [1]


def test_every_flipped_bit_is_noticed(tmp_path):
    store = Store(tmp_path / "c")
    fill(store, [row(i) for i in range(20)], n=20)
    victim = store.shards()[0]
    data = victim.read_bytes()
    for position in range(0, len(data), max(1, len(data) // 40)):
        victim.write_bytes(data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
        with pytest.raises(ValueError, match="does not match its digest"):
            store.candidates()


def test_a_foreign_parquet_file_is_set_aside(tmp_path):
    store = Store(tmp_path / "c")
    fill(store, [row(0)], n=1)
    pl.DataFrame({"a": [1]}).write_parquet(store.folder / "mine.parquet")
    with store.writing(), pytest.warns(StoreWarning, match=r"mine\.parquet is not a shard"):
        store.held()
    assert len(store.candidates()) == 1


def test_a_shard_of_another_version_is_an_error_that_keeps_it(tmp_path):
    import io

    store = Store(tmp_path / "c")
    fill(store, n=1)
    buffer = io.BytesIO()
    pl.DataFrame({"problem_id": ["p1"]}).write_parquet(buffer)
    name = f"000000-{content_digest(buffer.getvalue())}.parquet"
    (store.folder / name).write_bytes(buffer.getvalue())
    with store.writing(), pytest.raises(ValueError, match="another version"):
        store.held()
    assert (store.folder / name).exists()


def test_leftover_temporary_files_are_swept(tmp_path):
    store = Store(tmp_path / "c")
    fill(store, [row(0)], n=1)
    leftover = store.folder / ".000001-aa.parquet.x1.part"
    leftover.write_bytes(b"half")
    fill(store, n=1)
    assert not leftover.exists()
    assert len(store.candidates()) == 1


HOLD = """
import sys, time
from bestofl_lib.candidates.store import Store
with Store(sys.argv[1]).writing():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_writer_is_told_who_writes_and_a_killed_one_leaves_no_lock(tmp_path):
    store = Store(tmp_path / "c")
    child = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(store.folder)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    try:
        assert child.stdout is not None and child.stdout.readline() == "held\n"
        with (
            pytest.raises(RuntimeError, match=rf"being written by process {child.pid} on .* since \d{{4}}-"),
            store.writing(),
        ):
            pass
    finally:
        child.kill()
        child.wait()
    fill(store, [row(0)], n=1)
    assert len(store.candidates()) == 1


TERM = """
import sys, time
from bestofl_lib.candidates.store import Store
sys.path.insert(0, sys.argv[2])
from test_store import row
with Store(sys.argv[1]).writing() as store:
    store.add(row(0))
    print("added", flush=True)
    while True:
        time.sleep(0.05)
"""


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, -signal.SIGINT)])
def test_a_signal_stores_what_was_drawn_and_then_ends_the_process(tmp_path, number, status):
    store = Store(tmp_path / "c")
    command = [sys.executable, "-c", TERM, str(store.folder), str(Path(__file__).parent)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT) as child:
        assert child.stdout is not None and child.stdout.readline() == "added\n"
        child.send_signal(number)
        assert child.wait(30) == status
    assert [pl.read_parquet(path)["sample_index"].to_list() for path in store.shards()] == [[0]]


def test_a_full_disk_is_said_and_earlier_shards_stay(tmp_path, monkeypatch):
    store = Store(tmp_path / "c")
    fill(store, [row(0)], n=2)

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with (
        pytest.raises(
            OSError, match=r"the disk is full; free some space and run again .*not stored: the last 1 candidate"
        ),
        store.writing(),
    ):
        store.add(row(1))
        monkeypatch.setattr(os, "fsync", full)
    monkeypatch.undo()
    assert store.candidates(partial=True)["sample_index"].to_list() == [0]
    assert not list(store.folder.glob(".*.part"))
    fill(store, [row(1)], n=2)
    assert len(store.candidates()) == 2


def test_a_file_in_the_way_of_the_folder_is_said_before_anything_is_drawn(tmp_path):
    (tmp_path / "c").write_text("a file")
    with (
        pytest.raises(OSError, match="cannot write to .*a file has the folder's name"),
        Store(tmp_path / "c").writing(),
    ):
        pass


def test_lone_surrogates_are_replaced_and_odd_characters_kept(tmp_path):
    store = Store(tmp_path / "c")
    odd = "ok \x00 \u202e \u200d \r </script> 𝟙"
    fill(store, [row(0, completion="a\ud800b"), row(1, completion=odd), row(2, completion="")], n=3)
    assert store.candidates()["completion"].to_list() == ["a\ufffdb", odd, ""]


def test_rows_reach_the_disk_within_seconds_and_the_shards_stay_few(tmp_path, monkeypatch):
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    store = Store(tmp_path / "c")
    with store.writing():
        for index in range(1000):  # ten hours, a candidate every 36 s
            store.add(row(index))
            clock[0] += 36
        assert 400 <= len(store.shards()) <= 600
        assert sum(len(pl.read_parquet(path)) for path in store.shards()) >= 998


def test_adding_without_the_lock_is_refused(tmp_path):
    with pytest.raises(RuntimeError, match="not open for writing"):
        Store(tmp_path / "c").add(row(0))
