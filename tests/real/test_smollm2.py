"""SmolLM2-135M-Instruct, real weights, from its prompt to the report. Run by `make real`, some 15 minutes on 2 busy cores."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")
pytest.importorskip("gguf")

from real_model import reward_model, smollm2  # noqa: E402

from bestofl_lib.candidates.transformers_sampler import TransformersSampler  # noqa: E402
from bestofl_lib.models.contract import Completion, Request, Sampling  # noqa: E402
from bestofl_lib.problems.load import load  # noqa: E402
from bestofl_lib.problems.prompts import messages  # noqa: E402
from bestofl_lib.runs import Run  # noqa: E402

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

PROBLEMS = Path(__file__).resolve().parents[1] / "data" / "mgsm"
ROOT = Path(__file__).resolve().parents[2]


def test_ten_prompts_in_five_languages_are_continued_as_by_generate():
    table = load(PROBLEMS, ["en", "de", "es", "ru", "zh"], limit={"test": 2})
    asked = [
        Request(row["problem_id"], row["language"], 0, tuple(messages(row["question"], row["language"])), 1)
        for row in table.iter_rows(named=True)
    ]
    assert len(asked) == 10
    sampler = TransformersSampler(smollm2(), device="cpu")
    settings = Sampling(temperature=0, max_new_tokens=48)
    sampler.writer  # noqa: B018 loads
    start = time.perf_counter()
    found = {(r.problem_id, r.language): c for r, c in sampler.sample(asked, settings) if isinstance(c, Completion)}
    ours = time.perf_counter() - start
    model = transformers.AutoModelForCausalLM.from_pretrained(smollm2(), dtype=torch.float32).eval()
    start, tokens = time.perf_counter(), 0
    for request in asked:
        prompt = sampler.tokenizer(sampler.render(request.messages), add_special_tokens=False, return_tensors="pt")
        out = model.generate(**prompt, do_sample=False, max_new_tokens=48)[0, prompt["input_ids"].shape[1] :]
        text = sampler.tokenizer.decode(out, skip_special_tokens=True)
        tokens += len(out)
        assert found[request.problem_id, request.language].text == text
    print(f"\n{tokens / ours:.0f} tokens/s, generate {tokens / (time.perf_counter() - start):.0f}")


def test_a_study_runs_to_its_report_and_a_classifier_scores_it(tmp_path):
    model, folders = (
        str(smollm2()),
        {"BESTOFL_RUNS": str(tmp_path / "runs"), "BESTOFL_REPORTS": str(tmp_path / "reports")},
    )
    parameters = {
        "run": "real", "source": str(PROBLEMS), "languages": "en,es,fr", "model": model, "reward_base": model,
        "test_problems": 6, "test_candidates": 4, "max_new_tokens": 160, "folds": 2, "device": "cpu",
    }  # fmt: skip
    command = [sys.executable, "-m", "bestofl_lib.cli", "run", "mgsm"]
    for name, value in parameters.items():
        command += ["-p", f"{name}={value}"]
    done = subprocess.run(command, cwd=ROOT, env=os.environ | folders, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    run = Run("real", tmp_path / "runs")
    table = run.store().candidates()
    assert table.height == 6 * 3 * 4 and set(table["finish_reason"]) <= {"stop", "length"}
    assert run.read("curves").height
    pages = list((tmp_path / "reports" / "real").glob("*.html"))
    assert pages, "no report"

    from bestofl_lib.rewards.backbone import RewardBackbone

    scorer = RewardBackbone(reward_model(), device="cpu", require_head=True)
    texts = table.filter(pl.col("language") == "en").head(4)
    prompts = list(dict.fromkeys(texts["problem_id"]))
    questions = dict(
        run.read("problems").filter(pl.col("language") == "en").select("problem_id", "question").iter_rows()
    )
    values, cut = scorer.values(
        [(questions[p], "en") for p in prompts],
        [prompts.index(p) for p in texts["problem_id"]],
        texts["completion"].to_list(),
    )
    assert values.shape[0] == 4 and not cut.any()
    rewards = values if values.shape[1] == 1 else values @ scorer.model.score.weight.detach().numpy().T
    model = transformers.AutoModelForSequenceClassification.from_pretrained(reward_model()).eval()
    with torch.inference_mode():
        for row, text in enumerate(texts["completion"]):
            head, body, _ = scorer.encode([(questions[texts["problem_id"][row]], "en")], [0], [text])
            own = model(torch.tensor([head[0] + body[0]])).logits
            assert float(rewards[row, 0]) == pytest.approx(float(own), abs=2e-4)
