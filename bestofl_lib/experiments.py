"""Trains reward models in several ways and compares them on the dev split: settings are chosen there, never on test.

Each trial changes the run's own way in one respect, or in a few. All trials see the same problems and candidates, and
what the base says about a text is computed once for all of them. The reward models of the run are not touched.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import TypeAdapter, ValidationError

from bestofl_lib.analysis.arms import arm_values
from bestofl_lib.analysis.arrays import CandidateArrays
from bestofl_lib.analysis.reward_quality import across_language_accuracy, within_problem_auc
from bestofl_lib.analysis.uncertainty import mean_interval
from bestofl_lib.languages import PIVOT
from bestofl_lib.progress import tracked
from bestofl_lib.rewards.scoring import score
from bestofl_lib.rewards.spec import TrainingSettings
from bestofl_lib.rewards.training import train_reward_models
from bestofl_lib.tables import SCHEMAS, check_table
from bestofl_lib.text import suggestion

OWN = "as the run"  # the trial that changes nothing


@dataclass(frozen=True)
class Trial:
    """One way to train reward models."""

    name: str  # the changes, as they were written
    settings: TrainingSettings
    base: str  # folder or Hub id that the reward models start from
    languages: int = 0  # learn from so many languages only, drawn anew for each training; 0: from all
    english: float = 0.0  # share of English among the training candidates, by leaving others out; 0: as they are

    def __post_init__(self) -> None:
        if self.languages < 0:
            raise ValueError(f"languages={self.languages}: use a number of languages, or 0 for all")
        if not 0 <= self.english < 1:
            raise ValueError(f"english={self.english}: use a share above 0 and below 1, or 0 to leave it as it is")

    @property
    def place(self) -> str:
        """Name of the folder of its reward models; ways that differ in the aggregation of steps share theirs."""
        changes = [part.strip() for part in self.name.split(",") if part.split()[:1] != ["aggregation"]]
        return "".join(c if c.isalnum() or c in ".-" else "_" for c in ", ".join(changes) or OWN)


def trials_of(base: str | Path, settings: TrainingSettings, changes: Sequence[str]) -> list[Trial]:
    """The run's own way, and one trial per text of changes.

    Args:
        base, settings: the run's own way.
        changes: such as "rows 500", "languages 2", "english 0.5" or, several at once, "readout head, tuning full".
            Names are fields of `TrainingSettings`, and `base`, `languages` and `english` of a trial.

    Raises:
        ValueError: a text that is no change, an unknown name, or a value that its name does not allow.

    >>> [trial.name for trial in trials_of("base", TrainingSettings(), ["rows 500", "languages 2, loss bce"])]
    ['as the run', 'rows 500', 'languages 2, loss bce']
    """
    own = {"base": str(base), "languages": 0, "english": 0.0}
    known = [*own, *(field.name for field in fields(TrainingSettings) if field.name != "seed")]
    made = [Trial(OWN, settings, str(base))]
    for text in changes:
        given: dict[str, Any] = {}
        for part in text.split(","):
            name, _, value = part.strip().partition(" ")
            if not value or name not in known:
                raise ValueError(
                    f"{part!r} is not a change; {suggestion(name, known)}write a name and its value, as in 'rows 500'; "
                    f"names: {', '.join(known)}"
                )
            given[name] = value.strip()
        mine = {name: given.pop(name, value) for name, value in own.items()}
        try:
            changed = TypeAdapter(TrainingSettings).validate_python(asdict(settings) | given)
            made.append(TypeAdapter(Trial).validate_python({"name": text, "settings": changed} | mine))
        except ValidationError as error:
            raise ValueError(f"{text!r}: {error.errors()[0]['msg'].removeprefix('Value error, ')}") from error
    return made


def compare_trials(
    candidates: pl.DataFrame,
    readings: pl.DataFrame,
    problems: pl.DataFrame,
    *,
    trials: Sequence[Trial],
    folder: str | Path,
    variants: Sequence[str] = ("multi", "cross"),
    trainings: int = 3,
    device: str = "auto",
    step_labels: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Quality on the dev split of the reward models of each trial.

    What was trained and computed is kept in `folder` and not computed again.

    Args:
        candidates, readings, problems: tables as in `bestofl_lib.tables`, with the splits "train" and "dev".
        folder: where the reward models of the comparison go, one sub-folder per way to train and training.
        variants: see `train_reward_models`.
        trainings: of each reward model, with the seeds settings.seed, settings.seed + 1, …
        step_labels: table, for trials with readout "steps".

    Returns:
        Table `reward_trials`: one row per trial and reward model. Intervals are over problems and trainings.

    Raises:
        ValueError: a split has no candidates.
    """
    train, dev = (problems.filter(pl.col("split") == split) for split in ("train", "dev"))
    for split, part in (("train", train), ("dev", dev)):
        if not candidates.join(part, on=["problem_id", "language"], how="semi").height:
            raise ValueError(
                f"no candidates of the {split} split, from which settings are "
                f"{'learnt' if split == 'train' else 'chosen'}; draw some with -p {split}_problems=100"
            )
    folder, parts = Path(folder), []
    for trial in tracked(trials, "ways to train compared"):
        rewards, trained = [], []
        for seed in range(trial.settings.seed, trial.settings.seed + trainings):
            place = folder / trial.place / str(seed)
            learnt = training_part(candidates, train, trial, seed)
            with redirect_stdout(io.StringIO()):  # forecasts of every training would bury what comes out
                trained.append(
                    train_reward_models(
                        learnt, readings, train, base=trial.base, folder=place, variants=variants,
                        settings=replace(trial.settings, seed=seed), device=device, cache=folder / "cache",
                        step_labels=step_labels,
                    )
                )  # fmt: skip
                rewards.append(score(candidates, dev, place, device=device, cache=folder / "cache").rewards)
        pool = CandidateArrays.of(candidates, readings, pl.concat(rewards), problems, split="dev", drop_incomplete=True)
        found = quality_of_trial(trial.name, pl.concat(trained), pl.concat(rewards), readings, pool)
        told = [f"{model} {auc:.3f}" for model, auc in found.select("reward_model", "auc").drop_nulls().iter_rows()]
        print(f"{trial.name}: AUC {', '.join(told) or 'unknown'}", flush=True)
        parts.append(found)
    return check_table("reward_trials", pl.concat(parts))


def training_part(candidates: pl.DataFrame, train: pl.DataFrame, trial: Trial, seed: int) -> pl.DataFrame:
    """The candidates that one training of a trial learns from.

    Args:
        train: problems of the training split.
        seed: of the languages or candidates that are drawn.

    Raises:
        ValueError: more languages than there are, or a share of English without English and others.
    """
    part = candidates.join(train.select("problem_id", "language"), on=["problem_id", "language"], how="semi")
    codes = sorted(part["language"].unique())
    if trial.languages > len(codes):
        raise ValueError(f"{trial.name!r}: the training split has {len(codes)} languages, {', '.join(codes)}")
    if trial.languages:
        drawn = np.random.default_rng([seed, 3]).permutation(codes)[: trial.languages].tolist()
        part = part.filter(pl.col("language").is_in(drawn))
    if trial.english:
        english, others = part.filter(pl.col("language") == PIVOT), part.filter(pl.col("language") != PIVOT)
        if not english.height or not others.height:
            raise ValueError(f"{trial.name!r}: the training split needs candidates in English and in another language")
        share = trial.english / (1 - trial.english)  # English candidates per other one
        english = _problems_of(english, others.height * share, seed)
        part = pl.concat([english, _problems_of(others, english.height / share, seed)])
    return part


def _problems_of(candidates: pl.DataFrame, wanted: float, seed: int) -> pl.DataFrame:
    """About as many candidates as are wanted, or all: whole problems of a language, whose candidates make pairs."""
    cells = candidates.select("problem_id", "language").unique(maintain_order=True)
    drawn = cells.sample(min(cells.height, round(cells.height * wanted / candidates.height)), seed=seed)
    return candidates.join(drawn, on=["problem_id", "language"], how="semi")


def quality_of_trial(
    name: str,
    trained: pl.DataFrame,
    rewards: pl.DataFrame,
    readings: pl.DataFrame,
    pool: CandidateArrays,
) -> pl.DataFrame:
    """One row of `reward_trials` per reward model; those of single languages are one, "mono", each in its language.

    Args:
        name: of the trial.
        trained: one row per reward model and training, as `train_reward_models` gives it.
        rewards: of the problems that it is judged on.
        pool: the candidates of these problems with these rewards.
    """
    kind = pl.col("reward_model").str.replace("^mono-.*$", "mono")
    rewards, trained = rewards.with_columns(kind), trained.with_columns(kind)
    within = within_problem_auc(rewards, readings).filter(pl.col("language").is_null())
    across = across_language_accuracy(rewards, readings).filter(pl.col("chosen_language").is_null())
    across = across.select("reward_model", across="accuracy", across_low="low", across_high="high")
    table = trained.group_by("reward_model", maintain_order=True).agg(
        pl.col("rows", "n_problems", "n_candidates").mean().round().cast(pl.Int32),
        trainings=pl.col("seed").n_unique().cast(pl.Int32),
        seconds=pl.col("seconds").sum() / pl.col("seed").n_unique(),
    )
    chosen = pl.DataFrame([_accuracy_of_choices(pool, model) for model in table["reward_model"]])
    for part in (within, across, chosen):
        table = table.join(part, on="reward_model", how="left")
    schema = SCHEMAS["reward_trials"]
    return table.with_columns(trial=pl.lit(name)).select(schema.names()).cast(schema)


def _accuracy_of_choices(pool: CandidateArrays, model: str) -> dict[str, Any]:
    """Columns `mixed` and `english` with their intervals; null where the model does not score these languages."""
    budget = min(pool.fewest(code) for code in pool.languages)
    row: dict[str, Any] = {"reward_model": model}
    for column, arm in (("mixed", "mixed"), ("english", PIVOT)):
        known = arm == "mixed" or arm in pool.languages
        values = arm_values(pool, arm, "best_of_k", model, [budget]) if known else None
        figures: list[float | None] = [None] * 3
        if values is not None:
            level = mean_interval(values.accuracy, of_seeds=values.of_seeds)
            figures = [values.accuracy.mean(), *map(float, (level.low[0], level.high[0]))]
        row |= dict(zip((column, f"{column}_low", f"{column}_high"), figures, strict=True))
    return row
