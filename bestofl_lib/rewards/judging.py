"""What a chat model is asked about a candidate, and how its verdict becomes a reward.

Two templates. "judge" asks for Yes or No and nothing else; "verification" asks for a written check that ends with a
verdict. The reward is P(Yes) against P(No) at the token of the verdict where the answer holds log-probabilities, else 1
or 0 by the text. An answer without a verdict has no reward: it is set aside, counted, and never asked for again.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

LONGEST = {"judge": 8, "verification": 2048}  # tokens written, unless a study says otherwise
ASKED = {
    "judge": "Is this solution correct? Answer Yes or No.",
    "verification": (
        "Check this solution step by step: repeat each calculation, and compare the last answer with the question. "
        'Then end with one line, "Verdict: Yes" if the final answer is correct or "Verdict: No" if it is not.'
    ),
}
_VERDICT = {
    "judge": re.compile(r"\W*(yes|no)\b", re.I),  # the first word
    "verification": re.compile(r"(?:verdict|is the solution correct)\W*(yes|no)\b", re.I),  # the last line that says so
}


def judge_messages(template: str, question: str, completion: str) -> list[dict[str, str]]:
    """The chat that asks for a verdict."""
    content = f"Problem:\n{question}\n\nSolution:\n{completion.strip()}\n\n{ASKED[template]}"
    return [{"role": "user", "content": content}]


def verdict(template: str, text: str, tokens: Sequence[Mapping[str, Any]] = ()) -> float:
    """P(Yes) of an answer; NaN where it holds no verdict.

    Args:
        text: what the chat model wrote; a part that ends with `</think>` is thinking and is left out.
        tokens: its tokens with their likeliest alternatives, as the OpenAI API lists them under `logprobs.content`.

    >>> verdict("judge", "Yes."), verdict("verification", "3 + 4 = 7. Verdict: No"), verdict("judge", "Perhaps")
    (1.0, 0.0, nan)
    """
    thinking, ended, answer = text.rpartition("</think>")
    if not ended and answer.lstrip().startswith("<think>"):
        return math.nan  # cut while thinking
    pattern = _VERDICT[template]
    found = pattern.match(answer) if template == "judge" else next(iter(list(pattern.finditer(answer))[-1:]), None)
    if found is None:
        return math.nan
    said = found[1].casefold()
    is_first = template == "judge" and not thinking
    for token in tokens if is_first else reversed(tokens):  # the token of the verdict in the text
        if _word(token) == said:
            yes, no = (_probability(token, word) for word in ("yes", "no"))
            return yes / (yes + no) if yes + no > 0 else math.nan
    return float(said == "yes")


def _probability(token: Mapping[str, Any], word: str) -> float:
    """The summed probability of all spellings of a word at the place of a token."""
    others = token.get("top_logprobs") or [token]
    return math.fsum(math.exp(float(other["logprob"])) for other in others if _word(other) == word)


def _word(token: Mapping[str, Any]) -> str:
    return str(token.get("token", "")).strip(" \n\t*.\u2581\u0120").casefold()
