"""Train the base of the lab's reward models: the policy, trained on with more arithmetic.

    python data/lab/make_reward_base.py       # goes on from the newest checkpoint; writes data/lab/reward_base

A reward model must see that a written result is wrong, which the policy that wrote it cannot. Most rows are plain
equations, in no language (ARITHMETIC); the others are what the policy was trained on, so that its languages are kept.
It learns no candidate, no label and no problem of the train, dev or test splits: mono, multi and cross start from the
same base and differ in what they learn from candidates. Takes about 9 minutes of one core.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path

import torch
from make_policy import PHASES, Rows, rows, train
from make_policy import SEED as POLICY_SEED
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from bestofl_lib.files import ROOT
from bestofl_lib.problems import lab

SEED = 11
ROUNDS = 2  # each with fresh rows and its own decay of the learning rate
STEPS = 450  # of each round
BATCH = 32
ARITHMETIC = 0.7  # share of the rows that are plain equations
EQUATIONS = 8  # per row of equations


def equations(rng: random.Random) -> str:
    """A row of plain arithmetic; small numbers are more frequent than large ones, as in word problems."""
    parts = []
    for _ in range(EQUATIONS):
        kind, a = rng.choice("××÷÷++---"), rng.randint(2, 13)
        if kind in "×÷":
            b = _number(rng, 2, 320, skew=2)
            parts.append(
                f"{a * b} ÷ {a} = {b}" if kind == "÷" else f"{a} × {b} = {a * b}" if rng.random() < 0.5
                else f"{b} × {a} = {a * b}"
            )  # fmt: skip
        else:
            x, y = _number(rng, 2, 900), _number(rng, 2, 300)
            parts.append(f"{x} + {y} = {x + y}" if kind == "+" else f"{x + y} - {y} = {x}")
    return ". ".join(parts) + "."


def _number(rng: random.Random, least: int, most: int, skew: float = 1) -> int:
    """Log-uniform, or smaller with a skew above 1; one in six is a multiple of ten."""
    value = round(least * (most / least) ** (rng.random() ** skew))
    return max(10, value // 10 * 10) if rng.random() < 1 / 6 else value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=lab.FOLDER / "reward_base")
    parser.add_argument("--work", type=Path, default=ROOT / "data" / "reward-base-training", help="checkpoints")
    given = parser.parse_args()

    tokenizer = PreTrainedTokenizerFast.from_pretrained(lab.FOLDER / "policy")
    source = lab.FOLDER / "policy"
    for number in range(ROUNDS):
        source = one_round(number, source, tokenizer, given.work / f"round-{number}")
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float16)
    model.config.use_cache = True  # the trainer turns it off
    model.save_pretrained(given.out)
    tokenizer.save_pretrained(given.out)


def one_round(number: int, source: Path, tokenizer: PreTrainedTokenizerFast, work: Path) -> Path:
    """One round, from the weights in `source`; goes on from the newest checkpoint in `work`, and returns the last one."""
    last = work / f"checkpoint-{STEPS}"
    if last.exists():
        return last
    torch.manual_seed(SEED)
    model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    seed = f"rows {POLICY_SEED} {len(PHASES) + number}"
    data = Rows([rows(STEPS * BATCH, PHASES[-1][1], seed, ARITHMETIC, equations)], tokenizer)
    print(f"round {number}: {len(data):,} rows, {sum(len(ids) for ids, _ in data.rows) / len(data):.0f} tokens each")
    train(
        model, data, work, STEPS, BATCH, 1e-3, 2e-5,
        warmup_steps=20, weight_decay=0.01, save_steps=50, save_total_limit=1, seed=SEED, use_cpu=True,
    )  # fmt: skip
    return last


if __name__ == "__main__":
    main()
