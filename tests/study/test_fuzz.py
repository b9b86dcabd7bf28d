"""Alters bytes, cells and files of a small finished run and of its pool, and runs the study again.

Allowed: the same tables as undisturbed (for an altered pool: as a fresh run on it), or a stated refusal. Never other
numbers with exit status 0. `make fuzz` does it 10,000 times and prints what came out.
"""

from __future__ import annotations

import collections
import json
import os
import random
import shutil
from pathlib import Path

import polars as pl
import pytest
import tiny_study
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bestofl_lib.analysis.run_scan import open_run
from bestofl_lib.runs import Folders, Run
from bestofl_lib.study import execution, guards
from bestofl_lib.study import run as study_run
from bestofl_lib.study.errors import StudyError
from bestofl_lib.study.freshness import states
from bestofl_lib.study.plan import load_study, plan
from bestofl_lib.study.run import run_study

EXAMPLES = int(os.environ.get("BESTOFL_FUZZ", "500"))
OUTCOMES: collections.Counter[str] = collections.Counter()
RUN = 'run: str = "fuzz"  # name of the run folder\n'
NOTEBOOKS = {
    "01_import": [
        RUN + 'pool: str = ""  # file of completions',
        "from bestofl_lib.candidates.pools import read_pool, store_pool\nfrom bestofl_lib.runs import Run",
        "store_pool(Run(run), read_pool(pool))",
    ],
    "02_read": [
        RUN,
        "from bestofl_lib.answers.columns import read_answers\nfrom bestofl_lib.analysis.reading_quality import accuracy_by_language\n"
        "import polars as pl\nfrom bestofl_lib.runs import Run\nfolder = Run(run)",
        "readings = read_answers(folder.candidates(), folder.problems()).with_columns(trace_language=pl.lit(None, pl.String))\n"
        'folder.write("readings", readings)',
    ],
    "03_reward": [
        RUN,
        "from bestofl_lib.rewards.text_baseline import score_text_baseline\nfrom bestofl_lib.runs import Run\nfolder = Run(run)",
        'rewards, told = score_text_baseline(folder.candidates(), folder.readings(), variants=["multi"], rows=40, folds=2)\n'
        'folder.write("rewards", rewards)\nfolder.write("baseline", told)',
    ],
    "04_add_up": [
        RUN,
        "import polars as pl\nfrom bestofl_lib.runs import Run\nfolder = Run(run)",
        'joined = folder.readings().join(folder.rewards(), on=["problem_id", "language", "sample_index"])\n'
        'folder.write("totals", joined.group_by("language").agg(pl.col("is_correct").sum(), pl.col("reward").sum(), n=pl.len()).sort("language"))',
    ],
}  # fmt: skip


def pool_rows() -> list[dict]:
    """6 problems × 3 languages × 4 completions, two thirds of them right."""
    rows = []
    for p in range(6):
        for code, cue in (("en", "The answer is"), ("de", "Die Antwort ist"), ("sw", "Jibu ni")):
            for i in range(4):
                right = (p + 2 * i + len(cue)) % 3 > 0
                value = 10 + p if right else 90 + p + i
                rows.append(
                    {
                        "problem_id": f"p{p}", "language": code, "sample_index": i, "reference": str(10 + p),
                        "question": f"Question {p} ({code})?", "completion": f"{p} + 10 {'=' * (1 + i)} {value}. {cue} {value}.",
                    }
                )  # fmt: skip
    return rows


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A finished run in a folder that is only copied, and its tables."""
    base = tmp_path_factory.mktemp("fuzz")
    patch = pytest.MonkeyPatch()
    patch.setattr(execution, "execute", tiny_study.execute_here)
    patch.setattr(study_run, "git_state", lambda: "not asked")
    patch.setattr(study_run, "versions", dict)
    patch.setattr(study_run, "_report", lambda run, *rest: run.folder)  # pages have tests of their own
    patch.setattr(guards.os, "fsync", lambda handle: None)
    folders = Folders(base / "notebooks", base / "runs", base / "reports")
    (folders.notebooks / "studies").mkdir(parents=True)
    for name, cells in NOTEBOOKS.items():
        tiny_study.write_notebook(folders.notebooks / f"{name}.ipynb", [f"# {name}", *cells])
    (base / "pool.jsonl").write_text("".join(json.dumps(row) + "\n" for row in pool_rows()))
    listed = "".join(f"  - {name}\n" for name in NOTEBOOKS)
    yaml = f"title: Fuzz\nnotebooks:\n{listed}parameters:\n  pool: {base / 'work' / 'pool.jsonl'}\n"
    (folders.notebooks / "studies" / "fuzz.yaml").write_text(yaml)
    work(base)
    shutil.move(base / "work" / "runs", base / "runs")
    yield base, tables(Run("fuzz", base / "runs"))
    patch.undo()
    print("\n" + ", ".join(f"{what}: {n}" for what, n in sorted(OUTCOMES.items())))


def fresh_copy(base: Path) -> Path:
    """The finished run and its pool, in the one place whose path the run recorded."""
    shutil.rmtree(base / "work", ignore_errors=True)
    (base / "work").mkdir()
    shutil.copyfile(base / "pool.jsonl", base / "work" / "pool.jsonl")
    if (base / "runs").exists():
        shutil.copytree(base / "runs", base / "work" / "runs")
    return base / "work"


def work(base: Path, fresh: bool = True) -> Run:
    """Run the study in the work folder; the run that it leaves."""
    place = fresh_copy(base) if fresh else base / "work"
    folders = Folders(base / "notebooks", place / "runs", place / "reports")
    os.environ["BESTOFL_RUNS"] = str(folders.runs)
    try:
        run_study("fuzz", folders=folders, say=lambda line: None)
    finally:
        os.environ.pop("BESTOFL_RUNS")
    run = Run("fuzz", folders.runs)
    left = states(run, plan(load_study("fuzz", folders), {}, folders)[1])
    assert [state.state for state in left] == ["up to date"] * len(NOTEBOOKS), left
    return run


def tables(run: Run) -> dict[str, pl.DataFrame]:
    found = {name: run.read(name) for name in run.tables()}
    return found | {"candidates": run.candidates()}


def same(first: dict[str, pl.DataFrame], second: dict[str, pl.DataFrame]) -> bool:
    return first.keys() == second.keys() and all(first[name].equals(second[name]) for name in first)


def alter(data: bytes, kind: str, seed: int) -> bytes | None:
    """Some other bytes; None: the file is deleted."""
    rng = random.Random(seed)
    n = max(1, len(data))
    at = rng.randrange(n)
    changed = bytearray(data)
    if kind == "flip" and data:
        changed[at] ^= 1 << rng.randrange(8)
    elif kind == "byte" and data:
        changed[at] = rng.randrange(256)
    elif kind == "digit" and data:
        places = [i for i, byte in enumerate(data) if 48 <= byte <= 57]
        if places:
            changed[rng.choice(places)] = rng.choice(b"0123456789")
    elif kind == "cut":
        changed = changed[:at]
    elif kind == "empty":
        changed = bytearray()
    elif kind == "append":
        changed += rng.randbytes(rng.randrange(1, 64))
    elif kind == "zero":
        changed[at : at + 32] = bytes(len(changed[at : at + 32]))
    elif kind == "double":
        changed[at:at] = changed[at : at + rng.randrange(1, 200)]
    elif kind == "delete":
        return None
    return bytes(changed)


def put(path: Path, data: bytes | None, keep_time: bool) -> None:
    status = path.stat()
    if data is None:
        path.unlink()
        return
    path.write_bytes(data)
    if keep_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


KINDS = st.sampled_from(
    ["flip", "flip", "flip", "byte", "digit", "cut", "empty", "append", "zero", "double", "delete", "swap"]
)
FUZZ = settings(
    max_examples=EXAMPLES * 4 // 5, deadline=None, derandomize=EXAMPLES <= 500, database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
FUZZ_POOL = settings(FUZZ, max_examples=EXAMPLES - EXAMPLES * 4 // 5)


@FUZZ
@given(which=st.integers(0, 10**6), kind=KINDS, seed=st.integers(0, 2**32), keep_time=st.booleans())
def test_no_altered_byte_of_a_run_changes_a_number_in_silence(finished, which, kind, seed, keep_time):
    base, undisturbed = finished
    folder = fresh_copy(base) / "runs" / "fuzz"
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    path = files[which % len(files)]
    other = files[seed % len(files)].read_bytes() if kind == "swap" else b""
    before = path.read_bytes()
    put(path, other if kind == "swap" else alter(before, kind, seed), keep_time)
    for name, table in undisturbed.items():  # whoever reads without running: explorer, figures, comparison, notebooks
        try:
            found = (
                Run("fuzz", folder.parent).candidates()
                if name == "candidates"
                else Run("fuzz", folder.parent).read(name)
            )
        except (ValueError, OSError):
            continue
        assert found.equals(table), f"{name} was read with other values after {kind} in {path.name}"
    try:
        open_run(Run("fuzz", folder.parent), None).candidates().collect()
    except (ValueError, OSError):
        OUTCOMES["refused by the explorer"] += 1
    try:
        run = work(base, fresh=False)
    except (StudyError, ValueError, OSError) as refusal:
        assert str(refusal).strip() and ("run.json" in str(refusal) or "fuzz" in str(refusal)), refusal
        OUTCOMES["run: refused"] += 1
        return
    assert same(tables(run), undisturbed), f"other numbers after {kind} in {path.name}"
    OUTCOMES["run: same tables"] += 1


@FUZZ_POOL
@given(
    kind=st.sampled_from(["flip", "byte", "digit", "cut", "append", "zero", "double", "cell", "row"]),
    seed=st.integers(0, 2**32),
    keep_time=st.booleans(),
)
def test_an_altered_pool_gives_what_a_fresh_run_on_it_gives_or_is_refused(finished, kind, seed, keep_time):
    base, _ = finished
    place = fresh_copy(base)
    pool = place / "pool.jsonl"
    data = altered_rows(pool, kind, seed) if kind in ("cell", "row") else alter(pool.read_bytes(), kind, seed)
    put(pool, data, keep_time)
    outcomes = []
    for again in (True, False):
        if not again:  # on the same pool, from nothing
            shutil.rmtree(place / "runs", ignore_errors=True)
        try:
            outcomes.append(tables(work(base, fresh=False)))
        except (StudyError, ValueError, OSError) as refusal:
            assert str(refusal).strip()
            outcomes.append(str(refusal).splitlines()[0])
    refused = [isinstance(outcome, str) for outcome in outcomes]
    assert refused[0] == refused[1], outcomes
    OUTCOMES["pool: refused" if refused[0] else "pool: as a fresh run"] += 1
    if not refused[0]:
        assert same(*outcomes), f"after {kind} the earlier run shines through"


def altered_rows(pool: Path, kind: str, seed: int) -> bytes:
    """The pool with one value changed, or with rows left out, doubled or in another order."""
    rng = random.Random(seed)
    rows = [json.loads(line) for line in pool.read_text().splitlines()]
    row = rng.choice(rows)
    if kind == "cell":
        values = [
            None,
            "",
            0,
            -1,
            1.5,
            "x",
            "٣",
            "18.000",
            "1e999",
            True,
            [],
            {},
            "p1",
            "en",
            "qq",
            "\ud800",
            "9" * 5000,
            float("nan"),
        ]
        row[rng.choice(list(row))] = rng.choice(values)
    elif rng.random() < 0.4:
        rows.remove(row)
    elif rng.random() < 0.5:
        rows.append(dict(row))
    else:
        rng.shuffle(rows)
    return "".join(json.dumps(row) + "\n" for row in rows).encode()
