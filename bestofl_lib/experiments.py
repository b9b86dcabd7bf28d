"""Trains reward models of one run in several ways and compares their quality, to choose settings on the dev split.

    python -m bestofl_lib.experiments lab --variants cross multi mono-en --ways head/frozen probe/frozen head/full

Same candidates, same pairs, same rows; printed as a table and written to the run folder as
`reward_experiments.parquet`. The reward models of the run itself are not touched.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from bestofl_lib.analysis.reward_quality import across_language_accuracy, within_problem_auc
from bestofl_lib.candidates.store import Store
from bestofl_lib.rewards.scoring import score
from bestofl_lib.rewards.spec import LOSSES, TrainingSettings
from bestofl_lib.rewards.training import train_reward_models
from bestofl_lib.runs import Run


def try_settings(
    candidates: pl.DataFrame,
    readings: pl.DataFrame,
    problems: pl.DataFrame,
    *,
    base: str | Path,
    folder: str | Path,
    settings: Mapping[str, TrainingSettings],
    variants: Sequence[str] = ("cross",),
    judged_on: str = "dev",
) -> pl.DataFrame:
    """One row per setting and reward model: AUC within problems, accuracy across languages, seconds.

    Args:
        problems: with the split "train" (learnt from) and the one that is judged on.
        folder: where the reward models of the comparison go, one sub-folder per setting.
        settings: what to compare, by the name it gets in the table.
        judged_on: split. Settings are chosen on "dev"; "test" is for figures.

    Returns:
        setting, reward_model, rows, auc and its interval, across and its interval (null for mono models),
        training_seconds and scoring_seconds (wall time of the whole setting).
    """
    train, judged = (problems.filter(pl.col("split") == split) for split in ("train", judged_on))
    parts = []
    for name, setting in settings.items():
        place = Path(folder) / "".join(c if c.isalnum() or c in ".-" else "_" for c in name)
        started = time.monotonic()
        trained = train_reward_models(
            candidates, readings, train, base=base, folder=place, variants=variants, settings=setting
        )
        middle = time.monotonic()
        rewards = score(candidates, judged, place).rewards
        done = time.monotonic()
        within = within_problem_auc(rewards, readings).filter(pl.col("language").is_null())
        across = across_language_accuracy(rewards, readings).filter(pl.col("chosen_language").is_null())
        parts.append(
            trained.select("reward_model", "rows")
            .join(within.select("reward_model", "auc", "low", "high"), on="reward_model", how="left")
            .join(
                across.select("reward_model", across="accuracy", across_low="low", across_high="high"),
                on="reward_model",
                how="left",
            )
            .with_columns(
                setting=pl.lit(name), training_seconds=pl.lit(middle - started), scoring_seconds=pl.lit(done - middle)
            )
        )
    return pl.concat(parts).select("setting", pl.exclude("setting"))


def main() -> None:
    """The command line: see the top of this file."""
    parser = argparse.ArgumentParser(description="Compare ways to train reward models on the data of one run.")
    parser.add_argument("run", help="name of a run with candidates and readings of the splits train and dev")
    parser.add_argument("--judged-on", default="dev", choices=["dev", "test"])
    parser.add_argument("--base", default="data/lab/policy", help="folder or Hub id")
    parser.add_argument("--variants", nargs="+", default=["cross", "multi", "mono-en"])
    parser.add_argument(
        "--ways", nargs="+", default=["head/frozen", "probe/frozen", "head/full"], help="readout/tuning"
    )
    parser.add_argument("--loss", default="pairwise", choices=LOSSES)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--style", default="question")
    parser.add_argument("--epochs", type=float, default=2.0, help="of lora and full")
    parser.add_argument("--learning-rate", type=float, default=3e-4, help="of lora and full")
    given = parser.parse_args()
    settings = {}
    for way in given.ways:
        readout, _, tuning = way.partition("/")
        trained = {} if tuning == "frozen" else {"epochs": given.epochs, "learning_rate": given.learning_rate}
        settings[way] = TrainingSettings(
            readout=readout, tuning=tuning, loss=given.loss, rows=given.rows, style=given.style, **trained
        )
    run = Run(given.run)
    table = try_settings(
        Store(run.folder / "candidates").candidates(),
        run.read("readings"),
        run.read("problems"),
        base=given.base,
        folder=run.folder / "reward_experiments",
        settings=settings,
        variants=given.variants,
        judged_on=given.judged_on,
    )
    run.write("reward_experiments", table)
    with pl.Config(tbl_cols=-1, tbl_rows=-1, tbl_width_chars=160, float_precision=3):
        print(table)


if __name__ == "__main__":
    main()
