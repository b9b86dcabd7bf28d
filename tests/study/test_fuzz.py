"""Alters bytes, cells and files of a small finished run and of its pool, and runs the study again.

Allowed: the same tables as undisturbed (for an altered pool: as a fresh run on it), or a stated refusal. Never other
numbers with exit status 0. Notebooks run in this process; a few alterations are tried with real kernels as well.
`make fuzz` does it 10,000 times and prints what came out.
"""

from __future__ import annotations

import collections
import functools
import json
import os
import random
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import hypothesis
import polars as pl
import pytest
import tiny_study
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from bestofl_lib.analysis.run_scan import open_run
from bestofl_lib.display.origin import footer_of
from bestofl_lib.files import ROOT, write_checked
from bestofl_lib.runs import Folders, Run
from bestofl_lib.study import execution, freshness, guards
from bestofl_lib.study import run as study_run
from bestofl_lib.study.errors import StudyError
from bestofl_lib.study.freshness import states
from bestofl_lib.study.plan import Step, load_study, plan
from bestofl_lib.study.run import run_study
from bestofl_lib.text import valid_unicode

EXAMPLES = int(os.environ.get("BESTOFL_FUZZ", "500"))  # four fifths of a run, one fifth of pools
SEED = os.environ.get("BESTOFL_FUZZ_SEED")  # None: the same alterations each time
OUTCOMES: collections.Counter[str] = collections.Counter()
FORMATS = ("jsonl", "csv", "tsv", "parquet")
SLOW_PATH = execution.execute
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
        'rewards, told = score_text_baseline(folder.candidate_parts(), folder.readings(), variants=["multi"], rows=40, folds=2)\n'
        'folder.write_in_pieces("rewards", rewards)\nfolder.write("baseline", told)',
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
    """A folder with a finished run on one pool in each format, which is only copied, and the run's tables."""
    memory = Path("/dev/shm")  # files there are never written to a disk
    base = Path(tempfile.mkdtemp(dir=memory)) if memory.is_dir() else tmp_path_factory.mktemp("fuzz")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(execution, "execute", tiny_study.execute_here)
        patch.setattr(study_run, "git_state", lambda: "not asked")
        patch.setattr(study_run, "versions", dict)
        patch.setattr(study_run, "_report", lambda run, *rest: run.folder)  # pages have tests of their own
        patch.setattr(guards.os, "fsync", lambda handle: None)
        for module in (study_run, freshness):
            patch.setattr(module, "library_files", few_library_files(freshness.library_files))
        folders = Folders(base / "notebooks", base / "work" / "runs", base / "work" / "reports")
        (folders.notebooks / "studies").mkdir(parents=True)
        for name, cells in NOTEBOOKS.items():
            tiny_study.write_notebook(folders.notebooks / f"{name}.ipynb", [f"# {name}", *cells])
        listed = "".join(f"  - {name}\n" for name in NOTEBOOKS)
        (base / "pools").mkdir()
        for ending in FORMATS:
            write_rows(base / "pools" / f"pool.{ending}", pool_rows())
            parameters = f"  pool: {base / 'work' / f'pool.{ending}'}\n  run: fuzz-{ending}\n"
            yaml = f"title: Fuzz\nnotebooks:\n{listed}parameters:\n{parameters}"
            (folders.notebooks / "studies" / f"fuzz-{ending}.yaml").write_text(yaml)
        fresh_copy(base)
        for ending in FORMATS:
            work(base, ending)
        shutil.move(base / "work" / "runs", base / "runs")
        yield base, tables(Run("fuzz-jsonl", base / "runs"))
    shutil.rmtree(base)
    print("\n" + ", ".join(f"{what}: {n}" for what, n in sorted(OUTCOMES.items())))


def few_library_files(found: Callable[..., dict[str, str]]) -> Callable[..., dict[str, str]]:
    """Stands in for `library_files`: four of them, read once, for the library stays as it is. All of them would be nine
    tenths of the account of the run, and most alterations of it would hit nothing else.
    """
    once = functools.cache(lambda names: dict(sorted(found(names).items())[:4]))
    return lambda names: once(tuple(sorted(names)))


def fresh_copy(base: Path, ending: str = "") -> Path:
    """The finished run on the pool of one format, or the pools alone, in the one place whose path the run recorded."""
    shutil.rmtree(base / "work", ignore_errors=True)
    shutil.copytree(base / "pools", base / "work")
    if ending:
        shutil.copytree(base / "runs" / f"fuzz-{ending}", base / "work" / "runs" / f"fuzz-{ending}")
    return base / "work"


def work(base: Path, ending: str) -> Run:
    """Run the study in the work folder; the run that it leaves."""
    study, place = f"fuzz-{ending}", base / "work"
    folders = Folders(base / "notebooks", place / "runs", place / "reports")
    os.environ["BESTOFL_RUNS"] = str(folders.runs)
    try:
        run_study(study, folders=folders, say=lambda line: None)
    finally:
        os.environ.pop("BESTOFL_RUNS")
    run = Run(study, folders.runs)
    left = states(run, steps_of(study, folders))
    assert [state.state for state in left] == ["up to date"] * len(NOTEBOOKS), left
    return run


@functools.cache
def steps_of(study: str, folders: Folders) -> list[Step]:
    return plan(load_study(study, folders), {}, folders)[1]


def tables(run: Run) -> dict[str, pl.DataFrame]:
    """All tables that the study has made; a file under a name that it does not use is nobody's."""
    found = {name: run.read(name) for name in run.tables() if not name.startswith("0")}
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


def disturb(folder: Path, which: int, kind: str, seed: int, keep_time: bool) -> str:
    """Do one thing to one file of a run; what was done."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    path, other = files[which % len(files)], files[seed % len(files)]
    done = f"{kind} in {path.name} (which={which}, seed={seed})"
    if kind in ("cell", "sealed cell"):
        path = [file for file in files if file.suffix == ".parquet"][which % 7]
        change_cell(path, seed, sealed=kind == "sealed cell")
    elif kind == "json":
        change_json(folder / "run.json", seed)
    elif kind == "swap":
        put(path, other.read_bytes(), keep_time)
    elif kind == "rename":
        path.rename(path.with_name("0" + path.name))
    elif kind == "copy":
        shutil.copy2(path, path.with_name("0" + path.name))
    else:
        put(path, alter(path.read_bytes(), kind, seed), keep_time)
    return done


def change_cell(path: Path, seed: int, sealed: bool = False) -> None:
    """Another value in one cell of a Parquet file, written as any program would; sealed: with a digest that fits."""
    table = pl.read_parquet(path)
    columns = table.columns
    name = columns[seed % len(columns)]
    values = table[name].to_list()
    if values:
        at = seed // 7 % len(values)
        there = [value for value in values if value != values[at]]
        values[at] = there[seed % len(there)] if there else None
    table = table.with_columns(pl.Series(name, values, table.schema[name]))
    if sealed and path.parent.name != "candidates":
        write_checked(path, table)
    else:
        table.write_parquet(path)


def change_json(path: Path, seed: int) -> None:
    """Another value at one place of a JSON file."""
    content = json.loads(path.read_text())
    rng, inner = random.Random(seed), content
    key = rng.choice(list(inner))
    while isinstance(inner[key], dict) and inner[key] and rng.random() < 0.9:
        inner, key = inner[key], rng.choice(list(inner[key]))
    inner[key] = rng.choice([None, "", "done", 0, 1.5, [], {}, True, "0" * 16, "fuzz"])
    if rng.random() < 0.3:
        del inner[key]
    path.write_text(json.dumps(content))


KINDS = st.sampled_from(
    [
        "flip", "byte", "digit", "cut", "empty", "append", "zero", "double", "delete", "swap", "rename", "copy", "json",
        "flip", "flip", "cell", "cell", "sealed cell", "sealed cell",  # these more often
    ]
)  # fmt: skip
FUZZ = settings(
    max_examples=EXAMPLES * 4 // 5, deadline=None, derandomize=SEED is None, database=None, phases=[Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)  # fmt: skip
FUZZ_POOL = settings(FUZZ, max_examples=EXAMPLES - EXAMPLES * 4 // 5)
ALTERATION = {"which": st.integers(0, 10**6), "kind": KINDS, "seed": st.integers(0, 2**32), "keep_time": st.booleans()}


def seeded(test):
    return hypothesis.seed(int(SEED))(test) if SEED else test


@seeded
@FUZZ
@given(**ALTERATION)
def test_no_alteration_of_a_run_changes_a_number_in_silence(finished, which, kind, seed, keep_time):
    base, undisturbed = finished
    folder = fresh_copy(base, "jsonl") / "runs" / "fuzz-jsonl"
    done = disturb(folder, which, kind, seed, keep_time)
    run = Run("fuzz-jsonl", folder.parent)
    for name, table in undisturbed.items():  # whoever reads without running: explorer, figures, comparison, notebooks
        try:
            found = run.candidates() if name == "candidates" else run.read(name)
        except (ValueError, OSError):
            continue
        assert found.equals(table) or kind == "sealed cell", f"{name} was read with other values after {done}"
    for reader in (lambda: open_run(run, None).candidates().collect(), lambda: footer_of(run)):
        try:
            reader()
        except (ValueError, OSError):
            OUTCOMES["refused by the explorer or the figures"] += 1
    runs_again(base, undisturbed, done)


def runs_again(base: Path, undisturbed: dict[str, pl.DataFrame], done: str) -> None:
    try:
        run = work(base, "jsonl")
    except (StudyError, ValueError, OSError) as refusal:
        assert str(refusal).strip() and ("run.json" in str(refusal) or "fuzz" in str(refusal)), refusal
        OUTCOMES["run: refused"] += 1
        return
    assert same(tables(run), undisturbed), f"other numbers after {done}"
    OUTCOMES["run: same tables"] += 1


@pytest.mark.slow
@pytest.mark.parametrize("number", range(max(1, EXAMPLES // 500)))
def test_with_real_kernels_an_altered_run_gives_the_same_tables_or_is_refused(finished, monkeypatch, number):
    base, undisturbed = finished
    rng = random.Random(f"{SEED} {number}")
    folder = fresh_copy(base, "jsonl") / "runs" / "fuzz-jsonl"
    kind = rng.choice(["flip", "cell", "sealed cell", "cut", "delete", "swap"])
    done = disturb(folder, rng.randrange(10**6), kind, rng.randrange(2**32), keep_time=True)
    put(folder / "readings.parquet", alter((folder / "readings.parquet").read_bytes(), "flip", number), keep_time=True)
    monkeypatch.setattr(execution, "execute", SLOW_PATH)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    runs_again(base, undisturbed, done)
    OUTCOMES["of these with real kernels"] += 1


@seeded
@FUZZ_POOL
@given(
    ending=st.sampled_from(FORMATS),
    kind=st.sampled_from(["flip", "byte", "digit", "cut", "append", "zero", "double", "cell", "cell", "row"]),
    seed=st.integers(0, 2**32),
    keep_time=st.booleans(),
)
def test_an_altered_pool_gives_what_a_fresh_run_on_it_gives_or_is_refused(finished, ending, kind, seed, keep_time):
    base, undisturbed = finished
    place = fresh_copy(base, ending)
    pool = place / f"pool.{ending}"
    if kind in ("cell", "row"):
        write_rows(pool, altered_rows(kind, seed))
    else:
        put(pool, alter(pool.read_bytes(), kind, seed), keep_time)
    outcomes = []
    for again in (True, False):
        if not again:  # on the same pool, from nothing
            shutil.rmtree(place / "runs", ignore_errors=True)
        try:
            outcomes.append(tables(work(base, ending)))
        except (StudyError, ValueError, OSError) as refusal:
            assert str(refusal).strip()
            outcomes.append(str(refusal).splitlines()[0])
    refused = [isinstance(outcome, str) for outcome in outcomes]
    assert refused[0] == refused[1], outcomes
    OUTCOMES["pool: refused" if refused[0] else "pool: as a fresh run"] += 1
    if not refused[0]:
        assert same(*outcomes), f"after {kind} the earlier run shines through"
        texts = ["problem_id", "language", "completion"]
        if kind in ("cut", "append"):  # what was torn is left out, nothing is read from it
            assert outcomes[0]["candidates"].join(undisturbed["candidates"], on=texts, how="anti").is_empty(), kind


def write_rows(path: Path, rows: list[dict]) -> None:
    """The rows as a file of this ending; what a format cannot hold is written as text."""
    if path.suffix == ".jsonl":
        path.write_bytes("".join(json.dumps(row) + "\n" for row in rows).encode())
        return
    table = pl.DataFrame(
        {name: [None if row.get(name) is None else valid_unicode(str(row[name])) for row in rows] for name in rows[0]},
        schema=dict.fromkeys(rows[0], pl.String),
    )
    if path.suffix == ".parquet":
        table.write_parquet(path)
    else:
        table.write_csv(path, separator="\t" if path.suffix == ".tsv" else ",")


def altered_rows(kind: str, seed: int) -> list[dict]:
    """The pool with one value changed, or with rows left out, doubled or in another order."""
    rng = random.Random(seed)
    rows = pool_rows()
    row = rng.choice(rows)
    if kind == "cell":
        values = [
            None, "", 0, -1, 1.5, "x", "٣", "18.000", "1e999", True, [], {}, "p1", "en", "qq", "\ud800", "9" * 5000,
            float("nan"), "a\nb", 'a"b', "a\tb", "a,b",
        ]  # fmt: skip
        row[rng.choice(list(row))] = rng.choice(values)
    elif rng.random() < 0.4:
        rows.remove(row)
    elif rng.random() < 0.5:
        rows.append(dict(row))
    else:
        rng.shuffle(rows)
    return rows
