"""What does a cheaper tuning cost? Trains reward models of one run in several ways and sets their quality side by side.

    python -m bestofl_lib.analysis.tunings lab --variants cross multi mono-en --tunings head probe full

Same candidates, same pairs, same rows; printed as a table and written to the run folder as `reward_tunings.parquet`.
The reward models of the run itself are not touched.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import polars as pl

from bestofl_lib.analysis.reward_quality import across_language_accuracy, within_problem_auc
from bestofl_lib.candidates.store import Store
from bestofl_lib.rewards.scoring import FROZEN, score
from bestofl_lib.rewards.training import TUNINGS, train_reward_models
from bestofl_lib.runs import Run


def compare_tunings(
    candidates: pl.DataFrame,
    readings: pl.DataFrame,
    problems: pl.DataFrame,
    *,
    base: str | Path,
    folder: str | Path,
    settings: Sequence[dict[str, object]],
    variants: Sequence[str] = ("cross",),
    rows: int = 4000,
    style: str = "native",
    seed: int = 0,
) -> pl.DataFrame:
    """One row per setting and reward model: AUC within problems, accuracy across languages, seconds.

    Args:
        problems: with the splits "train" (learnt from) and "test" (judged on).
        folder: where the reward models of the comparison go, one sub-folder per setting.
        settings: keyword arguments of `train_reward_models` to be set against each other, such as
            [{"tuning": "head"}, {"tuning": "full", "epochs": 2.0, "learning_rate": 3e-4}].

    Returns:
        setting, reward_model, rows, auc and its interval, across and its interval (null for mono models),
        training_seconds and scoring_seconds (wall time of the whole setting).
    """
    train, test = (problems.filter(pl.col("split") == split) for split in ("train", "test"))
    parts = []
    for setting in settings:
        name = ", ".join(f"{key} {value}" for key, value in setting.items()) or "default"
        place = Path(folder) / "".join(c if c.isalnum() or c in ".-" else "_" for c in name)
        started = time.monotonic()
        trained = train_reward_models(
            candidates, readings, train, base=base, folder=place, variants=variants, rows=rows, style=style, seed=seed,
            **setting,  # type: ignore[arg-type]
        )  # fmt: skip
        middle = time.monotonic()
        rewards = score(candidates, test, place).rewards
        done = time.monotonic()
        within = within_problem_auc(rewards, readings, seed).filter(pl.col("language").is_null())
        across = across_language_accuracy(rewards, readings, seed).filter(pl.col("chosen_language").is_null())
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
    parser = argparse.ArgumentParser(
        description="Set ways of tuning reward models side by side on the data of one run."
    )
    parser.add_argument("run", help="name of a run with candidates and readings of the splits train and test")
    parser.add_argument("--base", default="data/lab/policy", help="folder or Hub id")
    parser.add_argument("--variants", nargs="+", default=["cross", "multi", "mono-en"])
    parser.add_argument("--tunings", nargs="+", default=["head", "probe", "full"], choices=TUNINGS)
    parser.add_argument("--loss", default="pairwise", choices=["pairwise", "bce"])
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--style", default="question")
    parser.add_argument("--epochs", type=float, default=2.0, help="of lora and full")
    parser.add_argument("--learning-rate", type=float, default=3e-4, help="of lora and full")
    given = parser.parse_args()
    run = Run(given.run)
    trained = {"epochs": given.epochs, "learning_rate": given.learning_rate}
    table = compare_tunings(
        Store(run.folder / "candidates").candidates(),
        run.read("readings"),
        run.read("problems"),
        base=given.base,
        folder=run.folder / "reward_tunings",
        settings=[
            {"tuning": tuning, "loss": given.loss} | ({} if tuning in FROZEN else trained) for tuning in given.tunings
        ],
        variants=given.variants,
        rows=given.rows,
        style=given.style,
    )
    run.write("reward_tunings", table)
    with pl.Config(tbl_cols=-1, tbl_rows=-1, tbl_width_chars=160, float_precision=3):
        print(table)


if __name__ == "__main__":
    main()
