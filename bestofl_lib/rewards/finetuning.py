"""Trains the weights of a base on pairs, as an adapter or in full, with the Trainer of Transformers.

Takes token ids of chosen and rejected candidates; writes a checkpoint and its numbers. It does not know languages,
tables or how pairs are made.
"""

from __future__ import annotations

import gc
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_model, save_model
from transformers import EarlyStoppingCallback, PrinterCallback, Trainer, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, get_last_checkpoint
from transformers.utils import logging as transformers_logging

from bestofl_lib.models.opening import is_out_of_memory
from bestofl_lib.rewards.backbone import RewardBackbone
from bestofl_lib.rewards.reward_module import RewardModule
from bestofl_lib.rewards.spec import TrainingSettings

# input_ids, start (of the completion); for encoders token_type_ids; of readout "steps" targets, (token, value) pairs
Text = dict[str, Any]
Pairs = Sequence[tuple[Text, Text]]  # (chosen, rejected)

_TOKENS_AT_ONCE = 8192  # per forward pass at least, as long as memory suffices
EPOCHS = 2.0  # unless the settings say otherwise
BATCH_PAIRS = 16  # likewise
_WARM_UP = 0.05  # share of the steps
_CHECKPOINTS = "checkpoints"  # folder of the unfinished
_SAVE_STEPS = 100  # optimiser steps between checkpoints and evaluations; short trainings: every epoch
_PATIENCE = 4  # evaluations without a lower held-out loss before training stops


@dataclass(frozen=True)
class Finetuned:
    """What training returns besides its files."""

    scale: float  # reward = scale × number read + offset
    offset: float
    held_out_accuracy: float | None  # share of held-out pairs in the right order; None: nothing was held out
    epochs: float  # until the weights that were kept


def finetune(
    backbone: RewardBackbone,
    pairs: Pairs,
    held_out: Pairs,
    settings: TrainingSettings,
    folder: Path,
    recipe: str,
) -> Finetuned | None:
    """Train the backbone and save the adapter or checkpoint with its tokenizer in folder.

    Checkpoints are kept under `folder/checkpoints` until it is done: a run that was stopped continues from the last one
    if it belongs to the same recipe. When memory runs out, half as many pairs are computed at a time, with more
    accumulation, so that the optimiser's step stays the same.

    Args:
        held_out: pairs of other problems; where there are any, the weights with the least loss on them are kept, and
            training stops after four evaluations without a lower one.

    Returns:
        None in a process that is not the one that saves (with `accelerate launch`).
    """
    module = RewardModule(backbone.model, settings)
    whole = settings.batch_pairs or BATCH_PAIRS
    longest = max(len(text["input_ids"]) for pair in pairs for text in pair)
    at_once = pairs_at_once(settings.batch_pairs, longest, backbone.batch_tokens)
    with _quiet():
        while True:
            try:
                trainer = _train(module, pairs, held_out, settings, folder, recipe, backbone, at_once, whole)
                break
            except (RuntimeError, MemoryError) as error:
                if not is_out_of_memory(error) or at_once == 1:
                    raise
            at_once = _divisor(whole, at_once // 2)
            gc.collect()
            if backbone.device.type == "cuda":
                torch.cuda.empty_cache()
    trainer.accelerator.wait_for_everyone()  # others may still be reading checkpoints
    if not trainer.is_world_process_zero():
        return None
    module.save(folder)
    backbone.texts.tokenizer.save_pretrained(folder)
    kept = trainer.evaluate() if held_out else {}
    epochs = trainer.state.epoch or 0.0
    if held_out and trainer.state.best_global_step:
        epochs *= trainer.state.best_global_step / trainer.state.global_step
    shutil.rmtree(folder / _CHECKPOINTS)
    return Finetuned(
        float(module.scale.detach()),
        float(module.offset.detach()),
        kept.get("eval_accuracy"),
        epochs,
    )


def default_learning_rate(tuning: str, n_parameters: int) -> float:
    """Learning rate by the size of the base: 2e-5 for all weights of a 7B model, as is common, and 1e-4 for 2 million,
    chosen on the lab's dev split (higher rates make its base forget arithmetic, see reports/LOG.md); between them by a
    power of the size. Ten times as much, at most 1e-3, for an adapter.

    >>> f"{default_learning_rate('full', 7_000_000_000):.1e} {default_learning_rate('lora', 7_000_000_000):.1e}"
    '2.0e-05 2.0e-04'
    """
    full = 2e-5 * (7e9 / max(n_parameters, 1)) ** 0.194
    return min(1e-3, full if tuning == "full" else 10 * full)


def _train(
    module: RewardModule, pairs: Pairs, held_out: Pairs, settings: TrainingSettings, folder: Path, recipe: str,
    backbone: RewardBackbone, at_once: int, whole: int,
) -> _PairTrainer:  # fmt: skip
    """One attempt with `at_once` pairs per forward pass, from the last checkpoint if there is one."""
    scratch = folder / _CHECKPOINTS
    args = _arguments(settings, scratch, backbone, len(pairs), at_once, whole, bool(held_out))
    with args.main_process_first(local=False):
        _prepare_checkpoints(folder, recipe)
    trainer = _PairTrainer(
        model=module,
        args=args,
        train_dataset=[{"chosen": chosen, "rejected": rejected} for chosen, rejected in pairs],
        eval_dataset=[{"chosen": chosen, "rejected": rejected} for chosen, rejected in held_out] or None,
        data_collator=_Collator(backbone.texts.pad),
        callbacks=[EarlyStoppingCallback(_PATIENCE)] if held_out else [],
    )
    trainer.loss_is_scaled_for_ga = False
    trainer.remove_callback(PrinterCallback)  # it would print into the notebook
    last = get_last_checkpoint(str(scratch))
    if last is None:
        module.reset()
    trainer.train(resume_from_checkpoint=last)
    return trainer


def pairs_at_once(batch_pairs: int | None, longest: int, batch_tokens: int) -> int:
    """Pairs per forward pass, as long as memory suffices: a divisor of the pairs per step.

    Args:
        batch_pairs: pairs per step; None: the default.
        longest: tokens of the longest text.
        batch_tokens: tokens per forward pass that the backbone was opened for.
    """
    return _divisor(batch_pairs or BATCH_PAIRS, max(batch_tokens, _TOKENS_AT_ONCE) // (2 * longest))


def _divisor(whole: int, most: int) -> int:
    """The largest number that divides whole and is at most `most` (1 at least).

    >>> _divisor(32, 20)
    16
    """
    return next(n for n in range(max(1, min(whole, most)), 0, -1) if whole % n == 0)


def _prepare_checkpoints(folder: Path, recipe: str) -> None:
    """Make the folder of checkpoints; what belongs to another recipe, or was being written when a process was killed,
    is removed.
    """
    (folder / "reward_model.json").unlink(missing_ok=True)  # it describes another recipe
    scratch = folder / _CHECKPOINTS
    same = scratch / "recipe"
    if scratch.exists() and not (same.exists() and same.read_text() == recipe):
        shutil.rmtree(scratch)
    scratch.mkdir(parents=True, exist_ok=True)
    same.write_text(recipe)
    for place in scratch.glob(f"{PREFIX_CHECKPOINT_DIR}-*"):
        try:
            TrainerState.load_from_json(str(place / TRAINER_STATE_NAME))  # the last file of a checkpoint
        except (OSError, ValueError):
            shutil.rmtree(place)


def _arguments(
    settings: TrainingSettings, scratch: Path, backbone: RewardBackbone, n_pairs: int, at_once: int, whole: int,
    judged: bool,
) -> TrainingArguments:  # fmt: skip
    epochs = settings.epochs or EPOCHS
    total = max(1, int(-(-n_pairs // whole) * epochs))
    rate = settings.learning_rate or default_learning_rate(settings.tuning, backbone.model.num_parameters())
    every = "epoch" if total < 2 * _SAVE_STEPS else "steps"
    half = settings.compute_dtype(backbone.device.type)
    return TrainingArguments(
        output_dir=str(scratch),
        per_device_train_batch_size=at_once,
        per_device_eval_batch_size=at_once,
        gradient_accumulation_steps=whole // at_once,
        num_train_epochs=epochs,
        learning_rate=rate,
        lr_scheduler_type="cosine",
        weight_decay=0.01,
        max_grad_norm=1.0,
        seed=settings.seed,
        data_seed=settings.seed,
        bf16=half == "bfloat16",
        fp16=half == "float16",
        use_cpu=backbone.device.type == "cpu",
        dataloader_pin_memory=backbone.device.type == "cuda",
        report_to=[],
        logging_strategy="no",
        eval_strategy=every if judged else "no",
        eval_steps=_SAVE_STEPS,
        save_strategy=every,
        save_steps=_SAVE_STEPS,
        save_total_limit=2 if judged else 1,
        load_best_model_at_end=judged,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        remove_unused_columns=False,
        label_names=[],
        disable_tqdm=True,
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the progress bars of every checkpoint that is written."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


class _PairTrainer(Trainer):
    """Trainer whose batch is pairs: the first half of the rows chosen, the second half rejected."""

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        loss, rewards = model(**inputs)
        return (loss, rewards) if return_outputs else loss

    def create_optimizer(self, model: Any = None) -> Any:
        module = self.accelerator.unwrap_model(self.model)
        if self.optimizer is None:
            self.optimizer = torch.optim.AdamW(
                module.parameter_groups(self.args.learning_rate, self.args.weight_decay), betas=(0.9, 0.98)
            )
        return self.optimizer

    def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
        # of the steps there really are, on however many devices; 0 of few, else the only step would learn nothing
        self.args.warmup_steps = int(num_training_steps * _WARM_UP)
        return super().create_scheduler(num_training_steps, optimizer)

    @torch.inference_mode()
    def evaluate(self, eval_dataset: Any = None, ignore_keys: Any = None, metric_key_prefix: str = "eval") -> Any:
        """Loss and share of pairs in the right order, over the held-out pairs."""
        module, total, right, count = self.accelerator.unwrap_model(self.model), 0.0, 0.0, 0
        module.eval()
        size, data = self.args.per_device_eval_batch_size, cast("Any", self.eval_dataset)
        for start in range(0, len(data), size):
            batch = self._prepare_inputs(cast("Any", self.data_collator)(data[start : start + size]))
            with self.compute_loss_context_manager():
                loss, rewards = module(**batch)
            chosen, rejected = rewards.float().chunk(2)
            right += float((chosen > rejected).sum() + 0.5 * (chosen == rejected).sum())
            total += float(loss) * len(chosen)
            count += len(chosen)
        module.train()
        metrics = {"eval_loss": total / count, "eval_accuracy": right / count}
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        place = Path(output_dir or self.args.output_dir or ".")
        place.mkdir(parents=True, exist_ok=True)
        save_model(self.accelerator.unwrap_model(self.model), str(place / "module.safetensors"))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_model(
            self.accelerator.unwrap_model(model or self.model), str(Path(resume_from_checkpoint) / "module.safetensors")
        )

    def _load_best_model(self) -> None:
        self._load_from_checkpoint(self.state.best_model_checkpoint or "")


class _Collator:
    """Pads pairs to one batch: chosen rows first, then rejected rows."""

    def __init__(self, pad: int):
        self.fill = {"input_ids": pad, "token_type_ids": 0}

    def __call__(self, pairs: list[dict[str, Text]]) -> dict[str, torch.Tensor]:
        rows = [pair["chosen"] for pair in pairs] + [pair["rejected"] for pair in pairs]
        longest = max(len(row["input_ids"]) for row in rows)
        batch = {
            name: torch.tensor([row[name] + [fill] * (longest - len(row[name])) for row in rows])
            for name, fill in self.fill.items()
            if name in rows[0]
        }
        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        batch["attention_mask"] = (torch.arange(longest)[None] < lengths[:, None]).long()
        if "start" in rows[0]:
            batch["starts"] = torch.tensor([row["start"] for row in rows])
        if "targets" in rows[0]:
            batch["targets"] = torch.full((len(rows), longest), float("nan"))
            for i, row in enumerate(rows):
                for token, value in row["targets"]:
                    batch["targets"][i, token] = value
        return batch
