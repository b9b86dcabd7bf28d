"""SmolLM2-135M-Instruct, real weights, from its prompt to the report. Run by `make real`, some minutes on 2 cores.

The model is right in few of MGSM's problems (in none of 72 completions of the first six), so its study asks problems of one
step, written for this test.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import polars as pl
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("gguf")

from real_model import bestofl, reward_model, smollm2  # noqa: E402

from bestofl_lib.candidates.transformers_sampler import TransformersSampler  # noqa: E402
from bestofl_lib.models.contract import Completion, Request, Sampling  # noqa: E402
from bestofl_lib.problems.load import load  # noqa: E402
from bestofl_lib.problems.prompts import messages  # noqa: E402
from bestofl_lib.rewards.backbone import RewardBackbone  # noqa: E402
from bestofl_lib.runs import Run  # noqa: E402

pytestmark = [pytest.mark.real, pytest.mark.timeout(3600)]

MGSM = Path(__file__).resolve().parents[1] / "data" / "mgsm"
PROBLEMS = Path(__file__).with_name("problems.jsonl")
ROOT = Path(__file__).resolve().parents[2]
SIZE = 6 * 3 * 4  # problems, languages, candidates of each
NEW_TOKENS = 32  # that are compared with those of `generate`


def test_ten_prompts_in_five_languages_are_continued_as_by_generate():
    table = load(str(MGSM), ["en", "de", "es", "ru", "zh"], limit={"test": 2})
    asked = [
        Request(row["problem_id"], row["language"], 0, tuple(messages(row["question"], row["language"])), 1)
        for row in table.iter_rows(named=True)
    ]
    assert len(asked) == 10
    sampler = TransformersSampler(smollm2(), device="cpu")
    settings = Sampling(temperature=0, max_new_tokens=NEW_TOKENS)
    sampler.writer  # noqa: B018 loads
    start = time.process_time()
    found = {(r.problem_id, r.language): c for r, c in sampler.sample(asked, settings) if isinstance(c, Completion)}
    ours = time.process_time() - start
    model = transformers.AutoModelForCausalLM.from_pretrained(smollm2(), dtype=torch.float32).eval()
    start, tokens = time.process_time(), 0
    for request in asked:
        prompt = sampler.tokenizer(sampler.render(request.messages), add_special_tokens=False, return_tensors="pt")
        out = model.generate(**prompt, do_sample=False, max_new_tokens=NEW_TOKENS)[0, prompt["input_ids"].shape[1] :]
        text = sampler.tokenizer.decode(out, skip_special_tokens=True)
        tokens += len(out)
        assert found[request.problem_id, request.language].text == text
    generate = time.process_time() - start
    print(f"\n{tokens} tokens: {tokens / ours:.0f} per CPU second, generate {tokens / generate:.0f}")


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("study")
    return {"runs": place / "runs", "reports": place / "reports"}


def study(folders: dict[str, Path], *options: str, **parameters: object) -> None:
    """`bestofl run mgsm` with this model and these problems; it prints what the command says and its time."""
    parameters = {
        "run": "real", "source": PROBLEMS, "languages": "en,es,fr", "model": smollm2(), "reward_base": smollm2(),
        "reward_models": json.dumps([str(reward_model())]), "test_problems": 6, "test_candidates": 4, "max_new_tokens": 96,
        "folds": 2, "trainings": 1, "device": "cpu",
    } | parameters  # fmt: skip
    command, environment = bestofl(folders, "run", "mgsm", *options, **parameters)
    start = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    print(f"\n{done.stdout}{time.perf_counter() - start:.0f} s")
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


def test_a_study_with_a_probe_runs_to_its_report(folders):
    study(folders, readout="probe")
    run = Run("real", folders["runs"])
    table, readings = run.candidates(), run.read("readings")
    print(readings.group_by("language").agg(pl.col("is_correct").sum(), pl.len()).sort("language"))
    assert table.height == SIZE and set(table["finish_reason"]) <= {"stop", "length"}
    assert readings["is_correct"].any(), "not one of 72 answers to problems of one step is right"
    assert {"probe"} == set(run.read("trained")["readout"])
    assert set(run.read("claims")["claim"]) == {"H1", "H2", "H3", "H4"}
    page = (folders["reports"] / "real" / "index.html").read_text("utf8")
    assert "SmolLM2-135M-Instruct" in page and "Not all of the study has run" not in page


def test_a_classifier_made_elsewhere_is_scored_by_the_study_as_by_its_own_forward(folders):
    run = Run("real", folders["runs"])
    name = reward_model().name
    rewards = run.read("rewards").filter(reward_model=name)
    assert rewards.height == SIZE and rewards["reward"].is_finite().all()
    keys = ["problem_id", "language", "sample_index"]
    rows = rewards.join(run.candidates(), on=keys).join(run.read("problems"), on=keys[:2]).head(4)
    backbone = RewardBackbone(reward_model(), style="question", device="cpu", require_head=True)
    for row in rows.iter_rows(named=True):
        text, _ = backbone.whole_texts([(row["question"], row["language"])], [0], [row["completion"]])
        with torch.inference_mode():
            own = backbone.model(input_ids=torch.tensor([text[0]["input_ids"]])).logits
        assert row["reward"] == pytest.approx(float(own), abs=2e-4)


def test_the_same_study_with_a_head_keeps_the_candidates(folders):
    before = Run("real", folders["runs"]).candidates()
    for notebook in ("4", "5"):
        study(folders, "--replace", "--only", notebook, readout="head")
    run = Run("real", folders["runs"])
    assert run.candidates().equals(before)
    assert {"head"} == set(run.read("trained")["readout"])
    assert run.read("rewards").filter(reward_model="cross").height
    page = (folders["reports"] / "real" / "index.html").read_text("utf8")
    assert "SmolLM2-135M-Instruct" in page
