"""Gives every candidate a reward by every reward model of a folder.

Candidates, problems and a folder of reward models in; the rewards table and a table of what was set aside out. It does
not know which candidates are correct, and it chooses nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from scipy.special import expit

from bestofl_lib.models.contract import check_engine
from bestofl_lib.models.ray_crew import RayCluster
from bestofl_lib.problems.folds import check_disjoint, fold_of
from bestofl_lib.rewards.cache import CandidateReader, Values, cached_values
from bestofl_lib.rewards.opening import head_weights, open_reward_model
from bestofl_lib.rewards.ray_reader import RayReader
from bestofl_lib.rewards.served import open_served
from bestofl_lib.rewards.served_models import note_facts, served_facts
from bestofl_lib.rewards.spec import SCOPES, RewardModelSpec, reward_models
from bestofl_lib.rewards.steps import MOST_STEPS, aggregate_steps, beginnings, numbered_steps
from bestofl_lib.rewards.ways import STEP_WAYS
from bestofl_lib.tables import KEY, SCHEMAS, check_table
from bestofl_lib.text import counted

_NO_REWARD = "reward is not finite, or the candidate is too long for memory or the server"

SET_ASIDE = pl.Schema(KEY | {"reward_model": pl.String, "reason": pl.String})


SUMMARY = pl.Schema(
    {
        "reward_model": pl.String,
        "candidates": pl.Int64,
        "set_aside": pl.Int64,
        "truncated": pl.Int64,
        "seconds": pl.Float64,
    }
)


@dataclass(frozen=True)
class Scores:
    """The tables that scoring returns."""

    rewards: pl.DataFrame  # one row per candidate and reward model; every reward is finite
    # one row per candidate, process reward model and step: what the reward was computed from, by the first training
    steps: pl.DataFrame
    set_aside: pl.DataFrame  # one row per candidate and reward model without a usable reward, with the reason
    summary: pl.DataFrame  # one row per reward model: candidates, set_aside, truncated, seconds
    servers: tuple[dict[str, Any], ...] = ()  # what happened at each scoring that asked servers, oldest first


def score(
    candidates: pl.DataFrame,
    problems: pl.DataFrame,
    folder: str | Path,
    *,
    scope: str = "own",
    names: list[str] | None = None,
    engine: str = "local",
    device: str = "auto",
    dtype: str = "auto",
    batch_tokens: int | None = None,
    cache: Path | None = None,
) -> Scores:
    """Rewards of the candidates of `problems` by the reward models of a folder.

    Reward models on a frozen base share one pass over the candidates. What was computed is kept under `<folder>/cache`
    by content: a run that was stopped continues where it was, and of new candidates only those are computed. Candidates
    of other problems are left out, so pass the problems of one split to score that split.

    Args:
        candidates, problems: tables as in `bestofl_lib.tables`.
        folder: of reward models, as `train_reward_models` and `import_reward_model` fill it.
        scope: "own": a mono model scores its own language; "all": it scores every language. Others always score all.
        names: only these reward models.
        engine: "local": this process; "ray" or "ray://head:10001": local reward models on a Ray cluster, see
            `RayCluster`. Those behind servers are asked from this process.
        device, dtype, batch_tokens: see `RewardBackbone`.
        cache: where what models say about texts is kept; by default `<folder>/cache`.

    Raises:
        FileNotFoundError: no reward models there.
        ValueError: unknown scope or name; a reward model that learnt from a problem to be scored; a base whose weights
            changed.
    """
    if scope not in SCOPES:
        raise ValueError(f"unknown scope {scope!r}; use 'own' (mono models score their own language) or 'all'")
    folder = Path(folder)
    models, known = _selected(folder, names)
    table = candidates.join(problems.select("problem_id", "language"), on=["problem_id", "language"], how="semi")
    if not table.height:
        raise ValueError(
            f"of {counted(candidates.height, 'candidate')} none belongs to the {counted(problems.height, 'question')} "
            "given"
        )

    opening = {"device": device, "dtype": dtype, "batch_tokens": batch_tokens}
    with _connected(engine, device) as cluster:
        reader = _Reader(models, table, problems, cache or folder / "cache", scope, opening, cluster)
        parts = _score_all(reader, models, table, problems, scope)
    if models and not parts:
        raise ValueError(
            f"no reward model in {folder} scores these languages ({', '.join(sorted(table['language'].unique()))})"
        )
    return Scores(
        check_table("rewards", pl.concat([pl.DataFrame(schema=SCHEMAS["rewards"]), *(p.rewards for p in parts)])),
        pl.concat([pl.DataFrame(schema=SCHEMAS["reward_steps"]), *(p.steps for p in parts)]),
        pl.concat([pl.DataFrame(schema=SET_ASIDE), *(p.set_aside for p in parts)]).unique(maintain_order=True),
        _summary([p.summary for p in parts], known),
        tuple(facts for facts in served_facts(folder) if names is None or facts["reward_model"] in names),
    )


def _score_all(
    reader: _Reader,
    models: list[tuple[Path, RewardModelSpec]],
    table: pl.DataFrame,
    problems: pl.DataFrame,
    scope: str,
) -> list[Scores]:
    """What each reward model that scores any of the candidates says of them."""
    parts = []
    # models on one base come after each other, so that one pass and one set of features is in memory at a time
    ordered = sorted(models, key=lambda m: (not m[1].is_frozen, _group(m[1]), m[1].name, m[1].seed, m[1].fold or 0))
    first = {spec.name: spec.seed for _, spec in reversed(ordered)}
    for number, (place, spec) in enumerate(ordered, 1):
        mine = _of_model(table, spec, scope)
        if not mine.height:
            continue
        scored = problems.join(
            mine.select("problem_id", "language").unique(), on=["problem_id", "language"], how="semi"
        )
        check_disjoint(spec.trained_problems, spec.trained_questions, scored, spec.name)
        reader.counted_as = f"completions scored by reward model {number} of {len(ordered)}, {spec.name}"
        part = _score_one(reader, place, spec, mine)
        parts.append(part if spec.seed == first[spec.name] else replace(part, steps=part.steps.clear()))
    return parts


def _score_one(reader: _Reader, place: Path, spec: RewardModelSpec, mine: pl.DataFrame) -> Scores:
    """Rewards of the candidates `mine` by one reward model (or one fold of it)."""
    finished = mine.filter(pl.col("finish_reason").ne_missing("error"))
    rewards, truncated, seconds = reader.rewards(place, spec, finished)
    good = np.isfinite(rewards)
    reward = pl.Series(np.where(good, rewards, np.nan)).fill_nan(None)
    seed = pl.lit(spec.training_seed, dtype=pl.Int32)
    table = finished.select(*KEY).with_columns(reward_model=pl.lit(spec.name), reward=reward, seed=seed)
    steps = pl.DataFrame(schema=SCHEMAS["reward_steps"])
    if reader.steps is not None:
        steps = _step_table(finished, spec, reader.steps)
    bad = finished.filter(pl.Series(~good)).select(*KEY)
    failed = mine.filter(pl.col("finish_reason").eq_missing("error")).select(*KEY)
    why = "the judge gave no verdict" if spec.served and spec.served["template"] else _NO_REWARD
    reasons = ((bad, why), (failed, "no completion"))
    aside = [rows.with_columns(reward_model=pl.lit(spec.name), reason=pl.lit(reason)) for rows, reason in reasons]
    count = pl.DataFrame(
        {
            "reward_model": spec.name,
            "seed": spec.seed,
            "candidates": int(good.sum()),
            "set_aside": bad.height + failed.height,
            "truncated": int(truncated.sum()),
            "seconds": seconds,
        }
    )
    return Scores(table, steps, pl.concat(aside), count)


class _Reader:
    """Computes rewards of one model after the other; models on the same frozen base share its features."""

    def __init__(
        self,
        models: list[tuple[Path, RewardModelSpec]],
        table: pl.DataFrame,
        problems: pl.DataFrame,
        cache: Path,
        scope: str,
        opening: dict[str, Any],
        cluster: RayCluster | None,
    ):
        self._models, self._table, self._problems, self._scope = models, table, problems, scope
        self._cache, self._opening, self._cluster, self.counted_as = cache, opening, cluster, ""
        self._shared: tuple[tuple[str, ...], pl.DataFrame, Values] | None = None
        self.steps: np.ndarray | None = None  # of the last model: (candidates, steps); None: it rewards no steps

    def rewards(
        self, place: Path, spec: RewardModelSpec, finished: pl.DataFrame
    ) -> tuple[np.ndarray, np.ndarray, float]:
        """Of each finished candidate the reward and whether it was cut, and the seconds of the forward passes."""
        self.steps = None
        if not spec.is_frozen:
            values = self._values(place, spec, finished)
            if spec.way in STEP_WAYS or spec.readout == "steps":
                self.steps = values.values
                return aggregate_steps(values.values, spec.aggregation), values.truncated, values.seconds
            rewards = spec.scale * values.values[:, -1].astype(np.float64) + spec.offset
            return rewards, values.truncated, values.seconds
        if self._shared is None or self._shared[0] != _group(spec):
            self._shared = (_group(spec), *self._features(place, spec))
        _, numbered, values = self._shared
        wanted = finished.select(*KEY).with_row_index("candidate")
        found = wanted.join(numbered, on=list(KEY), how="left", maintain_order="left_right")
        rows, cut = found["row"].to_numpy(), np.zeros(finished.height, dtype=bool)
        with np.errstate(invalid="ignore", over="ignore"):
            rewards = values.values[rows].astype(np.float64) @ head_weights(place, spec) + spec.offset
        cut[found["candidate"].to_numpy()[values.truncated[rows]]] = True
        if spec.readout == "steps":
            self.steps = _steps_of(found, expit(rewards), finished.height)
            rewards = aggregate_steps(self.steps, spec.aggregation)
        return rewards, cut, values.seconds

    def _features(self, place: Path, spec: RewardModelSpec) -> tuple[pl.DataFrame, Values]:
        """Row numbers and features of all candidates that a model on this base scores."""
        needed = self._table.filter(pl.col("finish_reason").ne_missing("error"))
        languages = [other.language for _, other in self._models if _group(other) == _group(spec)]
        if self._scope == "own" and None not in languages:
            needed = needed.filter(pl.col("language").is_in(languages))
        if spec.readout == "steps":
            needed = beginnings(needed)
        return needed.select(*KEY).with_row_index("row"), self._values(place, spec, needed)

    def _values(self, place: Path, spec: RewardModelSpec, table: pl.DataFrame) -> Values:
        """What a model says of candidates: known, or asked of this process, the cluster or servers."""
        reader: CandidateReader
        if spec.tuning == "served":
            reader = open_served(place, spec)
        elif self._cluster is not None:
            options = {name: value for name, value in self._opening.items() if name != "device"}
            reader = RayReader(place, spec, self._cluster, options)
        else:
            reader = open_reward_model(place, spec, **self._opening)
        try:
            return cached_values(reader, table, self._problems, self._cache, self.counted_as)
        finally:
            if facts := getattr(reader, "facts", None):
                note_facts(place, facts)


@contextlib.contextmanager
def _connected(engine: str, device: str) -> Iterator[RayCluster | None]:
    """The cluster that an engine names, connected; None: this process.

    Raises:
        ValueError: an unknown engine.
    """
    if engine == "local":
        yield None
        return
    check_engine(engine)
    cluster = RayCluster(engine, device)
    with cluster.connected():
        yield cluster


def _selected(folder: Path, names: list[str] | None) -> tuple[list[tuple[Path, RewardModelSpec]], list[str]]:
    """The reward models of the folder that are asked for, and the names of all of them."""
    models = reward_models(folder)
    known = sorted({spec.name for _, spec in models})
    unknown = sorted(set(names or []) - set(known))
    if unknown:
        raise ValueError(f"no reward model {', '.join(map(repr, unknown))} in {folder}; it has: {', '.join(known)}")
    return [(place, spec) for place, spec in models if names is None or spec.name in names], known


def _group(spec: RewardModelSpec) -> tuple[str, ...]:
    """What models on a frozen base must have in common to share its features."""
    return tuple(
        str(x) for x in (spec.tuning, spec.readout, spec.base, spec.weights, spec.layers, spec.max_tokens, spec.style)
    )


def _steps_of(found: pl.DataFrame, rewards: np.ndarray, n_candidates: int) -> np.ndarray:
    """(candidates, steps), as `aggregate_steps` takes it; a candidate with a step that has no reward has none at all.

    Args:
        found: one row per step, in order: `candidate`, its row.
        rewards: (steps,).
    """
    owner = found["candidate"].to_numpy()
    behind = found.select(pl.int_range(pl.len(), 0, -1).over("candidate")).to_series().to_numpy()
    steps = np.full((n_candidates, MOST_STEPS), np.nan)
    steps[owner, MOST_STEPS - behind] = rewards
    steps[owner[~np.isfinite(rewards)]] = np.nan
    return steps


def _step_table(finished: pl.DataFrame, spec: RewardModelSpec, rewards: np.ndarray) -> pl.DataFrame:
    """The rewards of steps, one row each."""
    kept = [numbered_steps(row) for row in rewards]
    table = finished.select(*KEY).with_columns(
        reward_model=pl.lit(spec.name),
        step=pl.Series([[number for number, _ in row] for row in kept], dtype=pl.List(pl.Int32)),
        reward=pl.Series([[reward for _, reward in row] for row in kept], dtype=pl.List(pl.Float64)),
    )
    return table.filter(pl.col("step").list.len() > 0).explode("step", "reward")


def _summary(counts: list[pl.DataFrame], known: list[str]) -> pl.DataFrame:
    """One row per reward model: its folds added up, and of several trainings the one with the largest numbers."""
    if not counts:
        return pl.DataFrame(schema=SUMMARY)
    order = {name: i for i, name in enumerate(known)}
    total = (
        pl.concat(counts)
        .group_by("reward_model", "seed", maintain_order=True)
        .agg(pl.col("candidates", "set_aside", "truncated").sum(), pl.col("seconds").max())
        .group_by("reward_model", maintain_order=True)
        .agg(pl.exclude("seed").max())
    )
    return total.sort(pl.col("reward_model").replace_strict(order))


def _of_model(table: pl.DataFrame, spec: RewardModelSpec, scope: str) -> pl.DataFrame:
    """The candidates that one reward model scores."""
    if scope == "own" and spec.language is not None:
        table = table.filter(pl.col("language") == spec.language)
    if spec.fold is not None:
        table = table.filter(
            pl.Series(fold_of(table["problem_id"], spec.folds, spec.seed), dtype=pl.Int64) == spec.fold
        )
    return table
