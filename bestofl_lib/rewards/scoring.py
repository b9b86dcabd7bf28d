"""Gives every candidate a reward by every reward model of a folder.

Candidates, problems and a folder of reward models in; the rewards table and a table of what was set aside out. It does
not know which candidates are correct and chooses nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from bestofl_lib.problems.folds import check_disjoint, fold_of
from bestofl_lib.rewards.backbone import RewardBackbone
from bestofl_lib.rewards.cache import Values, cached_values
from bestofl_lib.rewards.training import RewardModelSpec, head_weights, open_reward_model, reward_models
from bestofl_lib.tables import KEY, SCHEMAS, check_table

SCOPES = ("own", "all")
FROZEN = ("head", "probe")  # kinds that leave the base as it is, so that several share a pass

SET_ASIDE = pl.Schema(KEY | {"reward_model": pl.String, "reason": pl.String})


@dataclass(frozen=True)
class Scores:
    """What scoring gives: two tables and one about them."""

    rewards: pl.DataFrame  # one row per candidate and reward model; every reward is finite
    set_aside: pl.DataFrame  # one row per candidate and reward model without a usable reward, with the reason
    summary: pl.DataFrame  # one row per reward model: candidates, set_aside, truncated, seconds


def score(
    candidates: pl.DataFrame,
    problems: pl.DataFrame,
    folder: str | Path,
    *,
    scope: str = "own",
    names: list[str] | None = None,
    device: str = "auto",
    dtype: str = "auto",
    batch_tokens: int | None = None,
) -> Scores:
    """Rewards of the candidates of `problems` by the reward models of a folder.

    Reward models on a frozen base ("head", "probe") share one pass over the candidates. What was computed is kept under
    `<folder>/cache` by content: a stopped run goes on where it was, and new candidates are scored alone. Candidates of
    other problems are left out, so pass the problems of one split to score that split.

    Args:
        candidates, problems: tables as in `bestofl_lib.tables`.
        folder: of reward models, as `train_reward_models` and `import_reward_model` fill it.
        scope: "own": a mono model scores its own language; "all": it scores every language. Others always score all.
        names: only these reward models.
        device, dtype, batch_tokens: see `RewardBackbone`.

    Raises:
        FileNotFoundError: no reward models there.
        ValueError: unknown scope or name; a reward model that learnt from a problem to be scored; a base whose weights changed.
    """
    if scope not in SCOPES:
        raise ValueError(f"unknown scope {scope!r}; use 'own' (mono models score their own language) or 'all'")
    folder = Path(folder)
    models = reward_models(folder)
    known = sorted({spec.name for _, spec in models})
    unknown = sorted(set(names or []) - set(known))
    if unknown:
        raise ValueError(f"no reward model {', '.join(map(repr, unknown))} in {folder}; it has: {', '.join(known)}")
    models = [(place, spec) for place, spec in models if names is None or spec.name in names]
    table = candidates.join(problems.select("problem_id", "language"), on=["problem_id", "language"], how="semi")
    if not table.height:
        raise ValueError(f"none of the {candidates.height} candidates belongs to the {problems.height} questions given")

    parts: list[pl.DataFrame] = []
    aside: list[pl.DataFrame] = []
    counts: list[dict[str, object]] = []
    shared: tuple[str, RewardBackbone, pl.DataFrame, Values] | None = None
    # heads of one base stand together, so that one pass and one set of features is in memory at a time
    for place, spec in sorted(
        models,
        key=lambda m: (m[1].kind not in FROZEN, m[1].kind, m[1].weights, str(m[1].layers), m[1].name, m[1].fold or 0),
    ):
        mine = _of_model(table, spec, scope)
        if not mine.height:
            continue
        scored = problems.join(
            mine.select("problem_id", "language").unique(), on=["problem_id", "language"], how="semi"
        )
        check_disjoint(spec.trained_problems, spec.trained_questions, scored, spec.name)
        finished = mine.filter(pl.col("finish_reason").ne_missing("error"))
        if spec.kind in FROZEN:
            group = f"{spec.kind} {spec.base} {spec.weights} {spec.layers} {spec.max_tokens} {spec.style}"
            if shared is None or shared[0] != group:
                backbone = open_reward_model(place, spec, device, dtype, batch_tokens)
                of_group = [s for _, s in models if s.kind == spec.kind and
                            f"{s.kind} {s.base} {s.weights} {s.layers} {s.max_tokens} {s.style}" == group]  # fmt: skip
                needed = table.filter(pl.col("finish_reason").ne_missing("error"))
                if scope == "own" and all(s.name.startswith("mono-") for s in of_group):
                    needed = needed.filter(pl.col("language").is_in([s.name.removeprefix("mono-") for s in of_group]))
                numbered = needed.select(*KEY).with_row_index("row")
                shared = (group, backbone, numbered, cached_values(backbone, needed, problems, folder / "cache"))
            _, backbone, numbered, values = shared
            rows = finished.join(numbered, on=list(KEY), how="left", maintain_order="left")["row"].to_numpy()
            with np.errstate(invalid="ignore", over="ignore"):
                rewards = values.values[rows].astype(np.float64) @ head_weights(place) + spec.offset
            truncated, seconds = values.truncated[rows], values.seconds
        else:
            backbone = open_reward_model(place, spec, device, dtype, batch_tokens)
            values = cached_values(backbone, finished, problems, folder / "cache")
            rewards = values.values[:, 0].astype(np.float64) + spec.offset
            truncated, seconds = values.truncated, values.seconds
            del backbone
        good = np.isfinite(rewards)
        parts.append(
            finished.select(*KEY).with_columns(
                reward_model=pl.lit(spec.name), reward=pl.Series(np.where(good, rewards, np.nan)).fill_nan(None)
            )
        )
        bad = finished.filter(pl.Series(~good)).select(*KEY)
        aside.append(
            bad.with_columns(
                reward_model=pl.lit(spec.name), reason=pl.lit("reward is not finite, or did not fit in memory")
            )
        )
        failed = mine.filter(pl.col("finish_reason").eq_missing("error")).select(*KEY)
        aside.append(failed.with_columns(reward_model=pl.lit(spec.name), reason=pl.lit("no completion")))
        counts.append({"reward_model": spec.name, "candidates": int(good.sum()), "set_aside": bad.height + failed.height,
                       "truncated": int(truncated.sum()), "seconds": seconds})  # fmt: skip
    if not counts:
        raise ValueError(
            f"no reward model in {folder} scores these languages ({', '.join(sorted(table['language'].unique()))})"
        )
    empty = pl.DataFrame(schema=SCHEMAS["rewards"])
    order = {name: i for i, name in enumerate(known)}
    summary = pl.DataFrame(counts).group_by("reward_model", maintain_order=True).agg(
        pl.col("candidates", "set_aside", "truncated").sum(), pl.col("seconds").max()
    ).sort(pl.col("reward_model").replace_strict(order))  # fmt: skip
    return Scores(
        check_table("rewards", pl.concat([empty, *parts])),
        pl.concat([pl.DataFrame(schema=SET_ASIDE), *aside]),
        summary,
    )


def _of_model(table: pl.DataFrame, spec: RewardModelSpec, scope: str) -> pl.DataFrame:
    """The candidates that one reward model scores."""
    if scope == "own" and spec.name.startswith("mono-"):
        table = table.filter(pl.col("language") == spec.name.removeprefix("mono-"))
    if spec.fold is not None:
        table = table.filter(
            pl.Series(fold_of(table["problem_id"], spec.folds, spec.seed), dtype=pl.Int64) == spec.fold
        )
    return table
