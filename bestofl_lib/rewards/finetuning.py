"""Trains the weights of a base on pairs, as an adapter or in full, with the Trainer of Transformers.

Token ids of chosen and rejected candidates in, a checkpoint out. It does not know languages, tables or how pairs are made.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import binary_cross_entropy_with_logits, logsigmoid
from transformers import PrinterCallback, Trainer, TrainingArguments
from transformers.utils import logging as transformers_logging

from bestofl_lib.rewards.backbone import RewardBackbone
from bestofl_lib.rewards.spec import TrainingSettings

Text = dict[str, list[int]]  # input_ids and, for encoders, token_type_ids


def finetune(
    backbone: RewardBackbone,
    pairs: Sequence[tuple[Text, Text]],
    settings: TrainingSettings,
    folder: Path,
    recipe: str,
) -> bool:
    """Train the backbone on pairs (chosen, rejected) and save the adapter or checkpoint with its tokenizer in folder.

    Checkpoints are kept under `folder/checkpoints` until it is done: a run that was stopped continues from the last one if
    it belongs to the same recipe.

    Returns:
        Whether this process is the one that saved (with `accelerate launch`, one of several).
    """
    model = backbone.model
    if settings.tuning == "lora":
        from peft import LoraConfig, get_peft_model

        model = get_peft_model(
            model,
            LoraConfig(task_type="SEQ_CLS", r=16, lora_alpha=32, lora_dropout=0.05, target_modules="all-linear"),
        )
    scratch = _checkpoints(folder, recipe)
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()  # of every checkpoint that is written
    try:
        trainer = _PairTrainer(
            model=model,
            args=_arguments(settings, scratch, backbone),
            train_dataset=[{"chosen": chosen, "rejected": rejected} for chosen, rejected in pairs],
            data_collator=_collator(backbone.texts.pad),
        )
        trainer.pair_loss = settings.loss
        trainer.remove_callback(PrinterCallback)  # it would print between the outputs of a notebook
        trainer.train(resume_from_checkpoint=any(scratch.glob("checkpoint-*")) or None)
        if not trainer.is_world_process_zero():
            return False
        trainer.accelerator.unwrap_model(trainer.model).save_pretrained(folder)
        backbone.texts.tokenizer.save_pretrained(folder)
        shutil.rmtree(scratch)
        return True
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


def _checkpoints(folder: Path, recipe: str) -> Path:
    """The folder of checkpoints, emptied if it belongs to another recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "reward_model.json").unlink(missing_ok=True)  # it describes another recipe
    scratch = folder / "checkpoints"
    same = scratch / "recipe"
    if scratch.exists() and not (same.exists() and same.read_text() == recipe):
        shutil.rmtree(scratch)
    scratch.mkdir(exist_ok=True)
    same.write_text(recipe)
    return scratch


def _arguments(settings: TrainingSettings, scratch: Path, backbone: RewardBackbone) -> TrainingArguments:
    on_cuda = backbone.device.type == "cuda"
    return TrainingArguments(
        output_dir=str(scratch),
        per_device_train_batch_size=settings.batch_pairs or 16,
        num_train_epochs=settings.epochs or 2.0,
        learning_rate=settings.learning_rate or (1e-4 if settings.tuning == "lora" else 2e-5),
        lr_scheduler_type="cosine",
        warmup_steps=0.1,
        weight_decay=0.01,
        max_grad_norm=1.0,
        seed=settings.seed,
        data_seed=settings.seed,
        bf16=on_cuda,
        use_cpu=backbone.device.type == "cpu",
        report_to=[],
        logging_strategy="no",
        save_strategy="epoch",
        save_total_limit=1,
        remove_unused_columns=False,
        label_names=[],
        disable_tqdm=True,
    )


class _PairTrainer(Trainer):
    """Trainer whose batch is pairs: the first half of the rows chosen, the second half rejected."""

    pair_loss = "pairwise"

    def compute_loss(
        self, model: Any, inputs: dict[str, torch.Tensor], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        outputs = model(**inputs)
        rewards = outputs.logits[:, 0].float()
        chosen, rejected = rewards.chunk(2)
        if self.pair_loss == "pairwise":
            loss = -logsigmoid(chosen - rejected).mean()
        else:
            labels = torch.cat([torch.ones_like(chosen), torch.zeros_like(rejected)])
            loss = binary_cross_entropy_with_logits(rewards, labels)
        return (loss, outputs) if return_outputs else loss


def _collator(pad: int) -> Any:
    def collate(pairs: list[dict[str, Text]]) -> dict[str, torch.Tensor]:
        rows = [pair["chosen"] for pair in pairs] + [pair["rejected"] for pair in pairs]
        longest = max(len(row["input_ids"]) for row in rows)
        fill = {"input_ids": pad, "token_type_ids": 0}
        batch = {
            name: torch.tensor([row[name] + [fill[name]] * (longest - len(row[name])) for row in rows])
            for name in rows[0]
        }
        lengths = torch.tensor([len(row["input_ids"]) for row in rows])
        batch["attention_mask"] = (torch.arange(longest)[None] < lengths[:, None]).long()
        return batch

    return collate
