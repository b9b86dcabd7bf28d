"""How fast the explorer answers: what-if on 250 problems × 11 languages × 16 candidates, and opening a million candidates."""

from __future__ import annotations

import resource
import subprocess
import sys
import textwrap
from itertools import cycle

import pytest
from made_up_runs import write_large_run, write_run

from bestofl_lib.analysis import run_scan, what_if
from bestofl_lib.display import words
from bestofl_lib.display.explorer import problem as problem_page

ALL = ("bn", "de", "en", "es", "fr", "ja", "ru", "sw", "te", "th", "zh")


@pytest.fixture(scope="module")
def numbers(tmp_path_factory):
    found = what_if.Numbers(run_scan.open_run(write_run(tmp_path_factory.mktemp("runs"))))
    found.arrays()
    return found


def ask(numbers, **changes):
    base = {
        "languages": ALL,
        "budget": 8,
        "allocation": None,
        "strategy": "best_of_k",
        "reward_model": "cross",
        "offsets": {},
    }
    return what_if.what_if(numbers, what_if.Setting(**(base | changes)))


@pytest.mark.parametrize("strategy", list(words.STRATEGIES))
def test_a_moved_slider(benchmark, numbers, strategy):
    """Aim: 200 ms. Another allocation each time."""
    ask(numbers, strategy=strategy)
    others = cycle([{c: 1 + (c == code) for c in ALL} for code in ALL])
    benchmark(lambda: ask(numbers, strategy=strategy, budget=12, allocation=next(others)))


def test_a_moved_offset(benchmark, numbers):
    """Aim: 200 ms. Another ranking of all candidates each time."""
    steps = iter(range(1, 10_000))
    benchmark.pedantic(lambda: ask(numbers, offsets={"sw": next(steps) / 1000}), rounds=10, warmup_rounds=1)


def test_a_moved_budget(benchmark, numbers):
    """Aim: 200 ms. The curve gets a budget that it did not have."""
    budgets = cycle(range(9, 60))
    benchmark.pedantic(lambda: ask(numbers, budget=next(budgets)), rounds=10, warmup_rounds=1)


def test_an_opened_problem(benchmark, numbers):
    places = cycle(f"lab-test-{place:04d}" for place in range(250))
    allocation = dict.fromkeys(ALL, 1)
    benchmark.pedantic(
        lambda: problem_page.problem_view(numbers.source, next(places), allocation=allocation, reward_model="cross"),
        rounds=5,
        warmup_rounds=1,
    )


@pytest.mark.slow
def test_a_million_candidates(benchmark, tmp_path):
    """Aim: under 5 s from the first import to the first problem, under 2 GB."""
    write_large_run(tmp_path)
    script = textwrap.dedent("""
        import sys, time
        start = time.perf_counter()
        from bestofl_lib.analysis.run_scan import open_run
        from bestofl_lib.display.explorer.widget import Explorer
        from bestofl_lib.runs import Run
        page = Explorer(open_run(Run("large", sys.argv[1]), "test"))
        assert len(page.atlas["ids"]) == 1000 and len(page.problem["columns"]) == 11, page.problem
        print(time.perf_counter() - start)
    """)
    command = [sys.executable, "-c", script, str(tmp_path)]
    inside = []

    def opened():
        inside.append(float(subprocess.run(command, check=True, capture_output=True, text=True).stdout))

    benchmark.pedantic(opened, rounds=3)
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024**2
    benchmark.extra_info.update(seconds_inside=min(inside), gigabytes=most)
    assert most < 2
