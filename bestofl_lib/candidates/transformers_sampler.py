"""Samples from a Transformers model in this process, or in one process per core or device.

A prompt is prefilled once and its keys and values are held once, whatever the number of its completions. Every
candidate has its own random stream, one number per token, so its text depends neither on its neighbours nor on the
device. (Two kernels may round a probability differently in its last bits; about once in millions of tokens this changes
a draw.)

It knows chats and their tokens. It does not know problems' answers, or the store; the loop is in `models/decoding.py`.
"""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import AutoTokenizer

from bestofl_lib.models.contract import Completion, Request, Sampling, Unfinished
from bestofl_lib.models.decoding import Decoder, free_bytes
from bestofl_lib.models.estimate import Memory, memory, tokens_per_second
from bestofl_lib.models.generate_decoding import GenerateDecoder
from bestofl_lib.models.identity import folder_hash, hub_commit, locate
from bestofl_lib.models.opening import Opening, choose_device, choose_dtype, context_length, loading
from bestofl_lib.models.work import Group, Queue, Row, Shape
from bestofl_lib.models.workers import Machine, run_workers
from bestofl_lib.models.writers import open_writer
from bestofl_lib.text import content_digest


class TransformersSampler:
    """A `Sampler` over any causal language model of the Hub, or a folder in its format.

    Nothing is loaded before the first `sample`, but a wrong folder or name is reported at once.

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
        self.device = choose_device(device)
        self.dtype = choose_dtype(dtype, self.device)
        self.source = locate(model)
        if Path(self.source).is_dir():
            if revision is not None:
                raise ValueError(
                    f"revision {revision!r} was given for the folder {self.source}; only Hub models have revisions"
                )
            folder = Path(self.source)
            self.revision, self.name = None, folder.name
            identity = f"sha256:{folder_hash(folder)}"
            weight_bytes = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
        else:
            self.name = self.source
            self.revision = hub_commit(self.source, revision)
            identity = f"{self.source}@{self.revision}"
            weight_bytes = 0
        if chat_template is not None:
            identity += "+template:" + content_digest(chat_template)[:8]
        self.identity = identity
        self._machine = Machine(self.device, device != "auto", weight_bytes, workers)

    @cached_property
    def tokenizer(self) -> Any:
        """The model's tokenizer."""
        with loading(self.source):
            return AutoTokenizer.from_pretrained(self.source, revision=self.revision, trust_remote_code=False)

    @cached_property
    def writer(self) -> Decoder | GenerateDecoder:
        """The loaded model with the decoder that serves it, in this process."""
        return open_writer(self._opening(str(self.device)))

    def _opening(self, device: str, threads: int | None = None) -> Opening:
        return Opening(self.source, self.revision, device, self.dtype, self.batch_rows, threads)

    def sample(
        self, requests: Sequence[Request], settings: Sampling
    ) -> Iterator[tuple[Request, Completion | Unfinished]]:
        """Yield every request once with its completion, as they finish, and at intervals what is unfinished.

        A request that runs out of memory on its own, or whose logits are not numbers, ends with finish reason "error".

        Raises:
            ValueError: no chat template, or a prompt that leaves no room for max_new_tokens in the model's context.
        """
        groups = self._groups(requests, settings)
        workers = self._machine.processes(len(requests), len(groups))
        if workers == 1:
            source: Iterator[tuple[int, Completion | Unfinished]] = self.writer.run(
                Queue(groups).take, Shape.of(groups), settings
            )
        else:
            source = run_workers([self._opening(*place) for place in self._machine.places(workers)], groups, settings)
        with contextlib.closing(source):  # type: ignore[type-var]
            for index, completion in source:
                yield requests[index], completion

    def memory(self) -> Memory:
        """The memory of weights and cache, from the configuration: no weights are read."""
        return memory(self.source, self.revision, self.dtype)

    def fitting(self, requests: Sequence[Request], settings: Sampling) -> tuple[int, int]:
        """Bytes free on the device, to be asked before the model is loaded, and how many of these completions fit in
        them at once, the weights included; 0: the weights alone do not."""
        free = free_bytes(self.device)
        rows = self.memory().rows(free, self.device, Shape.of(self._groups(requests, settings)), settings)
        return free, min(self.batch_rows, len(requests)) if rows and self.batch_rows else rows

    def tokens_per_second(self, requests: Sequence[Request], settings: Sampling) -> float:
        """The speed of this model in this process on some of these requests; nothing of it is kept."""
        groups = self._groups(requests, settings)
        speed = tokens_per_second(self.writer, groups, settings)
        if self._machine.processes(len(requests), len(groups)) > 1:  # they load the model, and need its memory
            del self.__dict__["writer"]
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()
        return speed

    def render(self, messages: Sequence[Mapping[str, str]]) -> str:
        """The prompt text of a chat, which the model continues.

        Raises:
            ValueError: the tokenizer has no chat template and none was given, or the template refuses the messages.
        """
        is_begun = messages[-1]["role"] == "assistant"  # then the model continues that message
        if self.chat_template == "plain":
            return "\n\n".join(message["content"] for message in messages) + ("" if is_begun else "\n\n")
        if self.chat_template is None and not self.tokenizer.chat_template:
            raise ValueError(
                f"{self.name} has no chat template, so it is probably a base model; take its instruct version, "
                "or set chat_template to 'plain' (texts only) or to a Jinja template"
            )
        try:
            return self.tokenizer.apply_chat_template(
                [dict(message) for message in messages],
                chat_template=self.chat_template,
                add_generation_prompt=not is_begun,
                continue_final_message=is_begun,
                tokenize=False,
            )
        except TemplateError as error:
            roles = ", ".join(dict.fromkeys(message["role"] for message in messages))
            raise ValueError(
                f"the chat template of {self.name} refuses these messages (roles: {roles}): {error}; "
                "leave system_prompt empty if it takes no system message, or set another chat_template"
            ) from error

    def _groups(self, requests: Sequence[Request], settings: Sampling) -> list[Group]:
        """One group per prompt, the longest prompts first; rows that were begun continue a prompt of their own."""
        prompts: dict[tuple[tuple[str, str], ...], list[int]] = {}
        for index, request in enumerate(requests):
            key = tuple((message["role"], message["content"]) for message in request.messages)
            prompts.setdefault(key, []).append(index)
        texts = [self.render(requests[members[0]].messages) for members in prompts.values()]
        # the template has put special tokens in its place already
        encoded = self.tokenizer(texts, add_special_tokens=self.chat_template == "plain")["input_ids"]
        room = context_length(self.source, self.revision)
        groups = []
        for ids, members in zip(encoded, prompts.values(), strict=True):
            first = requests[members[0]]
            self._check_length(first, len(ids), room, settings)
            fresh = Group(ids, [], first.problem_id, first.language)
            for index in members:
                request = requests[index]
                seed = _seed(request)
                if (begun := request.begun) is None:
                    fresh.rows.append(Row(index, seed, stop=request.stop))
                    continue
                row = Row(index, seed, begun.tokens, begun.logprob, begun.seconds, request.stop)
                groups.append(Group([*ids, *begun.tokens], [row], first.problem_id, first.language))
            groups.extend([fresh] if fresh.rows else [])
        groups.sort(key=lambda group: -len(group.ids))
        return groups

    def _check_length(self, request: Request, length: int, room: int | None, settings: Sampling) -> None:
        prompt = f"the prompt of problem {request.problem_id} ({request.language})"
        if not length:
            raise ValueError(f"{prompt} has no tokens; check the question and chat_template")
        if room is not None and length + settings.max_new_tokens > room:
            raise ValueError(
                f"{prompt} has {length} tokens, which with max_new_tokens {settings.max_new_tokens} exceeds the "
                f"{room} positions of {self.name}; lower max_new_tokens to {max(room - length, 0)} or take a model "
                "with a longer context"
            )


def _seed(request: Request) -> int:
    if request.seed is None:
        raise ValueError(
            f"candidate {request.sample_index} of problem {request.problem_id} ({request.language}) was asked for "
            "without a seed; this sampler draws from each candidate's own stream, so give one"
        )
    return request.seed
