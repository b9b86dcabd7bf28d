"""Trains reward models: one language (mono), all languages (multi), across languages (cross), at equal training rows.

Tables and a base model in, a folder of reward models and a table about them out. It does not read answers or score
test problems, and it does not know notebooks.

A reward model is a folder with `reward_model.json` and, by kind:

* head: `head.safetensors`, the `score.weight` of `AutoModelForSequenceClassification` over a frozen base named in
  the JSON (an ordinary checkpoint is written by `export_reward_model`);
* probe: `head.safetensors`, one weight per number that a probe reads off the frozen base (see `RewardBackbone`);
* lora: an adapter of `peft` over the base named in the JSON;
* full: an ordinary checkpoint with its tokenizer;
* imported: nothing else; the JSON names the folder or Hub id.

Of what the paper does we know only abstracts; base, loss, tuning and rows are parameters, and the defaults are our choice.
"""

from __future__ import annotations

import gc
import hashlib
import importlib.util
import json
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from safetensors.torch import load_file, save
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid
from transformers import PrinterCallback, Trainer, TrainingArguments
from transformers.utils import logging as transformers_logging

from bestofl_lib.languages import check_languages
from bestofl_lib.models.identity import fingerprint
from bestofl_lib.problems.folds import fold_of, question_hashes
from bestofl_lib.rewards.backbone import RewardBackbone
from bestofl_lib.rewards.cache import cached_values
from bestofl_lib.rewards.heads import fit_head
from bestofl_lib.rewards.pairs import available_pairs, reward_model_names, training_pairs
from bestofl_lib.runs import replace_file
from bestofl_lib.tables import KEY

LOSSES = ("pairwise", "bce")
TUNINGS = ("head", "probe", "lora", "full")

# one row per reward model and fold
TRAINED = pl.Schema(
    {
        "reward_model": pl.String,
        "fold": pl.Int32,  # null without cross-fitting
        "rows": pl.Int32,  # training pairs; the same for all models trained together; 0: it could not be trained
        "available": pl.Int64,  # pairs that existed
        "n_problems": pl.Int32,  # problems its pairs come from
        "n_candidates": pl.Int32,  # different candidates in its pairs
        "loss": pl.String,
        "tuning": pl.String,
        "held_out_accuracy": pl.Float64,  # share of held-out training pairs in the right order; null where none were held out
        "truncated": pl.Int32,  # candidates of its pairs that were cut to fit
        "seconds": pl.Float64,  # of this model alone; what all share is not in it
        "status": pl.String,  # "trained", "kept" (was there already, same recipe) or "no pairs"
        "folder": pl.String,
    }
)


@dataclass(frozen=True)
class RewardModelSpec:
    """What `reward_model.json` says."""

    name: str  # "mono-en", "multi", "cross" or an imported name
    kind: str  # "head", "probe", "lora", "full" or "imported"
    base: str  # folder or Hub id of the base (the model itself when imported)
    revision: str | None  # Hub revision of the base
    weights: str  # fingerprint of the base's weights: another policy under the same name is noticed
    style: str  # prompt style of the texts it read
    layers: int | None  # layers kept of the base; null: all
    max_tokens: int  # longest text; longer completions lose their beginning
    offset: float = 0.0  # added to the head's output
    loss: str | None = None
    fold: int | None = None  # scores only problems of this fold
    folds: int = 0
    seed: int = 0
    recipe: str = ""  # hash of all that shaped it; the same recipe is not trained twice
    result: dict[str, Any] | None = None  # its row of the table of training
    trained_problems: tuple[str, ...] = ()
    trained_questions: tuple[str, ...] = ()  # hashes of normalised questions, in all languages

    def write(self, folder: Path) -> None:
        replace_file(folder / "reward_model.json", json.dumps(asdict(self), ensure_ascii=False, indent=1).encode())

    @staticmethod
    def read(folder: Path) -> RewardModelSpec:
        """The spec of one folder.

        Raises:
            ValueError: the file is not one that this version wrote.
        """
        path = folder / "reward_model.json"
        try:
            content = json.loads(path.read_text("utf8"))
            content["trained_problems"] = tuple(content["trained_problems"])
            content["trained_questions"] = tuple(content["trained_questions"])
            unknown = set(content) - {field.name for field in fields(RewardModelSpec)}
            if unknown:
                raise ValueError(f"unknown fields {', '.join(sorted(unknown))}")
            return RewardModelSpec(**content)
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is not a reward model's description ({error}); delete the folder and train again"
            ) from error


def train_reward_models(
    candidates: pl.DataFrame,
    readings: pl.DataFrame,
    problems: pl.DataFrame,
    *,
    base: str | Path,
    folder: str | Path,
    variants: Sequence[str] = ("mono", "multi", "cross"),
    loss: str = "pairwise",
    tuning: str = "head",
    rows: int = 4000,
    cross_shares: str = "natural",
    seed: int = 0,
    folds: int = 0,
    style: str = "native",
    revision: str | None = None,
    layers: int | None = None,
    max_tokens: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    batch_tokens: int | None = None,
    epochs: float | None = None,
    learning_rate: float | None = None,
    batch_pairs: int | None = None,
) -> pl.DataFrame:
    """Train the reward models of the variants, all on the same number of pairs, and save them under `folder`.

    Training pairs come from candidates of `problems` only, so pass the problems of the training split (or all of them with
    `folds`). A reward model that is there already with the same recipe is kept. Unreadable answers are wrong candidates.

    Args:
        candidates, readings, problems: tables as in `bestofl_lib.tables`.
        base: the model the reward models start from: the policy, or any folder or Hub id.
        folder: where they go, one sub-folder per name (with `folds`, fold-0, fold-1, … inside it).
        variants: "mono" (one model per language), "multi", "cross", or single ones such as "mono-en".
        loss: "pairwise", -log sigmoid(r_chosen - r_rejected); "bce", each pair as two labelled rows.
        tuning: "head" (base frozen and run once for all models; the last token's state is read, as in any sequence
            classifier), "probe" (as head, and the states' mean and the likelihoods of the tokens are read too: much better on
            a small frozen policy, but no longer an ordinary checkpoint), "lora" (needs the extra `lora`), "full".
        rows: pairs per model at most; every model gets the number that all of them can have.
        cross_shares: of the pairs of languages in "cross", see `pairs.training_pairs`.
        folds: 0, or the number of cross-fitting folds by problem for data without a training split; each fold's model
            learns from the other folds and later scores its own. Rewards of different folds are never compared: a choice
            is made within a problem.
        style: prompt style that the candidates were asked with.
        layers: keep only so many layers of the base.
        max_tokens, device, dtype, batch_tokens: see `RewardBackbone`.
        epochs, learning_rate, batch_pairs: for "lora" and "full" (defaults 2; 1e-4 lora, 2e-5 full; 16 pairs per step and
            device). Several GPUs: start the process with `accelerate launch`.

    Returns:
        TRAINED, one row per reward model and fold.

    Raises:
        ValueError: unknown variant, loss or tuning; a setting that this tuning does not have; no candidates of these
            problems; no pairs at all; `lora` without peft.
    """
    if loss not in LOSSES:
        raise ValueError(f"unknown loss {loss!r}; use one of: {', '.join(LOSSES)}")
    if tuning not in TUNINGS:
        raise ValueError(f"unknown tuning {tuning!r}; use one of: {', '.join(TUNINGS)}")
    given = {"epochs": epochs, "learning_rate": learning_rate, "batch_pairs": batch_pairs}
    frozen = tuning in ("head", "probe")
    if frozen and any(value is not None for value in given.values()):
        raise ValueError(
            f"{', '.join(k for k, v in given.items() if v is not None)}: tuning {tuning!r} is solved exactly and has no such "
            "setting; leave it out or use tuning 'lora' or 'full'"
        )
    if tuning == "lora" and importlib.util.find_spec("peft") is None:
        raise ValueError(
            "tuning 'lora' needs peft, which is not installed; pip install 'bestofl[lora]', or use 'head' or 'full'"
        )
    folder = Path(folder)
    table = _training_candidates(candidates, readings, problems)
    languages = check_languages(sorted(table["language"].unique()))
    names = reward_model_names(variants, languages)

    fold_table: list[tuple[int | None, pl.DataFrame]] = [(None, table)]
    if folds:
        fold_column = pl.Series("fold", fold_of(table["problem_id"], folds, seed))
        fold_table = [(k, table.filter(fold_column != k)) for k in range(folds)]
    available = {(name, fold): available_pairs(part, name) for fold, part in fold_table for name in names}
    trainable = [name for name in names if all(available[name, fold] for fold, _ in fold_table)]
    if not trainable:
        raise ValueError(
            f"no training pairs for {', '.join(names)}: a pair needs a correct and a wrong candidate of one problem; "
            f"of {table.height} candidates {int(table['is_correct'].sum())} are correct"
        )
    used = min([rows] + [available[name, fold] for name in trainable for fold, _ in fold_table])

    settings = {"loss": loss, "tuning": tuning, "style": style, "layers": layers, "max_tokens": max_tokens, "dtype": dtype,
                "seed": seed, "folds": folds, "revision": revision, **given}  # fmt: skip
    weights = fingerprint(base, revision)
    texts = {(p, language): i for i, (p, language) in enumerate(problems.select("problem_id", "language").iter_rows())}
    questions = problems["question"].to_list()
    content = {
        (p, language, i): f"{questions[texts[p, language]]}\0{completion}"
        for p, language, i, completion in table.select(*KEY, "completion").iter_rows()
    }
    jobs: list[_Job] = []
    found: list[dict[str, Any]] = []
    for name in names:
        for fold, part in fold_table:
            place = folder / name if fold is None else folder / name / f"fold-{fold}"
            row = dict.fromkeys(TRAINED) | {"reward_model": name, "fold": fold, "available": available[name, fold],
                                            "loss": loss, "tuning": tuning, "folder": str(place)}  # fmt: skip
            if name not in trainable:
                found.append(row | {"rows": 0, "status": "no pairs"})
                continue
            pairs = training_pairs(part, name, used, seed, cross_shares)
            recipe = _recipe(settings, weights, pairs, content)
            if (place / "reward_model.json").exists() and RewardModelSpec.read(place).recipe == recipe:
                result = RewardModelSpec.read(place).result or {}
                found.append(row | result | {"status": "kept", "folder": str(place)})
                continue
            keys = set(pairs.select("problem_id", "chosen_language", "chosen_index").iter_rows())
            keys |= set(pairs.select("problem_id", "rejected_language", "rejected_index").iter_rows())
            row |= {"rows": pairs.height, "n_problems": pairs["problem_id"].n_unique(), "n_candidates": len(keys)}
            jobs.append(_Job(name, fold, place, pairs, recipe, row))
    if jobs:
        opening: dict[str, Any] = {"revision": revision, "style": style, "layers": layers, "max_tokens": max_tokens,
                   "device": device, "dtype": dtype, "batch_tokens": batch_tokens, "seed": seed}  # fmt: skip
        train = _train_heads if frozen else _train_with_trainer
        hashes: dict[str, list[str]] = {}
        for digest, problem in question_hashes(problems).items():
            hashes.setdefault(problem, []).append(digest)
        for job in jobs:
            ids = sorted(job.pairs["problem_id"].unique())
            job.spec = RewardModelSpec(
                job.name, tuning, str(base), revision, weights, style, layers, 0, loss=loss, fold=job.fold, folds=folds,
                seed=seed, recipe=job.recipe, trained_problems=tuple(ids),
                trained_questions=tuple(digest for p in ids for digest in hashes.get(p, [])),
            )  # fmt: skip
        extra: dict[str, Any] = (
            {} if frozen else {"epochs": epochs, "learning_rate": learning_rate, "batch_pairs": batch_pairs}
        )
        found += train(jobs, table, problems, base, folder, opening, loss, **extra)
    order = {name: i for i, name in enumerate(names)}
    found.sort(key=lambda row: (order[row["reward_model"]], -1 if row["fold"] is None else row["fold"]))
    return pl.DataFrame(found, schema=TRAINED)


@dataclass
class _Job:
    """One reward model to be trained."""

    name: str
    fold: int | None
    folder: Path
    pairs: pl.DataFrame
    recipe: str
    row: dict[str, Any]
    spec: RewardModelSpec | None = None

    def finish(self, max_tokens: int, offset: float, numbers: dict[str, Any]) -> dict[str, Any]:
        """Write reward_model.json, which makes the folder a finished reward model, and return the table's row."""
        self.row |= numbers | {"status": "trained"}
        if self.spec is None:
            raise RuntimeError(f"{self.name} has no description to save")
        replace(self.spec, max_tokens=max_tokens, offset=offset, result=self.row).write(self.folder)
        return self.row


def _training_candidates(candidates: pl.DataFrame, readings: pl.DataFrame, problems: pl.DataFrame) -> pl.DataFrame:
    """KEY, completion, is_correct of the finished candidates of these problems."""
    wanted = candidates.filter(pl.col("finish_reason").ne_missing("error")).join(
        problems.select("problem_id", "language"), on=["problem_id", "language"], how="semi"
    )
    if not wanted.height:
        raise ValueError(
            f"none of the {candidates.height} candidates belongs to the {problems['problem_id'].n_unique()} training problems; "
            "draw candidates for that split first, or cross-fit with folds=5 on data without one"
        )
    table = wanted.select(*KEY, "completion").join(readings.select(*KEY, "is_correct"), on=list(KEY), how="left")
    unread = table["is_correct"].null_count()
    if unread:
        raise ValueError(f"{unread} of {table.height} training candidates have no reading; run 03_check_answers first")
    return table.sort(list(KEY))


def _recipe(
    settings: dict[str, Any], weights: str, pairs: pl.DataFrame, content: dict[tuple[str, str, int], str]
) -> str:
    digest = hashlib.blake2b(json.dumps([settings, weights], sort_keys=True).encode(), digest_size=16)
    for p, a, i, b, j in pairs.iter_rows():
        digest.update(f"{p}\0{a}\0{i}\0{b}\0{j}\0{content[p, a, i]}\0{content[p, b, j]}\1".encode("utf8", "replace"))
    return digest.hexdigest()


def _sides(pairs: pl.DataFrame, table: pl.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Row numbers in table of the chosen and of the rejected candidates."""
    numbered = table.select(*KEY).with_row_index("row")
    sides = []
    for side in ("chosen", "rejected"):
        keys = pairs.select("problem_id", language=f"{side}_language", sample_index=f"{side}_index")
        sides.append(keys.join(numbered, on=list(KEY), how="left", maintain_order="left")["row"].to_numpy())
    return sides[0], sides[1]


# -- frozen backbone ------------------------------------------------------------------------------------------------


def _train_heads(
    jobs: list[_Job], table: pl.DataFrame, problems: pl.DataFrame, base: str | Path, folder: Path,
    opening: dict[str, Any], loss: str,
) -> list[dict[str, Any]]:  # fmt: skip
    """All heads on the features of one pass over the candidates that any of them needs."""
    is_probe = jobs[0].row["tuning"] == "probe"
    backbone = RewardBackbone(base, reads="probe" if is_probe else None, **opening)
    if not backbone.is_causal:
        raise ValueError(
            f"base {str(base)!r} ({type(backbone.model).__name__}) is not a causal backbone with a linear head; use tuning 'full'"
        )
    sides = [_sides(job.pairs, table) for job in jobs]
    needed = np.unique(np.concatenate([rows for pair in sides for rows in pair]))
    features = cached_values(backbone, table[needed], problems, folder / "cache")
    place = np.full(table.height, -1)
    place[needed] = np.arange(len(needed))
    done = []
    for job, (chosen, rejected) in zip(jobs, sides, strict=True):
        started = time.monotonic()
        groups = job.pairs["problem_id"].rank("dense").to_numpy()
        head = fit_head(
            features.values[place[chosen]], features.values[place[rejected]], groups, loss, trust=backbone.trust()
        )
        weight = torch.tensor(head.weights, dtype=torch.float32)[None]
        name = "score.weight" if backbone.reads == "features" else "probe.weight"
        replace_file(job.folder / "head.safetensors", save({name: weight}))
        cut = features.truncated[place[np.unique(np.concatenate([chosen, rejected]))]]
        numbers = {
            "held_out_accuracy": None if np.isnan(head.held_out_accuracy) else head.held_out_accuracy,
            "truncated": int(cut.sum()),
            "seconds": time.monotonic() - started,
        }
        done.append(job.finish(backbone.max_tokens, head.offset, numbers))
    return done


# -- trained backbone -----------------------------------------------------------------------------------------------


class _PairTrainer(Trainer):
    """Trainer whose batch is pairs: the first half of the rows chosen, the second half rejected."""

    pair_loss = "pairwise"

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        outputs = model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])
        rewards = outputs.logits[:, 0].float()
        chosen, rejected = rewards.chunk(2)
        if self.pair_loss == "pairwise":
            loss = -logsigmoid(chosen - rejected).mean()
        else:
            labels = torch.cat([torch.ones_like(chosen), torch.zeros_like(rejected)])
            loss = binary_cross_entropy_with_logits(rewards, labels)
        return (loss, outputs) if return_outputs else loss


def _collator(pad: int) -> Any:
    def collate(pairs: list[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        rows = [pair["chosen"] for pair in pairs] + [pair["rejected"] for pair in pairs]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [pad] * (longest - len(row)) for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        return {"input_ids": ids, "attention_mask": mask}

    return collate


def _train_with_trainer(
    jobs: list[_Job], table: pl.DataFrame, problems: pl.DataFrame, base: str | Path, folder: Path, opening: dict[str, Any],
    loss: str, epochs: float | None, learning_rate: float | None, batch_pairs: int | None,
) -> list[dict[str, Any]]:  # fmt: skip
    """Each model on its own: adapter ("lora") or all weights ("full"), by the Trainer of Transformers."""
    done = []
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # of every checkpoint that is written
    question = {
        (p, language): q for p, language, q in problems.select("problem_id", "language", "question").iter_rows()
    }
    for job in jobs:
        started = time.monotonic()
        if job.spec is None:
            raise RuntimeError(f"{job.name} has no description to train from")
        # weights are trained in float32 (mixed precision on CUDA): bfloat16 alone loses small updates
        backbone = RewardBackbone(base, **(opening | {"dtype": "float32"}))
        if not backbone.is_causal and job.spec.kind == "lora":
            raise ValueError(
                f"base {str(base)!r} ({type(backbone.model).__name__}): lora is offered for causal backbones; use 'full'"
            )
        chosen, rejected = _sides(job.pairs, table)
        rows = np.unique(np.concatenate([chosen, rejected]))
        part = table[rows]
        prompts: dict[tuple[str, str], int] = {}
        owner = [
            prompts.setdefault((question[p, language], language), len(prompts))
            for p, language in part.select("problem_id", "language").iter_rows()
        ]
        ids, truncated = backbone.whole_texts(list(prompts), owner, part["completion"].to_list())
        text = dict(zip(rows.tolist(), ids, strict=True))
        data = [{"chosen": text[int(a)], "rejected": text[int(b)]} for a, b in zip(chosen, rejected, strict=True)]
        model = backbone.model
        if job.spec.kind == "lora":
            from peft import LoraConfig, get_peft_model

            model = get_peft_model(
                model,
                LoraConfig(task_type="SEQ_CLS", r=16, lora_alpha=32, lora_dropout=0.05, target_modules="all-linear"),
            )
        scratch = job.folder / "checkpoints"
        job.folder.mkdir(parents=True, exist_ok=True)
        (job.folder / "reward_model.json").unlink(missing_ok=True)  # it speaks of another recipe
        same = scratch / "recipe"
        if scratch.exists() and not (same.exists() and same.read_text() == job.recipe):
            shutil.rmtree(scratch)
        scratch.mkdir(exist_ok=True)
        same.write_text(job.recipe)
        arguments = TrainingArguments(
            output_dir=str(scratch),
            per_device_train_batch_size=batch_pairs or 16,
            num_train_epochs=epochs or 2.0,
            learning_rate=learning_rate or (1e-4 if job.spec.kind == "lora" else 2e-5),
            lr_scheduler_type="cosine",
            warmup_steps=0.1,
            weight_decay=0.01,
            max_grad_norm=1.0,
            seed=job.spec.seed,
            data_seed=job.spec.seed,
            bf16=backbone.device.type == "cuda",
            use_cpu=backbone.device.type == "cpu",
            report_to=[],
            logging_strategy="no",
            save_strategy="epoch",
            save_total_limit=1,
            remove_unused_columns=False,
            label_names=[],
            disable_tqdm=True,
        )
        trainer = _PairTrainer(model=model, args=arguments, train_dataset=data, data_collator=_collator(backbone.pad))
        trainer.pair_loss = loss
        trainer.remove_callback(PrinterCallback)  # its lines would stand between those of a notebook
        trainer.train(resume_from_checkpoint=any(scratch.glob("checkpoint-*")) or None)
        if trainer.is_world_process_zero():
            final = trainer.accelerator.unwrap_model(trainer.model)
            final.save_pretrained(job.folder)
            backbone.tokenizer.save_pretrained(job.folder)
            shutil.rmtree(scratch)
            numbers = {"truncated": int(truncated.sum()), "seconds": time.monotonic() - started}
            done.append(job.finish(backbone.max_tokens, 0.0, numbers))
        del trainer, model, backbone
        gc.collect()
    if shown:
        transformers_logging.enable_progress_bar()
    return done


# -- opening and exchanging ----------------------------------------------------------------------------------------


def import_reward_model(
    source: str | Path, name: str, folder: str | Path, *, style: str = "question", revision: str | None = None,
    max_tokens: int | None = None,
) -> RewardModelSpec:  # fmt: skip
    """Add a reward model made elsewhere to the folder of reward models; it is opened once to check it.

    Args:
        source: folder or Hub id of a sequence classifier with one output and a trained head, such as
            'Skywork/Skywork-Reward-V2-Qwen3-0.6B'.
        name: what it is called in tables; not that of a variant trained here.
        style: prompt style it shall read; most reward models were trained on bare questions.

    Raises:
        ValueError: a name that a trained variant has, more than one output, no trained head, pickle weights.
    """
    if name in ("mono", "multi", "cross") or name.startswith("mono-") or not name.strip(". ") or "/" in name:
        raise ValueError(
            f"reward model name {name!r} is taken by a trained variant or is no folder name; choose another"
        )
    backbone = RewardBackbone(
        source, revision=revision, style=style, max_tokens=max_tokens, require_head=True, device="cpu"
    )
    spec = RewardModelSpec(
        name, "imported", str(source), revision, fingerprint(source, revision), style, None, backbone.max_tokens
    )
    spec.write(Path(folder) / name)
    return spec


def reward_models(folder: str | Path) -> list[tuple[Path, RewardModelSpec]]:
    """Every finished reward model under a folder, by name and fold.

    Raises:
        FileNotFoundError: there is none.
    """
    folder = Path(folder)
    places = sorted([*folder.glob("*/reward_model.json"), *folder.glob("*/fold-*/reward_model.json")])
    if not places:
        raise FileNotFoundError(f"no reward models in {folder}; run 04_train_reward_models first")
    return [(path.parent, RewardModelSpec.read(path.parent)) for path in places]


def head_weights(folder: Path) -> np.ndarray:
    """(features,) float64, the weights of a reward model of kind "head" or "probe"."""
    return next(iter(load_file(folder / "head.safetensors").values()))[0].double().numpy()


def open_reward_model(
    folder: Path, spec: RewardModelSpec, device: str = "auto", dtype: str = "auto", batch_tokens: int | None = None
) -> RewardBackbone:
    """The model of one reward-model folder, its head in place, ready for `values` or for use as a classifier.

    Raises:
        ValueError: the base's weights are not those it was trained on.
    """
    source = folder if spec.kind == "full" else spec.base
    if spec.kind != "full" and spec.kind != "imported" and fingerprint(spec.base, spec.revision) != spec.weights:
        raise ValueError(
            f"reward model {spec.name!r} was trained on other weights than {spec.base!r} has now; train it again "
            "(run 04_train_reward_models)"
        )
    backbone = RewardBackbone(
        source,
        revision=None if spec.kind == "full" else spec.revision,
        style=spec.style,
        layers=spec.layers if spec.kind != "full" else None,
        max_tokens=spec.max_tokens,
        device=device,
        dtype=dtype,
        batch_tokens=batch_tokens,
        require_head=spec.kind in ("full", "imported"),
        reads="probe" if spec.kind == "probe" else None,
    )
    if spec.kind == "head":
        weight = load_file(folder / "head.safetensors")["score.weight"]
        backbone.model.score.weight.data = weight.to(backbone.model.score.weight)
    elif spec.kind == "lora":
        if importlib.util.find_spec("peft") is None:
            raise ValueError(
                f"reward model {spec.name!r} is a lora adapter, which needs peft; pip install 'bestofl[lora]'"
            )
        from peft import PeftModel

        merged = PeftModel.from_pretrained(backbone.model, str(folder), use_safetensors=True).merge_and_unload()
        backbone.model = merged.eval()
        backbone.adapter = spec.recipe
    if spec.kind not in ("head", "probe"):
        backbone.reads = "reward"
    return backbone


def export_reward_model(folder: str | Path, target: str | Path) -> Path:
    """Write one reward model as an ordinary Hugging Face checkpoint with its tokenizer, whatever its kind.

    The constant that heads add to every reward is not part of that format and is left out; it moves no choice.

    Returns:
        target, which `AutoModelForSequenceClassification.from_pretrained` opens.
    """
    folder, target = Path(folder), Path(target)
    spec = RewardModelSpec.read(folder)
    if spec.kind == "probe":
        raise ValueError(
            f"reward model {spec.name!r} is a probe: it reads token likelihoods, which a sequence classifier has no place for; "
            "train with tuning 'head', 'lora' or 'full' to export"
        )
    backbone = open_reward_model(folder, spec, device="cpu", dtype="float32")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        backbone.model.save_pretrained(scratch)
        backbone.tokenizer.save_pretrained(scratch)
        shutil.copytree(scratch, target, dirs_exist_ok=True)
    return target
