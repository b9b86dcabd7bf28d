"""The study `pool` by its own notebooks: rewards that came with the completions rank them, whatever the size of the pool."""

from __future__ import annotations

import json
import random

import pytest
import tiny_study

from bestofl_lib.files import ROOT
from bestofl_lib.runs import Folders, Run
from bestofl_lib.study import execution
from bestofl_lib.study import run as study_run
from bestofl_lib.study.checking import check_file
from bestofl_lib.study.errors import StudyError
from bestofl_lib.study.run import run_study

CUES = {"de": "Die Antwort ist", "fr": "La réponse est", "sw": "Jibu ni"}


def rows(problems: int, completions: int, languages: tuple[str, ...]) -> list[dict]:
    """Completions of which some are right, each with a reward and the rewards of two steps."""
    draw = random.Random(1)
    made = []
    for p in range(problems):
        for code in languages:
            for i in range(completions):
                value = 10 + p if draw.random() < 0.5 else 90 + p + i
                shared = {"problem_id": f"p{p}", "language": code, "question": f"Q {p} {code}?", "reference": 10 + p}
                given = {"rm": draw.random(), "prm": [draw.random(), draw.random()]}
                made.append(shared | {"completion": f"{p} + 10 = {value}. {CUES[code]} {value}."} | given)
    return made


@pytest.mark.parametrize(("shape", "n"), [((1, 1, ("de", "fr", "sw")), 3), ((5, 4, ("de", "fr", "sw")), 60)])
def test_given_rewards_are_in_the_rewards_curves_and_claims_and_no_baseline_is_trained(tmp_path, monkeypatch, shape, n):
    pool = tmp_path / "pool.jsonl"
    pool.write_text("".join(json.dumps(row) + "\n" for row in rows(*shape)))
    folders = Folders(ROOT / "notebooks", tmp_path / "runs", tmp_path / "reports")
    monkeypatch.setenv("BESTOFL_RUNS", str(folders.runs))
    monkeypatch.setattr(execution, "execute", tiny_study.execute_here)
    monkeypatch.setattr(study_run, "_report", lambda run, *rest: run.folder)  # pages have tests of their own
    run_study(
        "pool", {"pool": str(pool), "rewards": "rm,worst=prm:min", "run": "given"}, folders=folders, say=lambda _: None
    )
    run = Run("given", folders.runs)
    assert len(run.candidates()) == n
    assert set(run.read("rewards")["reward_model"]) == {"rm", "worst"} and run.read("baseline").is_empty()
    assert set(run.read("curves")["reward_model"].drop_nulls()) == {"rm", "worst"}
    if n > 3:
        sentences = run.read("claims").filter(claim="H1", part="total")["sentence"]
        assert "'rm'" in sentences.item() and "same model" in sentences.item()
        assert set(run.read("selected")["reward_model"].drop_nulls()) == {"rm", "worst"}


def test_a_pool_with_a_value_that_cannot_be_is_not_taken_for_problems(tmp_path):
    pool = tmp_path / "pool.jsonl"
    pool.write_text("".join(json.dumps(row | {"n_tokens": -5}) + "\n" for row in rows(1, 1, ("de",))))
    with pytest.raises(StudyError, match=r"pool\.jsonl, line 1: n_tokens -5.*-p columns=n_tokens"):
        check_file(str(pool))
