"""Samples from a Transformers model in this process, or in one process per core or device.

A prompt is prefilled once and its keys and values are held once, whatever the number of its completions. Every candidate
has its own random stream, one number per token, so its text depends neither on its neighbours nor on the device. (Two
kernels may still round a probability differently in its last bits; once in millions of tokens a draw falls just there.)

It knows chats and their tokens. It does not know problems' answers, or the store; the loop is in `models/decoding.py`.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import AutoTokenizer

from bestofl_lib.models.cohorts import Group, Queue, Shape
from bestofl_lib.models.contract import Completion, Request, Sampling
from bestofl_lib.models.decoding import Decoder
from bestofl_lib.models.identity import folder_hash, hub_commit, locate
from bestofl_lib.models.opening import choose_device, choose_dtype, context_length, loading
from bestofl_lib.models.workers import cores, run_workers
from bestofl_lib.text import content_digest

_SMALL_MODEL_BYTES = 400 << 20  # below this, CPU cores work better apart than together
_WORKER_REQUESTS = 6000  # below this, starting processes costs more than it saves


class TransformersSampler:
    """A `Sampler` over any causal language model of the Hub, or a folder in its format.

    Nothing is loaded before the first `sample`; but what is wrong with the folder or name is said at once.

    Args:
        model: Hub id such as "Qwen/Qwen2.5-7B-Instruct", or a folder with config, safetensors weights and tokenizer.
        revision: branch, tag or commit on the Hub; None: the default branch. The commit it stands for is recorded.
        device: "auto" (CUDA, else MPS, else CPU) or a torch device such as "cuda:1".
        dtype: "auto" (bfloat16 on CUDA where it has it, else float16; float16 on MPS; float32 on CPU), or a torch name.
        batch_rows: completions written at once per process; None: 512, or as the memory allows.
        workers: processes; None: one per CUDA device, or one per core on a CPU when the model is small and there is
            much to do, else 1 (this process). What is drawn is the same.
        chat_template: None: the tokenizer's own; "plain": the messages' texts joined by empty lines, for base models;
            or a Jinja template. Part of the identity, so it is recorded with every candidate.

    Raises:
        FileNotFoundError: no such folder or Hub model, or a folder without weights.
        ValueError: weights only as pickles (they can run code when loaded), or an unknown device or dtype.
    """

    def __init__(
        self,
        model: str | Path,
        revision: str | None = None,
        *,
        device: str = "auto",
        dtype: str = "auto",
        batch_rows: int | None = None,
        workers: int | None = None,
        chat_template: str | None = None,
    ):
        if batch_rows is not None and batch_rows < 1:
            raise ValueError(
                f"batch_rows is {batch_rows}; it must be at least 1, or 0 in a notebook for as many as memory allows"
            )
        if workers is not None and workers < 1:
            raise ValueError(
                f"workers is {workers}; it must be at least 1, or 0 in a notebook to choose by machine and model"
            )
        self.chat_template = chat_template
        self.batch_rows = batch_rows
        self._workers = workers
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        self._one_device = device != "auto"
        self.source = locate(model)
        if Path(self.source).is_dir():
            if revision is not None:
                raise ValueError(
                    f"revision {revision!r} was given for the folder {self.source}; only Hub models have revisions"
                )
            folder = Path(self.source)
            self.revision, self.name = None, folder.name
            identity = f"sha256:{folder_hash(folder)}"
            self._weight_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        else:
            self.name = self.source
            self.revision = hub_commit(self.source, revision)
            identity = f"{self.source}@{self.revision}"
            self._weight_bytes = 0
        if chat_template is not None:
            identity += "+template:" + content_digest(chat_template)[:8]
        self.identity = identity

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        with loading(self.source):
            return AutoTokenizer.from_pretrained(self.source, revision=self.revision, trust_remote_code=False)

    @cached_property
    def _decoder(self) -> Decoder:
        return Decoder(self._options(str(self.device)))

    def _options(self, device: str) -> dict[str, Any]:
        return {
            "source": self.source,
            "revision": self.revision,
            "device": device,
            "dtype": self.dtype,
            "batch_rows": self.batch_rows,
        }

    def sample(self, requests: Sequence[Request], settings: Sampling) -> Iterator[tuple[Request, Completion]]:
        """Yield every request once with its completion, as they finish.

        A request that runs out of memory on its own, or whose logits are not numbers, ends with finish reason "error".

        Raises:
            ValueError: no chat template, or a prompt that leaves no room for max_new_tokens in the model's context.
        """
        groups = self._groups(requests, settings)
        workers = self._count_workers(len(requests), len(groups))
        if workers == 1:
            source: Iterator[tuple[int, Completion]] = self._decoder.run(Queue(groups).take, Shape.of(groups), settings)
        else:
            source = run_workers(self._worker_options(workers), groups, settings)
        with contextlib.closing(source):  # type: ignore[type-var]
            for index, completion in source:
                yield requests[index], completion

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt text of a chat, ready for the model to go on from.

        Raises:
            ValueError: the tokenizer has no chat template and none was given, or the template refuses the messages.
        """
        if self.chat_template == "plain":
            return "\n\n".join(message["content"] for message in messages) + "\n\n"
        if self.chat_template is None and not self.tokenizer.chat_template:
            raise ValueError(
                f"{self.name} has no chat template, so it is probably a base model; take its instruct version, "
                "or set chat_template to 'plain' (texts only) or to a Jinja template"
            )
        try:
            return self.tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                chat_template=self.chat_template,
                add_generation_prompt=True,
                tokenize=False,
            )
        except TemplateError as error:
            roles = ", ".join(dict.fromkeys(message["role"] for message in messages))
            raise ValueError(
                f"the chat template of {self.name} refuses these messages (roles: {roles}): {error}; "
                "leave system_prompt empty if it takes no system message, or set another chat_template"
            ) from error

    def _groups(self, requests: Sequence[Request], settings: Sampling) -> list[Group]:
        """One group per prompt, the longest prompts first."""
        by_prompt: dict[tuple[tuple[str, str], ...], Group] = {}
        for index, request in enumerate(requests):
            key = tuple((message["role"], message["content"]) for message in request.messages)
            if key not in by_prompt:
                by_prompt[key] = Group([], [], request.problem_id, request.language)
                by_prompt[key].text = self.render(request.messages)
            by_prompt[key].rows.append((index, request.seed))
        groups = list(by_prompt.values())
        # the template has put special tokens in its place already
        encoded = self.tokenizer([g.text for g in groups], add_special_tokens=self.chat_template == "plain")[
            "input_ids"
        ]
        room = context_length(self.source, self.revision)
        for group, ids in zip(groups, encoded, strict=True):
            group.ids = ids
            if not ids:
                raise ValueError(f"the prompt of problem {group.problem_id} ({group.language}) has no tokens")
            if room is not None and len(ids) + settings.max_new_tokens > room:
                raise ValueError(
                    f"the prompt of problem {group.problem_id} ({group.language}) has {len(ids)} tokens, which with "
                    f"max_new_tokens {settings.max_new_tokens} exceeds the {room} positions of {self.name}; "
                    f"lower max_new_tokens to {max(room - len(ids), 0)} or take a model with a longer context"
                )
            group.text = ""
        groups.sort(key=lambda group: -len(group.ids))
        return groups

    def _count_workers(self, n_requests: int, n_groups: int) -> int:
        if self._workers is not None:
            return max(1, min(self._workers, n_groups))
        if not hasattr(os, "fork"):
            return 1  # worker processes need POSIX pipes
        if self.device.type == "cuda" and not self._one_device:
            return min(torch.cuda.device_count(), n_groups)
        if self.device.type == "cpu" and 0 < self._weight_bytes < _SMALL_MODEL_BYTES and n_requests >= _WORKER_REQUESTS:
            return min(cores(), n_groups)
        return 1

    def _worker_options(self, workers: int) -> list[dict[str, Any]]:
        if self.device.type == "cuda" and not self._one_device:
            return [self._options(f"cuda:{i % torch.cuda.device_count()}") for i in range(workers)]
        threads = max(1, cores() // workers)
        return [self._options(str(self.device)) | {"threads": threads} for _ in range(workers)]
