"""Scoring beside the text-classification pipeline of Transformers: same model, same candidates, same rewards.

Run with `pytest tests/benchmarks/test_scoring_speed.py --benchmark-only`; `-s` shows speeds and memory. Both sides work in this process with torch's own
number of threads. The pipeline is given the texts as chat-template strings, sorted by nothing, in batches of 32, which
was its best size on a 2-core CPU.
"""

from __future__ import annotations

import resource
import time
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


def fastest(*runs):
    """Seconds of the fastest of three calls of each, taken in turns, so that other work on the machine slows all alike."""
    seconds = [[] for _ in runs]
    for _ in range(3):
        for run, times in zip(runs, seconds, strict=True):
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
    return [min(times) for times in seconds]


def test_scoring_is_at_least_two_and_a_half_times_the_pipeline(benchmark, setup):
    folder, backbone, candidates, texts = setup
    pipeline = transformers.pipeline("text-classification", model=str(folder), device="cpu", function_to_apply="none")
    pipeline.tokenizer.pad_token_id = backbone.texts.pad
    values, _ = backbone.values(*candidates)
    expected = [row["score"] for row in pipeline(texts[:16])]
    assert np.allclose(values[:16] @ backbone.model.score.weight.detach().numpy()[0], expected, atol=1e-4)
    theirs, ours = fastest(lambda: pipeline(texts, batch_size=32), lambda: backbone.values(*candidates))
    benchmark.pedantic(lambda: backbone.values(*candidates), rounds=1)
    benchmark.extra_info |= {"times_the_pipeline": theirs / ours, "candidates_per_second": len(texts) / ours}
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"\n{len(texts) / ours:,.0f} candidates a second, pipeline {len(texts) / theirs:,.0f}; {memory:,.0f} MB at most"
    )
    assert theirs / ours >= 2.5


def test_process_rewards_pay_for_a_prompt_once(benchmark, setup, tmp_path):
    """Tokens that go through the model are those of the prompts, once each, and of the completions."""
    from bestofl_lib.rewards.opening import import_reward_model, open_reward_model
    from bestofl_lib.rewards.ways import ExternalModel

    _, _, candidates, texts = setup
    model = transformers.AutoModelForTokenClassification.from_pretrained(POLICY, num_labels=2)
    model.save_pretrained(tmp_path / "steps")
    transformers.AutoTokenizer.from_pretrained(POLICY).save_pretrained(tmp_path / "steps")
    spec = import_reward_model(ExternalModel.parse(f"{tmp_path / 'steps'}, name=steps"), tmp_path / "models")
    backbone = open_reward_model(tmp_path / "models" / "steps", spec, device="cpu")
    shared, _ = backbone.values(*candidates)
    counted = []
    hook = backbone.model.get_input_embeddings().register_forward_hook(
        lambda _, ids, __: counted.append(ids[0].numel())
    )
    backbone.values(*candidates)
    once, counted = sum(counted), []
    whole, _ = backbone.values(*candidates, share=False)
    hook.remove()
    assert np.allclose(shared, whole, atol=1e-4, equal_nan=True)
    before, body, _ = backbone.texts.encode(*candidates)
    needed = sum(map(len, before)) + sum(map(len, body))
    assert once < 1.25 * needed  # a quarter of padding at most
    apart, together = fastest(lambda: backbone.values(*candidates, share=False), lambda: backbone.values(*candidates))
    benchmark.pedantic(lambda: backbone.values(*candidates), rounds=1)
    print(
        f"\n{once / 1e3:,.0f} thousand tokens for {len(texts)} candidates, {sum(counted) / 1e3:,.0f} thousand without "
        f"sharing; {len(texts) / together:,.0f} candidates a second, {len(texts) / apart:,.0f} without sharing"
    )
    assert apart / together >= 1.2
