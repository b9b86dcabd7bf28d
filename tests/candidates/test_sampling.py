"""Topping up a store with candidates, with a sampler that writes from each candidate's seed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace

import polars as pl
import pytest
from made_up_samplers import SeedWriter, problems

from bestofl_lib.candidates import store
from bestofl_lib.candidates.sampling import allocation_of, candidate_seed, draw_hash, generate
from bestofl_lib.candidates.store import Store, StoreWarning
from bestofl_lib.models.contract import Sampling

ROOT = Path(__file__).resolve().parents[2]


def draw(
    folder: Path, sampler: SeedWriter, *args: object, table: pl.DataFrame | None = None, n: object = 4, **kwargs: object
):
    table = problems() if table is None else table
    return generate(table, Store(folder), sampler, n, *args, progress=False, **kwargs)  # type: ignore[arg-type]


def test_every_problem_language_and_index_is_drawn_once(tmp_path):
    sampler = SeedWriter()
    table = draw(tmp_path, sampler)
    assert len(table) == len(sampler.asked) == len(set(sampler.asked)) == 3 * 2 * 4
    assert table["seed"].n_unique() == len(table)
    assert table["model"].unique().to_list() == ["seed-writer"]


def test_a_second_call_draws_nothing(tmp_path):
    first = draw(tmp_path, SeedWriter())
    again = SeedWriter()
    assert draw(tmp_path, again).equals(first)
    assert again.asked == []


def test_raising_n_and_adding_languages_and_problems_tops_up(tmp_path):
    draw(tmp_path, SeedWriter(), n=2)
    more = SeedWriter()
    table = draw(tmp_path, more, table=problems(4, ("en", "sw", "th")), n=3)
    assert len(table) == 4 * 3 * 3
    assert len(more.asked) == 4 * 3 * 3 - 3 * 2 * 2


def test_fewer_are_returned_when_fewer_are_asked_for(tmp_path):
    draw(tmp_path, SeedWriter(), n=4)
    again = SeedWriter()
    assert len(draw(tmp_path, again, table=problems(2, ("en",)), n=2)) == 4
    assert again.asked == []


def test_n_may_differ_by_split(tmp_path):
    counts = draw(tmp_path, SeedWriter(), n={"train": 1, "test": 3})["problem_id"].value_counts()
    assert dict(counts.iter_rows()) == {"p0": 2, "p1": 6, "p2": 2}


def test_an_allocation_draws_so_many_of_each_language_and_none_of_others(tmp_path):
    given = allocation_of(["sw:3", "en:1"], ["en", "sw", "th"])
    drawn = draw(tmp_path, SeedWriter(), table=problems(3, ("en", "sw", "th")), n={"train": 2, "test": given})
    counts = drawn.group_by("problem_id", "language").len().sort("problem_id", "language").rows()
    assert counts[:3] == [("p0", "en", 2), ("p0", "sw", 2), ("p0", "th", 2)]  # for training
    assert counts[3:5] == [("p1", "en", 1), ("p1", "sw", 3)]
    for parts in (["xx:1"], ["en"], ["en:0"], ["en:1", "en:2"]):
        with pytest.raises(ValueError, match=r"allocation|at least 1"):
            allocation_of(parts, ["en", "sw"])


@pytest.mark.parametrize(
    "change",
    [
        lambda: {"sampler": SeedWriter("seed-writer@2")},
        lambda: {"settings": Sampling(temperature=0.7)},
        lambda: {"settings": Sampling(top_p=0.9)},
        lambda: {"settings": Sampling(top_k=5)},
        lambda: {"settings": Sampling(max_new_tokens=9)},
        lambda: {"seed": 1},
        lambda: {"style": "question"},
        lambda: {"system_prompt": "Be brief."},
    ],
)
def test_whatever_shapes_a_completion_makes_new_draws_and_keeps_the_old(tmp_path, change):
    first = draw(tmp_path, SeedWriter())
    changed = {"sampler": SeedWriter(), "settings": Sampling(), **change()}
    sampler, settings = changed.pop("sampler"), changed.pop("settings")
    second = draw(tmp_path, sampler, settings, **changed)
    assert len(sampler.asked) == len(second) == len(first)
    assert set(first["draw"]).isdisjoint(second["draw"])
    back = SeedWriter()
    assert draw(tmp_path, back).equals(first)
    assert back.asked == []


@pytest.mark.parametrize("n", [0, -1, 1.5, True, {"test": 0}])
def test_n_below_one_is_refused_before_anything_happens(tmp_path, n):
    with pytest.raises(ValueError, match="at least 1"):
        draw(tmp_path / "c", SeedWriter(), n=n)
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": {"tset": 3}}, "unknown splits tset; there are: test, train"),
        ({"table": problems().clear()}, "no problems to sample"),
        ({"table": pl.concat([problems(), problems()])}, "'p0' occurs twice in 'en'"),
        ({"style": "natvie"}, "unknown prompt style 'natvie'"),
    ],
)
def test_bad_input_is_named(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        draw(tmp_path, SeedWriter(), **arguments)


def test_many_greedy_candidates_are_refused(tmp_path):
    with pytest.raises(ValueError, match="same completion each time"):
        draw(tmp_path, SeedWriter(), Sampling(temperature=0))
    assert len(draw(tmp_path, SeedWriter(), Sampling(temperature=0), n=1)) == 6


@pytest.mark.parametrize(
    "settings",
    [
        {"temperature": -1},
        {"temperature": float("nan")},
        {"top_p": 0},
        {"top_p": 1.1},
        {"top_k": -1},
        {"max_new_tokens": 0},
    ],
)
def test_settings_out_of_range_name_their_value(settings):
    name, value = next(iter(settings.items()))
    with pytest.raises(ValueError, match=f"{name} {value} must be"):
        Sampling(**settings)


def test_the_draw_and_the_seed_are_the_same_on_every_machine():
    prompt = [{"role": "user", "content": "Wie viel?"}]
    assert draw_hash("m@1", prompt, Sampling(temperature=1), 0) == draw_hash(
        "m@1", prompt, Sampling(temperature=1.0), 0
    )
    assert draw_hash("m@1", prompt, Sampling(0.8, 0.95, 0, 512), 0) == "67d75f61c7fcf152"
    assert candidate_seed(0, "p1", "de", 3) == 3164427900740854530
    assert candidate_seed(0, "p1", "de", 3) != candidate_seed(0, "p", "1de", 3)


def test_a_damaged_shard_is_redrawn_alike(tmp_path):
    first = draw(tmp_path, SeedWriter())
    victim = Store(tmp_path).shards()[0]
    victim.write_bytes(victim.read_bytes()[:-7])
    again = SeedWriter()
    with pytest.warns(StoreWarning, match=victim.name):
        assert draw(tmp_path, again).equals(first)
    assert len(again.asked) == len(first)


def test_an_interrupt_keeps_what_was_drawn(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        draw(tmp_path, SeedWriter(stop_after=10))
    rest = SeedWriter()
    assert draw(tmp_path, rest).equals(draw(tmp_path / "undisturbed", SeedWriter()))
    assert len(rest.asked) == 24 - 10


def test_a_sampler_that_leaves_some_out_is_reported(tmp_path):
    class Lazy(SeedWriter):
        def sample(self, requests, settings):
            yield from super().sample(requests[:-2], settings)

    with pytest.raises(RuntimeError, match="left 2 of 24 candidates unwritten"):
        draw(tmp_path, Lazy())


CHILD = """
import sys
sys.path[:0] = [sys.argv[2], sys.argv[2] + "/.."]
from bestofl_lib.candidates import store
store._FLUSH_ROWS = 7
from test_sampling import *
print("ready", flush=True)
draw(Path(sys.argv[1]), SeedWriter(pause=0.002), table=problems(25), n=6)
"""


def test_kill_9_at_random_moments_then_a_rerun_equals_an_undisturbed_run(tmp_path):
    rng = random.Random(5)
    command = [sys.executable, "-c", CHILD, str(tmp_path / "killed"), str(Path(__file__).parent)]
    kills = 0
    for _ in range(6):
        child = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT)
        assert child.stdout is not None
        child.stdout.readline()
        time.sleep(rng.uniform(0.02, 0.4))
        os.kill(child.pid, signal.SIGKILL)
        kills += child.wait() == -signal.SIGKILL
        child.stdout.close()
    store = Store(tmp_path / "killed")
    before = sum(len(pl.read_parquet(path)) for path in store.shards())
    assert kills and before
    rest = SeedWriter()
    table = draw(tmp_path / "killed", rest, table=problems(25), n=6)
    assert table.equals(draw(tmp_path / "undisturbed", SeedWriter(), table=problems(25), n=6))
    assert before + len(rest.asked) == 25 * 2 * 6  # nothing stored was drawn again
    assert not list(store.folder.glob(".*.part"))


def test_a_clock_that_stands_still_or_is_set_back_doubles_and_loses_nothing(tmp_path, monkeypatch):
    """Nothing stored is named or ordered by the time: draws of the same second, and of an earlier one, top up."""
    undisturbed = draw(tmp_path / "undisturbed", SeedWriter(), n=6)
    for hour, n in enumerate((2, 4, 6)):
        stopped = datetime(2026, 10, 25, 3 - hour, 30, tzinfo=UTC)
        monkeypatch.setattr(store, "datetime", SimpleNamespace(now=lambda zone, at=stopped: at))
        monkeypatch.setattr(time, "time", stopped.timestamp)
        table = draw(tmp_path / "disturbed", SeedWriter(), n=n)
        for shard in Store(tmp_path / "disturbed").shards():
            os.utime(shard, (stopped.timestamp(), stopped.timestamp()))
    assert table.equals(undisturbed) and table.select("problem_id", "language", "sample_index").is_unique().all()
    assert len(Store(tmp_path / "disturbed").shards()) == 3
    assert draw(tmp_path / "disturbed", rest := SeedWriter(), n=6).equals(undisturbed) and rest.asked == []
