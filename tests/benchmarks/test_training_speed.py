"""Training reward models beside a plain loop of PyTorch over the same batches; `-s` shows speed and memory."""

from __future__ import annotations

import resource
import time

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from bestofl_lib.problems import lab  # noqa: E402
from bestofl_lib.problems.load import load  # noqa: E402
from bestofl_lib.rewards import finetuning  # noqa: E402
from bestofl_lib.rewards.backbone import RewardBackbone  # noqa: E402
from bestofl_lib.rewards.readouts import Likelihood  # noqa: E402
from bestofl_lib.rewards.reward_module import RewardModule  # noqa: E402
from bestofl_lib.rewards.spec import TrainingSettings  # noqa: E402

SETTINGS = TrainingSettings(readout="implicit", tuning="full", loss="bce", epochs=1.0, learning_rate=1e-5)
N_PAIRS = 192


def opened() -> RewardBackbone:
    return RewardBackbone(
        lab.FOLDER / "reward_base", readout=Likelihood(), style="question", device="cpu", dtype="float32"
    )


@pytest.fixture(scope="module")
def pairs():
    """Questions of the lab with parts of them as completions, in pairs across languages."""
    problems = load("lab", split="test").sample(2 * N_PAIRS, seed=0, shuffle=True)
    prompts = list(problems.select("question", "language").iter_rows())
    completions = [question[len(question) // 3 :] for question, _ in prompts]
    texts, _ = opened().whole_texts(prompts, range(2 * N_PAIRS), completions)
    return list(zip(texts[:N_PAIRS], texts[N_PAIRS:], strict=True))


def test_training_takes_at_most_a_fifth_more_than_a_plain_loop(benchmark, pairs, tmp_path, monkeypatch):
    """From opened base to saved weights, against forward, backward and step alone on the batches that it made."""
    batches, losses = [], finetuning._PairTrainer.compute_loss

    def kept(self, model, inputs, *args, **more):
        batches.append({name: value.clone() for name, value in inputs.items()})
        return losses(self, model, inputs, *args, **more)

    def ours():
        return finetuning.finetune(opened(), pairs, [], SETTINGS, tmp_path, "r")

    def plain():
        module = RewardModule(opened().model, SETTINGS).train()
        optimizer = torch.optim.AdamW(module.parameter_groups(1e-5, 0.01), betas=(0.9, 0.98))
        for batch in batches:
            loss, _ = module(**batch)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()

    monkeypatch.setattr(finetuning._PairTrainer, "compute_loss", kept)
    ours()
    monkeypatch.setattr(finetuning._PairTrainer, "compute_loss", losses)
    assert len(batches) == N_PAIRS // finetuning.BATCH_PAIRS
    seconds = {ours: [], plain: []}
    for _ in range(2):  # in turns, so that other work on the machine slows both alike
        for run, times in seconds.items():
            started = time.perf_counter()
            run()
            times.append(time.perf_counter() - started)
    spent, least = (min(times) for times in seconds.values())
    benchmark.pedantic(ours, rounds=1)
    benchmark.extra_info |= {"times_the_plain_loop": spent / least, "pairs_per_second": N_PAIRS / spent}
    tokens = int(np.sum([batch["attention_mask"].sum() for batch in batches]))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"\n{spent / least:.2f} times the plain loop; {tokens / spent:,.0f} tokens a second; {memory:,.0f} MB at most"
    )
    assert spent / least < 1.2
