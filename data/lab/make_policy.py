"""Train the lab's policy: a small multilingual Llama that solves the lab's word problems, imperfectly.

    python data/lab/make_policy.py            # trains, or goes on from the newest checkpoint; writes data/lab/policy

The policy sees only problems of the policy split. Its languages are as uneven as the web's (PHASES), and within a language
some topics are common and others rare (TOPIC_SPREAD, drawn once from the seed): a language is strong where it has much
training data. Some training rows are plain arithmetic, in no language. Everything is drawn from the seed; the machine's
floating point may still differ in the last bits. Takes about an hour of one core.

The recipe was changed once, at step FIRST: until then more rows are arithmetic, their operands are learnt as well as their
results, and the learning rate falls more steeply. The shipped weights were made so, and one run of this command does both.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from torch.utils.data import Dataset
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import get_last_checkpoint

from bestofl_lib.files import ROOT
from bestofl_lib.languages import LANGUAGES
from bestofl_lib.problems import lab

SEED = 7
PHASES = (  # (steps, share of the rows told in each language in percent): steep at first, then less so
    (
        1400,
        {
            "en": 45,
            "zh": 14,
            "es": 11,
            "de": 8.5,
            "fr": 7,
            "ru": 5,
            "ja": 4,
            "th": 2.2,
            "bn": 1.4,
            "sw": 1.1,
            "te": 0.8,
        },
    ),
    (
        2200,
        {"en": 30, "zh": 13, "es": 12, "de": 10, "fr": 9, "ru": 7, "ja": 6, "th": 4.5, "bn": 3.5, "sw": 2.8, "te": 2.2},
    ),
)
FIRST = 1400  # steps of the first recipe; the rows of these steps in PHASES are not used
FIRST_LAID_OUT = 3000  # steps that the first recipe's rows and learning rate are laid out for
FIRST_ARITHMETIC = 0.15
STOP = 2200  # of these steps: a policy that is right nearly always leaves nothing to study (see data/README.md)
TOPIC_SPREAD = 1.2  # standard deviation of the logarithm of a topic's weight within a language
ARITHMETIC = 0.1  # share of the training rows that are plain equations
BATCH = 64
SAVE_STEPS = 200  # between checkpoints; divides FIRST and STOP
VOCABULARY = 3072
CHAT_TEMPLATE = (
    "{% for message in messages %}{% if message['role'] == 'user' %}<|user|>{{ message['content'] }}"
    "{% elif message['role'] == 'assistant' %}<|assistant|>{{ message['content'] }}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def topic_weights(mix: dict[str, float]) -> dict[tuple[str, str], float]:
    """How often each language tells each template; sums to 1. A language's common topics are the same in all phases."""
    rng = random.Random(SEED)
    weights: dict[tuple[str, str], float] = {}
    for code, share in mix.items():
        raw = {name: math.exp(rng.gauss(0, TOPIC_SPREAD)) for name in lab.TEMPLATES}
        weights |= {(code, name): share / 100 * value / sum(raw.values()) for name, value in raw.items()}
    total = sum(weights.values())
    return {pair: weight / total for pair, weight in weights.items()}


def equations(rng: random.Random) -> str:
    """A row of arithmetic of the kinds that the problems need."""
    parts = []
    for _ in range(7):
        kind, a, b = rng.choice("×××÷+++---"), rng.randint(2, 13), rng.randint(2, 99)
        if kind == "×":
            parts.append(f"{a} × {b} = {a * b}" if rng.random() < 0.5 else f"{b} × {a} = {a * b}")
        elif kind == "÷":
            parts.append(f"{a * b} ÷ {a} = {b}")
        else:
            high, low = rng.randint(5, 400), rng.randint(2, 120)
            parts.append(f"{high} + {low} = {high + low}" if kind == "+" else f"{high + low} - {low} = {high}")
    return ". ".join(parts) + "."


def rows(
    count: int,
    mix: dict[str, float],
    seed: str,
    arithmetic: float = ARITHMETIC,
    written: Callable[[random.Random], str] = equations,
) -> list[tuple[str, str]]:
    """`count` training rows (question, solution); a share of `arithmetic` is plain equations, with an empty question."""
    rng = random.Random(seed)
    by_template: dict[str, list[lab.Problem]] = {name: [] for name in lab.TEMPLATES}
    source = lab.policy_problems()
    weights = topic_weights(mix)
    drawn = rng.choices(list(weights), list(weights.values()), k=count)
    made = []
    for code, name in drawn:
        if rng.random() < arithmetic:
            made.append(("", written(rng)))
            continue
        while not by_template[name]:
            problem = next(source)
            if len(by_template[problem.template]) < 500:
                by_template[problem.template].append(problem)
        made.append(lab.tell(by_template[name].pop(), code))
    return made


def make_tokenizer() -> PreTrainedTokenizerFast:
    """BPE over characters with bytes for unknown ones, single digits, operators with their spaces; all languages equal."""
    problems = list(itertools.islice(lab.policy_problems(), 1500))
    codes = PHASES[0][1]
    texts = [text for code in codes for problem in problems for text in lab.tell(problem, code)]
    records = [LANGUAGES[code] for code in codes]
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, unk_token=None))
    pattern = r" [×÷+=-] |\p{N}| ?[\p{L}\p{M}]+| ?[^\s\p{L}\p{M}\p{N}]+|\s"
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    special = ["<|pad|>", "<|end|>", "<|user|>", "<|assistant|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=special + [f"<0x{byte:02X}>" for byte in range(256)],
        initial_alphabet=sorted({c for entry in records for c in entry.answer_line + entry.instruction}),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    content = json.loads(tokenizer.to_str())  # bytes are fallback tokens, not special ones
    content["added_tokens"] = [token for token in content["added_tokens"] if not token["content"].startswith("<0x")]
    tokenizer = Tokenizer.from_str(json.dumps(content))
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<|pad|>", eos_token="<|end|>")
    fast.chat_template = CHAT_TEMPLATE
    return fast


class Rows(Dataset):
    """Token ids of each row, and which of them are learnt: the solution, and of plain arithmetic the results.

    Args:
        operands: of plain arithmetic, everything is learnt.
    """

    def __init__(self, phases: list[list[tuple[str, str]]], tokenizer: PreTrainedTokenizerFast, operands: bool = False):
        self.rows: list[tuple[list[int], list[bool]]] = []
        equals, stop = (tokenizer.convert_tokens_to_ids(token) for token in (" = ", "."))
        rng, block = random.Random(SEED), BATCH * 50
        for made in phases:
            prompts = ["<|user|>" + question + "<|assistant|>" if question else "" for question, _ in made]
            heads = tokenizer(prompts, add_special_tokens=False)["input_ids"]
            tails = tokenizer([solution + "<|end|>" for _, solution in made], add_special_tokens=False)["input_ids"]
            ready = []
            for head, tail in zip(heads, tails, strict=True):
                learnt, result = [True] * len(tail), False
                if not head and not operands:
                    for place, token in enumerate(tail):
                        learnt[place] = result
                        result = (result or token == equals) and token != stop
                ready.append((head + tail, [False] * len(head) + learnt))
            # rows of similar length fill a batch with little padding; the batches then come in random order
            batches = []
            for start in range(0, len(ready), block):
                part = sorted(ready[start : start + block], key=lambda row: len(row[0]))
                batches += [part[i : i + BATCH] for i in range(0, len(part), BATCH)]
            rng.shuffle(batches)
            self.rows += [row for batch in batches for row in batch]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[list[int], list[bool]]:
        return self.rows[index]


def collate(items: list[tuple[list[int], list[bool]]]) -> dict[str, torch.Tensor]:
    width = max(len(ids) for ids, _ in items)
    input_ids = torch.zeros(len(items), width, dtype=torch.long)
    labels = torch.full((len(items), width), -100)
    for row, (ids, learnt) in enumerate(items):
        input_ids[row, : len(ids)] = torch.tensor(ids)
        labels[row, : len(ids)] = torch.where(torch.tensor(learnt), torch.tensor(ids), -100)
    return {"input_ids": input_ids, "labels": labels}


def train(
    model: Any, data: Rows, work: Path, steps: int, batch: int, rate: float, least: float,
    callbacks: Sequence[TrainerCallback] = (), **more: Any,
) -> None:  # fmt: skip
    """Train a model of the lab, from the newest checkpoint in `work` where there is one: AdamW, a learning rate that
    falls by a cosine from `rate` to `least`.
    """
    settings = TrainingArguments(
        output_dir=str(work),
        max_steps=steps,
        per_device_train_batch_size=batch,
        learning_rate=rate,
        lr_scheduler_type="cosine_with_min_lr",
        lr_scheduler_kwargs={"min_lr": least},
        adam_beta2=0.98,
        max_grad_norm=1.0,
        logging_steps=50,
        report_to=[],
        remove_unused_columns=False,
        disable_tqdm=True,
        dataloader_pin_memory=False,
        **more,
    )
    trainer = PolicyTrainer(
        model=model, args=settings, train_dataset=data, data_collator=collate, callbacks=list(callbacks)
    )
    work.mkdir(parents=True, exist_ok=True)
    trainer.train(resume_from_checkpoint=get_last_checkpoint(str(work)))


class PolicyTrainer(Trainer):
    """Loss on the solutions only, and logits only where there is a loss. Padding is on the right, so causality masks it."""

    def _get_train_sampler(self, *_: object) -> torch.utils.data.Sampler:
        return torch.utils.data.SequentialSampler(cast(Rows, self.train_dataset))

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        hidden = model.model(input_ids=inputs["input_ids"]).last_hidden_state[:, :-1]
        labels = inputs["labels"][:, 1:]
        wanted = labels != -100
        loss = torch.nn.functional.cross_entropy(model.lm_head(hidden[wanted]), labels[wanted])
        return (loss, None) if return_outputs else loss


class Watch(TrainerCallback):
    """Ends a training after so many steps and adds up its seconds in this process."""

    def __init__(self, stop: int):
        self.stop, self.seconds = stop, 0.0

    def on_step_begin(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.started = time.monotonic()

    def on_step_end(self, args: Any, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        self.seconds += time.monotonic() - self.started
        control.should_training_stop = state.global_step >= self.stop


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=lab.FOLDER / "policy")
    parser.add_argument("--work", type=Path, default=ROOT / "data" / "policy-training", help="checkpoints")
    arguments = parser.parse_args()

    torch.manual_seed(SEED)
    tokenizer = make_tokenizer()
    tokenizer.save_pretrained(arguments.out)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=160,
        intermediate_size=448,
        num_hidden_layers=4,
        num_attention_heads=5,
        num_key_value_heads=5,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        bos_token_id=None,
    )
    model = LlamaForCausalLM(config)
    print(f"{model.num_parameters():,} parameters, {len(tokenizer):,} tokens", flush=True)
    seconds, work = 0.0, arguments.work
    if _steps_done(work) < FIRST:
        made = rows((FIRST_LAID_OUT + 50) * BATCH, PHASES[0][1], f"rows {SEED}", FIRST_ARITHMETIC)
        seconds += _train_until(FIRST, model, Rows([made], tokenizer, operands=True), work, FIRST_LAID_OUT)
    if _steps_done(work) < STOP:
        phases = [rows(steps * BATCH, mix, f"rows {SEED} {phase}") for phase, (steps, mix) in enumerate(PHASES)]
        seconds += _train_until(STOP, model, Rows(phases, tokenizer), work, sum(steps for steps, _ in PHASES))
    model = LlamaForCausalLM.from_pretrained(work / f"checkpoint-{STOP}")
    model.config.use_cache = True  # the trainer turns it off
    model.save_pretrained(arguments.out)
    print(f"{seconds:.0f} s of training in this process; written to {arguments.out}")


def _train_until(stop: int, model: Any, data: Rows, work: Path, laid_out: int) -> float:
    """Train until step `stop`, with a learning rate laid out for `laid_out` steps; returns the seconds it took."""
    print(f"{len(data):,} rows, {sum(len(ids) for ids, _ in data.rows) / len(data):.0f} tokens each", flush=True)
    watch = Watch(stop)
    train(
        model, data, work, laid_out, BATCH, 2e-3, 5e-5, callbacks=[watch],
        warmup_steps=150, weight_decay=0.05, save_steps=SAVE_STEPS, save_total_limit=2, seed=SEED,
    )  # fmt: skip
    return watch.seconds


def _steps_done(work: Path) -> int:
    """Optimiser steps of the newest checkpoint."""
    last = get_last_checkpoint(str(work)) if work.exists() else None
    return int(last.rpartition("-")[2]) if last else 0


if __name__ == "__main__":
    main()
