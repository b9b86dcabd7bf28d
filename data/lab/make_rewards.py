"""Compare recipes for the lab's reward models on its dev split, on the policy and on the base that is shipped.

    python data/lab/make_rewards.py                                    # make rewards trains the base first
    python data/lab/make_rewards.py --bases reward_base --ways probe/frozen implicit/full --rows 1000 --seeds 0

Draws candidates of 300 training and 100 dev problems, reads them, trains cross and multi in each way and prints one row per
base, way and reward model: AUC within a problem and language, share of pairs across languages in the right order, seconds. The best
is the default of 04_train_reward_models. Whatever was computed is kept in data/reward-training and not computed again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import polars as pl

from bestofl_lib.answers.columns import read_answers
from bestofl_lib.candidates.sampling import generate
from bestofl_lib.candidates.store import Store
from bestofl_lib.candidates.transformers_sampler import TransformersSampler
from bestofl_lib.experiments import compare_settings
from bestofl_lib.files import ROOT
from bestofl_lib.models.contract import Sampling
from bestofl_lib.problems import lab
from bestofl_lib.problems.load import load
from bestofl_lib.rewards.spec import TrainingSettings

SAMPLING = Sampling(temperature=0.8, top_p=0.95, top_k=0, max_new_tokens=160)  # as in notebook 01
PROBLEMS = {"train": 300, "dev": 100}
CANDIDATES = {"train": 4, "dev": 8}


def main() -> None:
    """The command line: see the top of this file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bases", nargs="+", default=["policy", "reward_base"], help="folders of data/lab")
    parser.add_argument("--ways", nargs="+", default=["head/frozen", "probe/frozen"], help="readout/tuning")
    parser.add_argument("--variants", nargs="+", default=["cross", "multi"])
    parser.add_argument("--losses", nargs="+", default=["pairwise"])
    parser.add_argument("--rows", type=int, default=2000, help="pairs per model at most")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--epochs", type=float, default=1.0, help="of lora and full")
    parser.add_argument("--learning-rate", type=float, default=3e-4, help="of lora and full")
    parser.add_argument("--work", type=Path, default=ROOT / "data" / "reward-training")
    given = parser.parse_args()
    problems, candidates, readings = _data(given.work)
    settings = {}
    for way in given.ways:
        readout, _, tuning = way.partition("/")
        trained = {} if tuning == "frozen" else {"epochs": given.epochs, "learning_rate": given.learning_rate}
        for loss in given.losses:
            for seed in given.seeds:
                settings[f"{way} {loss} {seed}"] = TrainingSettings(
                    readout=readout, tuning=tuning, loss=loss, rows=given.rows, seed=seed, style="question", **trained
                )
    for base in given.bases:
        table = compare_settings(
            candidates, readings, problems, base=f"data/lab/{base}", folder=given.work / base, settings=settings,
            variants=given.variants,
        )  # fmt: skip
        with pl.Config(tbl_cols=-1, tbl_rows=-1, tbl_width_chars=160, float_precision=3):
            print(base, table, flush=True)


def _data(work: Path) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Problems of both splits, their candidates and readings."""
    problems = load("lab", lab.languages(), limit=PROBLEMS)
    problems = problems.filter(pl.col("split").is_in(list(PROBLEMS)))
    store, sampler = Store(work / "candidates"), TransformersSampler("data/lab/policy")
    candidates = generate(problems, store, sampler, CANDIDATES, SAMPLING, seed=0, style="question")
    return problems, candidates, read_answers(candidates, problems)


if __name__ == "__main__":
    main()
