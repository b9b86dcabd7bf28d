"""Says what a training of reward models will take before it begins: how many there are, memory and time.

The speed of a frozen model is measured on some of the texts that it has to read anyway; nothing of it is lost.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from bestofl_lib.models.decoding import free_bytes
from bestofl_lib.progress import duration
from bestofl_lib.rewards.backbone import RewardBackbone
from bestofl_lib.rewards.cache import cached_values, unknown_texts
from bestofl_lib.rewards.finetuning import EPOCHS, pairs_at_once
from bestofl_lib.rewards.memory import reading_memory, training_memory
from bestofl_lib.rewards.reward_module import is_checkpointed
from bestofl_lib.rewards.spec import TrainingSettings
from bestofl_lib.text import counted

# candidates read to measure the speed: the first warm up only, the last are read where those before took less than
_TRIED = (4, 8, 64)
_ENOUGH_SECONDS = 3.0
_TOGETHER = 8  # of one prompt, as far as they go: prompts are shared, so single candidates would take longer
WORTH_SAYING = 5.0  # seconds that fits of linear layers take in all, below which nothing is said of them


def of_pass(
    backbone: RewardBackbone,
    candidates: pl.DataFrame,
    problems: pl.DataFrame,
    cache: Path,
    settings: TrainingSettings,
    n_trainings: int,
    n_pairs: int,
) -> str:
    """What reward models on a frozen base take: one pass over the candidates, then a linear layer for each.

    Args:
        candidates: all that any of the trainings needs, in the order of their keys.
        cache: where the values of `cached_values` are kept.
        n_trainings, n_pairs: how many reward models there are, each on so many pairs.
    """
    memory = reading_memory(backbone.model.config, settings.readout, backbone.dtype, settings.layers)
    unknown = unknown_texts(backbone, candidates, problems, cache)
    per_second = _texts_per_second(backbone, candidates, problems, cache) if unknown > _TRIED[-1] else None
    reading = f"one pass over {counted(unknown, 'completion')}" if unknown else "nothing to read, all are known"
    if per_second:
        reading += f", about {duration(unknown / per_second)} at {per_second:,.3g} completions/s (measured now)"
    most = memory.total(backbone.batch_tokens, backbone.max_tokens)
    return (
        f"{counted(n_trainings, 'training')} ({settings.readout}, frozen) of {counted(n_pairs, 'pair')}: {reading}; "
        f"memory at most {most / 1e9:.1f} GB, weights of {memory.weights / 1e9:.1f} GB included, "
        f"{free_bytes(backbone.device) / 1e9:.1f} GB are free beside the loaded model; where it does not suffice, "
        "fewer are read at once"
    )


def of_weights(
    backbone: RewardBackbone,
    texts: Sequence[dict[str, Any]],
    settings: TrainingSettings,
    n_trainings: int,
    n_pairs: int,
) -> str:
    """What trainings of an adapter or of all weights take, each on its own.

    Args:
        texts: of the first training, as `RewardBackbone.whole_texts` gives them.
        n_trainings, n_pairs: how many reward models there are, each on so many pairs.
    """
    mean = float(np.mean([len(text["input_ids"]) for text in texts]))
    tokens = 2 * n_pairs * mean * (settings.epochs or EPOCHS)
    passes = 6 if settings.tuning == "full" else 4
    work = passes * backbone.model.num_parameters() * tokens
    longest = max(len(text["input_ids"]) for text in texts)
    together = 2 * longest * pairs_at_once(settings.batch_pairs, longest, backbone.batch_tokens)
    needed = training_memory(
        backbone.model.config, settings, backbone.dtype, is_checkpointed(settings, backbone.device)
    ).total(together)
    return (
        f"{counted(n_trainings, 'training')} ({settings.readout}, {settings.tuning}) of {counted(n_pairs, 'pair')}: "
        f"about {tokens:,.0f} tokens and {work:.1e} floating-point operations each, {n_trainings * work:.1e} in all; "
        f"memory at most {needed / 1e9:.1f} GB with {together:,} tokens at once, "
        f"{free_bytes(backbone.device) / 1e9:.1f} GB are free beside the loaded model; where it does not suffice, "
        "fewer are taken at once"
    )


def of_rest(seconds: float, done: int, total: int) -> str:
    """How long the trainings that are left will take, by those that are done."""
    return f"{done} of {total} trained in {duration(seconds)}, about {duration(seconds / done * (total - done))} left"


def _texts_per_second(
    backbone: RewardBackbone, candidates: pl.DataFrame, problems: pl.DataFrame, cache: Path
) -> float | None:
    """Completions that are read in a second; None where those tried are all known."""
    speed, is_warm = None, False
    for count in _TRIED:
        starts = np.linspace(0, max(0, candidates.height - _TOGETHER), max(1, count // _TOGETHER)).astype(int)
        rows = np.unique((starts[:, None] + np.arange(min(count, _TOGETHER))).clip(max=candidates.height - 1))
        tried = candidates[rows]
        unknown = unknown_texts(backbone, tried, problems, cache)
        seconds = cached_values(backbone, tried, problems, cache).seconds
        if unknown:
            speed = unknown / seconds
            if is_warm and seconds > _ENOUGH_SECONDS:
                break
            is_warm = True
    return speed
