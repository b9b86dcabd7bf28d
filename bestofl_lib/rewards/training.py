"""Trains reward models: one language (mono), all languages (multi), across languages (cross), at equal training rows.

Tables and a base model in, a folder of reward models and a table about them out. It does not read answers or score
test problems, and it does not know notebooks.

Only the abstracts of the paper are known to us, so base, loss, tuning and rows are parameters, and their defaults are
our choice.
"""

from __future__ import annotations

import gc
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors.torch import save

from bestofl_lib.files import replace_file
from bestofl_lib.languages import check_languages
from bestofl_lib.models.identity import fingerprint, folder_hash
from bestofl_lib.problems.folds import fold_of, question_hashes
from bestofl_lib.progress import tracked
from bestofl_lib.rewards import forecast
from bestofl_lib.rewards.backbone import RewardBackbone
from bestofl_lib.rewards.cache import cached_values
from bestofl_lib.rewards.finetuning import finetune
from bestofl_lib.rewards.heads import fit_head, fit_values
from bestofl_lib.rewards.opening import read_by
from bestofl_lib.rewards.pairs import available_pairs, reward_model_names, training_pairs
from bestofl_lib.rewards.readouts import Likelihood, PrefixProbe, Probe
from bestofl_lib.rewards.spec import TRAINED, RewardModelSpec, TrainingSettings, check_peft
from bestofl_lib.rewards.step_texts import OwnSteps
from bestofl_lib.rewards.steps import beginnings, step_ends
from bestofl_lib.tables import KEY
from bestofl_lib.text import counted

CHEAP_TRAININGS = 3  # of each reward model where the base is frozen


@dataclass(frozen=True)
class _Data:
    """What all reward models of one call are trained on."""

    table: pl.DataFrame  # training candidates: KEY, completion, is_correct and, with labelled steps, targets
    problems: pl.DataFrame
    base: str | Path
    folder: Path
    settings: TrainingSettings
    device: str
    batch_tokens: int | None
    cache: Path


@dataclass(frozen=True)
class _Job:
    """One reward model to be trained."""

    pairs: pl.DataFrame
    folder: Path
    spec: RewardModelSpec
    row: dict[str, Any]  # of TRAINED, as far as it is known
    settings: TrainingSettings  # with the seed of this training

    def finish(self, max_tokens: int, scale: float, offset: float, numbers: dict[str, Any]) -> dict[str, Any]:
        """Write reward_model.json, which makes the folder a finished reward model, and return the table's row."""
        row = self.row | numbers | {"status": "trained"}
        digest = folder_hash(self.folder)
        spec = replace(self.spec, max_tokens=max_tokens, scale=scale, offset=offset, result=row, digest=digest)
        spec.write(self.folder)
        return row


def train_reward_models(
    candidates: pl.DataFrame,
    readings: pl.DataFrame,
    problems: pl.DataFrame,
    *,
    base: str | Path,
    folder: str | Path,
    settings: TrainingSettings | None = None,
    variants: Sequence[str] = ("mono", "multi", "cross"),
    trainings: int | None = 1,
    device: str = "auto",
    batch_tokens: int | None = None,
    cache: Path | None = None,
    step_labels: pl.DataFrame | None = None,
) -> pl.DataFrame:
    """Train the reward models of the variants, all on the same number of pairs, and save them under `folder`.

    Training pairs come from candidates of `problems` only, so pass the problems of the training split (or all of them
    with cross-fitting folds). A reward model that exists already with the same recipe is kept. Unreadable answers are
    wrong candidates.

    Args:
        candidates, readings, problems: tables as in `bestofl_lib.tables`.
        base: the model that the reward models start from: the policy, or any folder or Hub id.
        folder: where they go, one sub-folder per name. Inside it: seed-1, seed-2, … for further trainings, and
            fold-0, fold-1, … with cross-fitting. Trainings of other seeds found there are removed, because everything
            in the folder is scored.
        settings: by default `TrainingSettings()`.
        variants: "mono" (one model per language), "multi", "cross", or single ones such as "mono-en".
        trainings: of each reward model, with the seeds settings.seed, settings.seed + 1, …; None: 3 where the base is
            frozen and a training is cheap, else 1.
        device, batch_tokens: see `RewardBackbone`; they change no recipe. Several GPUs: start the process with
            `accelerate launch`.
        cache: where what a frozen base says about texts is kept; by default `<folder>/cache`.
        step_labels: table of readout "steps": only candidates whose steps are labelled are trained on. Every model
            learns the labels of the candidates in its pairs; how a step is labelled compares no two candidates, so
            "multi" and "cross" differ in these candidates alone.

    Returns:
        TRAINED, one row per reward model, training seed and fold.

    Raises:
        ValueError: an unknown variant; no candidates of these problems; `lora` without peft; readout "steps" without
            labels of steps.
    """
    settings = settings or TrainingSettings()
    if settings.tuning == "lora":
        check_peft("tuning 'lora'")
    table = _training_candidates(candidates, readings, problems)
    if settings.readout == "steps":
        table = with_targets(table, step_labels, settings.step_target)
    names = reward_model_names(variants, check_languages(sorted(table["language"].unique())))
    kept = cache or Path(folder) / "cache"
    data = _Data(table, problems, base, Path(folder), settings, device, batch_tokens, kept)
    count = trainings or (CHEAP_TRAININGS if settings.tuning == "frozen" else 1)
    seeds = [settings.seed + i for i in range(count)]
    _remove_other_seeds(data.folder, names, seeds[1:])
    jobs, found = _plan(data, names, seeds)
    if jobs:
        found += (_train_heads if settings.tuning == "frozen" else _train_weights)(jobs, data)
    order = {name: i for i, name in enumerate(names)}
    found.sort(key=lambda row: (order[row["reward_model"]], row["seed"], -1 if row["fold"] is None else row["fold"]))
    return pl.DataFrame(found, schema=TRAINED)


def _remove_other_seeds(folder: Path, names: Sequence[str], seeds: Sequence[int]) -> None:
    for place in (place for name in names for place in folder.glob(f"{name}/seed-*")):
        if place.name not in {f"seed-{seed}" for seed in seeds}:
            shutil.rmtree(place)


def _parts(data: _Data, seeds: Sequence[int]) -> list[tuple[int, int | None, pl.DataFrame]]:
    """Seed, fold and training candidates of every training of a reward model."""
    if not data.settings.folds:
        return [(seed, None, data.table) for seed in seeds]
    parts: list[tuple[int, int | None, pl.DataFrame]] = []
    for seed in seeds:
        folds = pl.Series("fold", fold_of(data.table["problem_id"], data.settings.folds, seed))
        parts += [(seed, k, data.table.filter(folds != k)) for k in range(data.settings.folds)]
    return parts


def _plan(data: _Data, names: Sequence[str], seeds: Sequence[int]) -> tuple[list[_Job], list[dict[str, Any]]]:
    """What will be trained, and rows of TRAINED for what will not."""
    settings, table, parts = data.settings, data.table, _parts(data, seeds)
    available = {(name, seed, fold): available_pairs(part, name) for seed, fold, part in parts for name in names}
    trainable = [name for name in names if all(available[name, seed, fold] for seed, fold, _ in parts)]
    if not trainable:
        data.folder.mkdir(parents=True, exist_ok=True)  # scoring then finds no models, and says so
    used = min([settings.rows] + [available[name, seed, fold] for name in trainable for seed, fold, _ in parts])
    reason = f"no pairs: {int(table['is_correct'].sum())} of {table.height} training candidates are correct"
    weights = fingerprint(data.base, settings.revision)
    content = _content(table, data.problems)
    hashes: dict[str, list[str]] = {}
    for digest, problem in question_hashes(data.problems).items():
        hashes.setdefault(problem, []).append(digest)
    jobs, found = [], []
    for name in names:
        for seed, fold, part in parts:
            mine = replace(settings, seed=seed)
            place = data.folder / name / ("" if seed == seeds[0] else f"seed-{seed}")
            place = place if fold is None else place / f"fold-{fold}"
            row = dict.fromkeys(TRAINED) | {
                "reward_model": name, "seed": seed, "fold": fold, "available": available[name, seed, fold],
                "loss": settings.loss, "readout": settings.readout, "tuning": settings.tuning, "folder": str(place),
            }  # fmt: skip
            if name not in trainable:
                found.append(row | {"rows": 0, "status": reason})
                continue
            pairs = training_pairs(part, name, used, seed, settings.cross_shares)
            recipe = mine.recipe(weights, pairs, content)
            aggregation = settings.aggregation if settings.readout == "steps" else ""
            if (known := _kept(place, recipe)) is not None:
                if known.aggregation != aggregation:
                    replace(known, aggregation=aggregation).write(place)
                found.append(row | (known.result or {}) | {"status": "kept", "folder": str(place)})
                continue
            ids = sorted(pairs["problem_id"].unique())
            row |= {"rows": pairs.height, "n_problems": len(ids), "n_candidates": _distinct_candidates(pairs)}
            spec = RewardModelSpec(
                name, settings.readout, settings.tuning, str(data.base), settings.revision, weights, settings.style,
                settings.layers, 0, settings.dtype, loss=settings.loss, fold=fold, folds=settings.folds,
                seed=seed, recipe=recipe, aggregation=aggregation, trained_problems=tuple(ids),
                trained_questions=tuple(digest for p in ids for digest in hashes.get(p, [])),
            )  # fmt: skip
            jobs.append(_Job(pairs, place, spec, row, mine))
    return jobs, found


def _kept(place: Path, recipe: str) -> RewardModelSpec | None:
    """The reward model in this folder if it has this recipe and neither its record nor its weights are damaged."""
    try:
        known = RewardModelSpec.read(place)
    except (FileNotFoundError, ValueError):
        return None
    return known if known.recipe == recipe and known.digest == folder_hash(place) else None


def _train_heads(jobs: list[_Job], data: _Data) -> list[dict[str, Any]]:
    """All heads on the features of one pass over the candidates that any of them needs."""
    readout = {"probe": Probe, "steps": PrefixProbe}.get(data.settings.readout, lambda: None)()
    backbone = RewardBackbone(data.base, readout=readout, dtype=data.settings.dtype, **_opening(data))
    if not backbone.is_causal:
        raise ValueError(
            f"base {str(data.base)!r} ({type(backbone.model).__name__}) is not a causal backbone with a linear head; "
            "use tuning 'full'"
        )
    sides = [_sides(job.pairs, data.table) for job in jobs]
    needed = np.unique(np.concatenate([rows for pair in sides for rows in pair]))
    settings, n_pairs = data.settings, max(job.pairs.height for job in jobs)
    texts = data.table[needed].with_row_index("place")
    texts = beginnings(texts) if settings.readout == "steps" else texts
    wanted = texts, data.problems, data.cache
    print(forecast.of_pass(backbone, *wanted, settings, len(jobs), n_pairs), flush=True)
    features = cached_values(backbone, *wanted)
    place = np.full(data.table.height, -1)
    place[needed] = np.arange(len(needed))
    done: list[dict[str, Any]] = []
    begun = time.monotonic()
    for job, (chosen, rejected) in zip(tracked(jobs, "reward models trained", shown=False), sides, strict=True):
        started = time.monotonic()
        if len(done) == 1 and (started - begun) * len(jobs) > forecast.WORTH_SAYING:
            print(forecast.of_rest(started - begun, 1, len(jobs)), flush=True)
        scales = readout.feature_scales(backbone.hidden_size) if readout else None
        if settings.readout == "steps":
            mine = np.isin(texts["place"].to_numpy(), place[np.concatenate([chosen, rejected])])
            values, of_step = features.values[mine], texts.filter(pl.Series(mine))
            targets = of_step.select(pl.col("targets").list.get(pl.col("step"))).to_series().to_numpy()
            head = fit_values(values, targets, _numbers(of_step["problem_id"]), feature_scales=scales)
        else:
            sides_of = features.values[place[chosen]], features.values[place[rejected]]
            head = fit_head(*sides_of, _numbers(job.pairs["problem_id"]), settings.loss, feature_scales=scales)
        weight = torch.tensor(head.weights, dtype=torch.float32)[None]
        replace_file(job.folder / "head.safetensors", save({"probe.weight" if readout else "score.weight": weight}))
        cut = features.truncated[np.isin(texts["place"].to_numpy(), place[np.concatenate([chosen, rejected])])]
        numbers = {
            "held_out_accuracy": None if np.isnan(head.held_out_accuracy) else head.held_out_accuracy,
            "truncated": int(cut.sum()),
            "seconds": time.monotonic() - started,
        }
        done.append(job.finish(backbone.max_tokens, 1.0, head.offset, numbers))
    return done


def _train_weights(jobs: list[_Job], data: _Data) -> list[dict[str, Any]]:
    """Each model on its own, as an adapter ("lora") or with all weights ("full")."""
    done = []
    for number, job in enumerate(tracked(jobs, "reward models trained", shown=False), 1):
        started, settings = time.monotonic(), job.settings
        backbone = _trainable_backbone(replace(data, settings=settings))
        chosen, rejected = _sides(job.pairs, data.table)
        rows = np.unique(np.concatenate([chosen, rejected]))
        texts, truncated = _texts(backbone, data, data.table[rows])
        if number == 1:
            print(forecast.of_weights(backbone, texts, settings, len(jobs), job.pairs.height), flush=True)
        text = dict(zip(rows.tolist(), texts, strict=True))
        pairs = [(text[int(a)], text[int(b)]) for a, b in zip(chosen, rejected, strict=True)]
        aside = _held_out(job.pairs, settings)
        learnt = [pair for pair, out in zip(pairs, aside, strict=True) if not out]
        held_out = [pair for pair, out in zip(pairs, aside, strict=True) if out]
        result = finetune(backbone, learnt, held_out, settings, job.folder, job.spec.recipe)
        if result is not None:
            seconds = time.monotonic() - started
            numbers = {
                "held_out_accuracy": result.held_out_accuracy,
                "truncated": int(truncated.sum()),
                "seconds": seconds,
            }
            done.append(job.finish(backbone.max_tokens, result.scale, result.offset, numbers))
            print(f"{number} of {len(jobs)}: {job.spec.name}, {seconds:,.0f} seconds", flush=True)
        del backbone
        gc.collect()
    return done


def _trainable_backbone(data: _Data) -> RewardBackbone:
    """The base as it is trained: adapted weights stay in `dtype`; weights that are trained themselves are float32."""
    settings = data.settings
    readout = None if settings.readout == "head" else Likelihood()  # anything that opens it as a language model
    dtype = settings.dtype if settings.tuning == "lora" else "float32"
    backbone = RewardBackbone(data.base, readout=readout, dtype=dtype, **_opening(data))
    if settings.readout == "steps":
        read_by(backbone, OwnSteps)
    if not backbone.is_causal and settings.tuning == "lora":
        raise ValueError(
            f"base {str(data.base)!r} ({type(backbone.model).__name__}): lora needs a causal backbone; use 'full'"
        )
    return backbone


def _texts(backbone: RewardBackbone, data: _Data, part: pl.DataFrame) -> tuple[list[dict[str, Any]], np.ndarray]:
    """Token ids of training candidates, and which were cut."""
    question = {
        (p, language): q for p, language, q in data.problems.select("problem_id", "language", "question").iter_rows()
    }
    prompts: dict[tuple[str, str], int] = {}
    owner = [
        prompts.setdefault((question[p, language], language), len(prompts))
        for p, language in part.select("problem_id", "language").iter_rows()
    ]
    texts, truncated = backbone.whole_texts(list(prompts), owner, part["completion"].to_list())
    if data.settings.readout == "steps":
        for text, marks, targets in zip(texts, backbone.texts.marks or [], part["targets"].to_list(), strict=True):
            tokens = [text["start"] + mark - 1 for mark in marks]
            text["targets"] = list(zip(tokens, targets[len(targets) - len(marks) :], strict=True))
    return texts, truncated


def _held_out(pairs: pl.DataFrame, settings: TrainingSettings) -> list[bool]:
    """Which pairs belong to the problems that are held out, chosen by a hash of their ids: the same for all models."""
    if not settings.hold_out:
        return [False] * pairs.height
    aside = [fold < settings.hold_out * 1000 for fold in fold_of(pairs["problem_id"], 1000, settings.seed + 1)]
    if all(aside) or not any(aside):
        raise ValueError(
            f"hold_out={settings.hold_out} of {pairs['problem_id'].n_unique()} training problems leaves nothing to "
            f"{'learn from' if all(aside) else 'hold out'}; use another share, or 0"
        )
    return aside


def _opening(data: _Data) -> dict[str, Any]:
    settings = data.settings
    return {
        "revision": settings.revision,
        "style": settings.style,
        "layers": settings.layers,
        "max_tokens": settings.max_tokens,
        "seed": settings.seed,
        "device": data.device,
        "batch_tokens": data.batch_tokens,
    }


def _training_candidates(candidates: pl.DataFrame, readings: pl.DataFrame, problems: pl.DataFrame) -> pl.DataFrame:
    """KEY, completion, is_correct of the finished candidates of these problems."""
    wanted = candidates.filter(pl.col("finish_reason").ne_missing("error")).join(
        problems.select("problem_id", "language"), on=["problem_id", "language"], how="semi"
    )
    if not wanted.height:
        raise ValueError(
            f"of {counted(candidates.height, 'candidate')} none belongs to the "
            f"{counted(problems['problem_id'].n_unique(), 'training problem')}; "
            "draw candidates for that split first, or cross-fit with folds=5 on data without one"
        )
    table = wanted.select(*KEY, "completion").join(readings.select(*KEY, "is_correct"), on=list(KEY), how="left")
    unread = table["is_correct"].null_count()
    if unread:
        raise ValueError(
            f"{unread:,} of {counted(table.height, 'training candidate')} without a reading; run 03_check_answers first"
        )
    return table.sort(list(KEY))


def with_targets(table: pl.DataFrame, step_labels: pl.DataFrame | None, target: str) -> pl.DataFrame:
    """The training candidates whose steps are labelled, with the `targets` of their steps, in order.

    Args:
        target: "share" of the rollouts that reach the right answer, or whether "any" does.

    Raises:
        ValueError: there are no labels for them, or labels of other steps than those of today's rules.
    """
    remedy = "run 12_label_steps first, or use readout 'verifier', which needs the answers alone"
    if step_labels is None:
        raise ValueError(f"readout 'steps' learns labels of steps, and there are none; {remedy}")
    reached = pl.col("right") / pl.col("rollouts") if target == "share" else (pl.col("right") > 0).cast(pl.Float64)
    found = step_labels.sort(*KEY, "step").group_by(KEY.keys(), maintain_order=True).agg("end", targets=reached)
    table = table.join(found, on=list(KEY), how="inner", maintain_order="left")
    if not table.height:
        raise ValueError(f"no step of these training candidates is labelled; {remedy}")
    ends = pl.Series([step_ends(text) for text in table["completion"]], dtype=pl.List(pl.Int32))
    if not (table["end"] == ends).all():
        raise ValueError(
            "the labelled steps end elsewhere than the steps of these candidates; run 12_label_steps again"
        )
    return table.drop("end")


def _numbers(problem_ids: pl.Series) -> np.ndarray:
    return problem_ids.rank("dense").to_numpy()


def _content(table: pl.DataFrame, problems: pl.DataFrame) -> dict[tuple[str, str, int], str]:
    """Question, completion and targets of steps of each training candidate, by key."""
    question = {
        (p, language): q for p, language, q in problems.select("problem_id", "language", "question").iter_rows()
    }
    content = {
        (p, language, i): f"{question[p, language]}\0{completion}"
        for p, language, i, completion in table.select(*KEY, "completion").iter_rows()
    }
    if "targets" in table.columns:
        for p, language, i, targets in table.select(*KEY, "targets").iter_rows():
            content[p, language, i] += f"\0{targets}"
    return content


def _distinct_candidates(pairs: pl.DataFrame) -> int:
    sides = [
        pairs.select("problem_id", language=f"{side}_language", sample_index=f"{side}_index")
        for side in ("chosen", "rejected")
    ]
    return pl.concat(sides).n_unique()


def _sides(pairs: pl.DataFrame, table: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers in table of the chosen and of the rejected candidates."""
    numbered = table.select(*KEY).with_row_index("row")
    sides = []
    for side in ("chosen", "rejected"):
        keys = pairs.select("problem_id", language=f"{side}_language", sample_index=f"{side}_index")
        sides.append(keys.join(numbered, on=list(KEY), how="left", maintain_order="left")["row"].to_numpy())
    return sides[0], sides[1]
