"""Scoring beside the text-classification pipeline of Transformers: same model, same candidates, same rewards.

Run with `pytest tests/benchmarks/test_scoring_speed.py --benchmark-only`. Both sides work in this process with torch's own
number of threads. The pipeline is given the texts as chat-template strings, sorted by nothing, in batches of 32, which
was its best size on a 2-core CPU.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

POLICY = Path(__file__).resolve().parents[2] / "data" / "lab" / "policy"
N_PROMPTS, N_COMPLETIONS = 64, 8


@pytest.fixture(scope="module")
def setup(tmp_path_factory):
    """A classifier of the lab policy's shape (its weights where it is there), and 512 texts of the lab's lengths."""
    from bestofl_lib.rewards.backbone import RewardBackbone

    if not (POLICY / "model.safetensors").exists():
        pytest.skip("data/lab/policy has no weights yet; run make policy")
    from bestofl_lib.problems.load import load

    problems = load("lab", split="test").sample(N_PROMPTS, seed=0, shuffle=True)
    folder = tmp_path_factory.mktemp("classifier")
    backbone = RewardBackbone(POLICY, style="question", device="cpu")
    backbone.model.save_pretrained(folder)
    backbone.texts.tokenizer.save_pretrained(folder)
    rng = np.random.default_rng(0)
    prompts = list(problems.select("question", "language").iter_rows())
    owner = np.repeat(np.arange(N_PROMPTS), N_COMPLETIONS).tolist()
    completions = []
    for p in owner:  # pieces of questions: real words of the language, 15 to 60 tokens
        text = prompts[p][0]
        start = int(rng.integers(0, len(text) // 2))
        completions.append(text[start : start + int(rng.integers(len(text) // 4, len(text)))])
    tail, _ = backbone.texts.ending
    texts = [backbone.texts.prompt_text(*prompts[p]) + text + tail for p, text in zip(owner, completions, strict=True)]
    return folder, backbone, (prompts, owner, completions), texts


def test_pipeline(benchmark, setup):
    folder, backbone, _, texts = setup
    pipeline = transformers.pipeline("text-classification", model=str(folder), device="cpu", function_to_apply="none")
    pipeline.tokenizer.pad_token_id = backbone.texts.pad
    run = lambda: pipeline(texts, batch_size=32)  # noqa: E731
    benchmark.pedantic(run, rounds=3, warmup_rounds=1)
    benchmark.extra_info["candidates_per_second"] = len(texts) / benchmark.stats["min"]


def test_plain_batches_by_token_budget(benchmark, setup):
    _, backbone, candidates, texts = setup
    benchmark.pedantic(lambda: backbone.values(*candidates, share=False), rounds=3, warmup_rounds=1)
    benchmark.extra_info["candidates_per_second"] = len(texts) / benchmark.stats["min"]


def test_shared_prompts(benchmark, setup):
    folder, backbone, candidates, texts = setup
    values, _ = benchmark.pedantic(lambda: backbone.values(*candidates), rounds=3, warmup_rounds=1)
    benchmark.extra_info["candidates_per_second"] = len(texts) / benchmark.stats["min"]
    pipeline = transformers.pipeline("text-classification", model=str(folder), device="cpu", function_to_apply="none")
    expected = [row["score"] for row in pipeline(texts[:16])]
    rewards = values[:16] @ backbone.model.score.weight.detach().numpy()[0]
    assert np.allclose(rewards, expected, atol=1e-4)
