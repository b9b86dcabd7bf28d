"""A few completions as people read them: the question, the whole text, how it ended and what was read."""

from __future__ import annotations

import html
from typing import Any

import polars as pl
from IPython.display import HTML

from bestofl_lib.display import words
from bestofl_lib.display.text import visible
from bestofl_lib.tables import KEYS
from bestofl_lib.text import counted

LONGEST = 4_000  # characters of a completion that are shown
ENDS = {"stop": "ended by itself", "length": "cut off at the limit of tokens"}


def completions(
    candidates: pl.DataFrame, problems: pl.DataFrame, readings: pl.DataFrame | None = None, n: int = 3
) -> HTML:
    """The first of the problems that has candidates, in up to `n` languages, a whole completion of each.

    Args:
        candidates, problems, readings: tables of a run; without readings nothing is said of the answer.
        n: completions shown.
    """
    known = candidates.lazy().filter(pl.col("problem_id").is_in(problems["problem_id"].unique().implode()))
    first = known.select(pl.col("problem_id").first()).collect().item()
    if first is None:
        return HTML("")
    mine = (
        candidates.filter(problem_id=first)
        .sort("language", "sample_index")
        .unique("language", keep="first", maintain_order=True)
    )
    if readings is not None:
        mine = mine.join(
            readings.select(*KEYS, "answer", "is_correct"), on=list(KEYS), how="left", maintain_order="left"
        )
    asked = problems.select("problem_id", "language", "question", "reference")
    mine = mine.join(asked, on=["problem_id", "language"], how="left", maintain_order="left")
    spread = [place * len(mine) // n for place in range(n)] if len(mine) > n else range(len(mine))
    return HTML("".join(_example(mine.row(place, named=True)) for place in spread))


def _example(row: dict[str, Any]) -> str:
    told = words.describe_language(row["language"])
    tongue = f'lang="{html.escape(told["code"])}" dir="{told["dir"]}"'
    facts = [ENDS.get(row["finish_reason"], ""), counted(row["n_tokens"], "token") if row["n_tokens"] else ""]
    if "is_correct" in row:
        read = "nothing could be read" if row["answer"] is None else f"read as {row['answer']}"
        facts.append(f"{read}: {'right' if row['is_correct'] else 'not correct'}")
    if not row.get("is_correct"):
        facts.append(f"the right answer is {row['reference']}")
    told_facts = ", ".join(fact for fact in facts if fact)
    text = row["completion"] or ""
    if len(text) > LONGEST:
        text = f"{text[:LONGEST]} … [{len(text) - LONGEST:,} characters not shown]"
    title = f"{told['name']}, problem {row['problem_id']}"
    return (
        f"<h4>{_shown(title)}</h4><p {tongue}>{_shown(row['question'] or '')}</p>"
        f'<pre class="text" style="white-space: pre-wrap" {tongue}>{_shown(text)}</pre>'
        f"<p>{_shown(told_facts[:1].upper() + told_facts[1:])}.</p>"
    )


def _shown(text: str) -> str:
    return html.escape(visible(text))
