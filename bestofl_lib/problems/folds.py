"""Folds of problems, and the check that nothing is scored by what was trained on it.

A fold is a property of a problem id: the same for all languages. Questions are compared by a hash of their text, so
that a problem under another id is recognised.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

import polars as pl

from bestofl_lib.problems.sets import set_of
from bestofl_lib.text import counted, key_digest, stable_integer


def fold_of(problem_ids: Iterable[str], folds: int, seed: int = 0) -> list[int]:
    """Fold of each problem, by a hash of its id: the same in every language, whatever else is in the table.

    scikit-learn's `GroupKFold` distributes the problems it is given: a 251st problem moves 169 of 250 to another fold,
    and reward models would then judge what they learnt from. A hash of the id moves none.

    >>> fold_of(["p0", "p1", "p2", "p1"], 5)[1:2] == fold_of(["p1"], 5)
    True

    Raises:
        ValueError: fewer than two folds.
    """
    if folds < 2:
        raise ValueError(f"folds={folds}: cross-fitting needs at least 2")
    return [stable_integer(f"{seed}:{p}") % folds for p in problem_ids]


def normalised_question(text: str) -> str:
    """A question's text for comparison: NFKC, case folded, white space and punctuation dropped, digits kept."""
    return "".join(
        c for c in unicodedata.normalize("NFKC", text).casefold() if c.isalnum() or unicodedata.category(c)[0] == "M"
    )


def question_hashes(problems: pl.DataFrame) -> dict[str, str]:
    """Hash of each normalised question -> its problem id."""
    return {
        key_digest(normalised_question(question)): problem
        for problem, question in problems.select("problem_id", "question").iter_rows()
    }


def check_disjoint(
    trained_ids: Iterable[str], trained_questions: Iterable[str], problems: pl.DataFrame, name: str
) -> None:
    """Refuse to score a problem that the reward model learnt from, by id or by the text of its question in any
    language.

    Args:
        trained_ids: problem ids of the training pairs.
        trained_questions: hashes as of `question_hashes`.
        problems: the problems to be scored.
        name: of the reward model, for the message.

    Sets of one family hold the same problems in other words, other numbers or other languages (`family` in sets.toml),
    so what learnt from one of them scores none of the others.

    Raises:
        ValueError: naming the first of the shared problems and their number, or the two sets of one family.
    """
    trained_ids = list(trained_ids)
    check_families(trained_ids, problems["problem_id"].unique().to_list(), name)
    ids = sorted(set(trained_ids) & set(problems["problem_id"].unique()))
    if ids:
        raise ValueError(
            f"reward model {name!r} was trained on {len(ids):,} of the problems to be scored ({', '.join(ids[:3])}); "
            "train on another split, or cross-fit with folds=5"
        )
    hashes = question_hashes(problems)
    shared = sorted({hashes[h] for h in set(trained_questions) & hashes.keys()})
    if shared:
        raise ValueError(
            f"the questions of {counted(len(shared), 'problem')} to be scored ({', '.join(shared[:3])}) "
            f"were in the training data of reward model {name!r} under other ids; remove them from one side"
        )


ANOTHER_SET = "train on another set, such as the lab (source lab-train:5000)"


def check_families(trained: Iterable[str], scored: Iterable[str], name: str, remedy: str = ANOTHER_SET) -> None:
    """Refuse to score one set of a family by what learnt from another, or variants of the problems learnt from.

    Args:
        trained, scored: problem ids; the same ones where a model is cross-fitted by problem.
        name: of the reward model, for the message.
        remedy: the next step, for the message.

    Raises:
        ValueError: naming the two sets of one family.
    """
    found, asked = ({one.name: one for one in map(set_of, ids) if one is not None} for ids in (trained, scored))
    for mine in found.values():
        for other in asked.values():
            if not mine.family or mine.family != other.family:
                continue
            if mine.name != other.name:
                raise ValueError(
                    f"reward model {name!r} was trained on {mine.name} and is to score {other.name}: both hold the "
                    f"problems of {mine.family}; {remedy}"
                )
            if mine.variants:
                raise ValueError(
                    f"reward model {name!r} was trained on problems of {mine.name} and is to score others of it, but "
                    f"they are variants of the same problems of {mine.family}; {remedy}"
                )
