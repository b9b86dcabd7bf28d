"""Train the reward models that come with the lab, and measure them on the dev split.

    python data/lab/make_rewards.py                    # or: make rewards
    python data/lab/make_rewards.py --variants cross multi mono-en --rows 5000 --seeds 0 1 2

Draws candidates of the lab's 1,000 training and 100 of its dev problems, reads them, trains, writes what was measured to
`dev.json` beside the weights, and keeps the weights in bfloat16 under data/lab/reward_models. Every step continues where it was
stopped: candidates are stored as they are drawn, trainings resume from their last checkpoint (every 100 steps), finished ones are
kept. Candidates and checkpoints are in data/reward-training and may be deleted afterwards.
"""

from __future__ import annotations

import argparse
import json
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import torch
from safetensors.torch import load_file, save_file

from bestofl_lib.analysis.reward_quality import across_language_accuracy, within_problem_auc
from bestofl_lib.answers.columns import read_answers
from bestofl_lib.candidates.sampling import generate
from bestofl_lib.candidates.store import Store
from bestofl_lib.candidates.transformers_sampler import TransformersSampler
from bestofl_lib.files import ROOT, replace_file
from bestofl_lib.models.contract import Sampling
from bestofl_lib.models.identity import folder_hash
from bestofl_lib.problems import lab
from bestofl_lib.problems.load import load
from bestofl_lib.rewards.scoring import score
from bestofl_lib.rewards.spec import RewardModelSpec, TrainingSettings
from bestofl_lib.rewards.training import train_reward_models

POLICY = "data/lab/policy"
SAMPLING = Sampling(temperature=0.8, top_p=0.95, top_k=0, max_new_tokens=160)  # as in notebook 01
DEV_CANDIDATES = 8


def main() -> None:
    """The command line: see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--variants", nargs="+", default=["cross"])
    parser.add_argument("--rows", type=int, default=20_000, help="pairs per model at most")
    parser.add_argument("--epochs", type=float, default=2.0)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--readout", default="implicit", choices=["implicit", "verifier", "head"])
    parser.add_argument("--loss", default="bce", choices=["bce", "pairwise"])
    parser.add_argument("--candidates", type=int, default=4, help="per training problem and language")
    parser.add_argument("--dev-problems", type=int, default=100)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--out", type=Path, default=lab.FOLDER / "reward_models")
    parser.add_argument("--work", type=Path, default=ROOT / "data" / "reward-training")
    given = parser.parse_args()
    problems, candidates, readings = _data(given.work, given.candidates, given.dev_problems)
    train, dev = (problems.filter(pl.col("split") == split) for split in ("train", "dev"))
    for seed in given.seeds:
        settings = TrainingSettings(
            readout=given.readout, tuning="full", loss=given.loss, rows=given.rows, seed=seed, style="question",
            epochs=given.epochs, learning_rate=given.learning_rate, batch_pairs=32, hold_out=0.05,
        )  # fmt: skip
        place = given.work / f"{given.readout}-{given.loss}-{given.rows}-{given.epochs:g}-seed-{seed}"
        trained = train_reward_models(
            candidates, readings, train, base=POLICY, folder=place, settings=settings, variants=given.variants
        )
        rewards = score(candidates, dev, place, names=trained["reward_model"].to_list()).rewards
        for row in trained.iter_rows(named=True):
            mine = rewards.filter(pl.col("reward_model") == row["reward_model"])
            keep(Path(row["folder"]), given.out, seed, _quality(mine, readings))


def _data(work: Path, n: int, dev_problems: int) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Problems of both splits, their candidates and readings."""
    codes = sorted(path.stem for path in (lab.FOLDER / "templates").glob("*.toml"))
    problems = load("lab", codes, limit={"train": lab.SPLITS["train"], "dev": dev_problems})
    problems = problems.filter(pl.col("split").is_in(["train", "dev"]))
    store, sampler = Store(work / "candidates"), TransformersSampler(POLICY)
    counts = {"train": n, "dev": DEV_CANDIDATES}
    candidates = generate(problems, store, sampler, counts, SAMPLING, seed=0, style="question")
    return problems, candidates, read_answers(candidates, problems)


def _quality(rewards: pl.DataFrame, readings: pl.DataFrame) -> dict[str, float | None]:
    """AUC within a problem and language, and accuracy across languages, on the dev split."""
    within = within_problem_auc(rewards, readings).filter(pl.col("language").is_null())
    across = across_language_accuracy(rewards, readings).filter(pl.col("chosen_language").is_null())
    return {
        "dev_auc": within["auc"].item() if within.height else None,
        "dev_across": across["accuracy"].item() if across.height else None,
    }


def keep(source: Path, out: Path, seed: int, quality: dict[str, float | None]) -> Path:
    """Copy a trained model to `out` in bfloat16 (half the size), with a name that says its recipe."""
    spec = RewardModelSpec.read(source)
    name = f"{spec.readout}-{spec.name}" + (f"-seed-{seed}" if seed else "")
    target = out / name
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("checkpoints", "reward_model.json"))
    for file in target.glob("*.safetensors"):
        weights = {key: value.to(torch.bfloat16) for key, value in load_file(file).items()}
        save_file(weights, file, metadata={"format": "pt"})
    result = {key: value for key, value in (spec.result or {}).items() if key != "folder"}
    replace(spec, name=name, base=POLICY, result=result, digest=folder_hash(target)).write(target)
    replace_file(target / "dev.json", json.dumps(quality, indent=1).encode())
    print(name, quality, flush=True)
    return target


if __name__ == "__main__":
    main()
