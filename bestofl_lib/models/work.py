"""What is to be written: prompts in tokens, and the rows that continue them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """One completion to write."""

    index: int  # of its request
    seed: int  # of its random stream
    begun: tuple[int, ...] = ()  # tokens written by an interrupted call; its prompt ends with them
    logprob: float = 0.0  # summed over the tokens begun
    seconds: float = 0.0  # spent on them
    stop: tuple[str, ...] = ()  # texts at which it ends


@dataclass
class Group:
    """One prompt and the completions still to be drawn from it."""

    ids: list[int]  # prompt tokens, and those begun where the rows continue an interrupted call
    rows: list[Row]
    problem_id: str = ""  # for messages
    language: str = ""


@dataclass(frozen=True)
class Shape:
    """What the buffers must hold."""

    prompt: int  # tokens of the longest prompt
    width: int  # completions of the prompt with most
    rows: int  # completions altogether

    @classmethod
    def of(cls, groups: Sequence[Group]) -> Shape:
        return cls(max(len(g.ids) for g in groups), max(len(g.rows) for g in groups), sum(len(g.rows) for g in groups))


class Queue:
    """Groups handed out from the front."""

    def __init__(self, groups: Sequence[Group]):
        self.groups = deque(groups)

    def take(self, count: int) -> list[Group]:
        return [self.groups.popleft() for _ in range(min(count, len(self.groups)))]
