"""The schema and the grain of every table that crosses a step. It knows columns; it knows nothing of files.

Shares, accuracies, coverages and their intervals are fractions from 0 to 1; effects and gains are their differences.
`low` and `high` are ends of 95 % intervals over problems. Tables are long: budget, strategy, pool and reward model are
columns, never parts of a column's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import polars as pl

from bestofl_lib.text import counted, nearest

SPLITS = ("train", "dev", "test")  # of problems: reward models learn from train; test is judged
KEY = {"problem_id": pl.String, "language": pl.String, "sample_index": pl.Int32}
KEYS = list(KEY)
_INTERVAL = {"low": pl.Float64, "high": pl.Float64}
_TESTED = {"p": pl.Float64, "p_holm": pl.Float64, "mde": pl.Float64}  # p after Holm; effect found with 80 % power


def _estimates(*names: str) -> dict[str, type[pl.DataType]]:
    """Columns of these figures, each with the ends of its interval."""
    return {f"{name}{end}": pl.Float64 for name in names for end in ("", "_low", "_high")}


@dataclass(frozen=True)
class Table:
    """What one table of a run holds."""

    grain: str  # "one row per …"
    made_by: str  # the notebooks that write it, joined by " or "
    columns: Mapping[str, type[pl.DataType]] = field(repr=False)  # name to type, in order
    key: tuple[str, ...] = ()  # columns that tell the rows apart
    optional: tuple[str, ...] = ()  # columns that are null where a table comes without them
    filled: tuple[str, ...] = ()  # columns that are never null

    @cached_property
    def schema(self) -> pl.Schema:
        """The columns as Polars has them."""
        return pl.Schema(self.columns)


_CURVES: dict[str, type[pl.DataType]] = {
    "target": pl.String,  # language whose speaker asks; null when the arm is the same for all
    "pool": pl.String,  # whose candidates share the budget: "en", "mixed", "mixed-en", "planned"
    "strategy": pl.String,
    "reward_model": pl.String,  # null for strategies without one
    "budget": pl.Int32,  # completions per problem, over all languages
    "tokens": pl.Float64,  # mean generated tokens per problem at this budget
    "accuracy": pl.Float64,
    **_INTERVAL,
    "mc_error": pl.Float64,  # Monte Carlo standard error of accuracy; 0 where it is exact
    **_estimates("gain"),  # over the base language alone, same strategy and budget, paired
    "efficiency": pl.Float64,  # (strategy - random) / (oracle - random); null where the oracle gains nothing
    "n_problems": pl.Int32,
}
_REWARDS = KEY | {
    "reward_model": pl.String,
    "reward": pl.Float64,  # null: set aside, no usable number
    "seed": pl.Int32,  # of training; null where it is not known, as for given rewards
}
_OF_REWARDS = ((*KEY, "reward_model", "seed"), ("seed",), (*KEY, "reward_model"))  # key, optional and filled columns

TABLES: dict[str, Table] = {
    "problems": Table(
        "one row per problem and language",
        "01_generate_candidates or 02_import_pool",
        {
            "problem_id": pl.String,  # the same for all translations
            "language": pl.String,
            "split": pl.String,  # "train" (reward models learn from it), "dev" or "test"
            "question": pl.String,  # NFC
            "reference": pl.String,  # canonical, such as "18", "7/2" or "\\frac{\\pi}{2}"; the same in all languages
            "is_revised": pl.Boolean,  # this language's question was replaced in a revised edition
            "level": pl.String,  # null, or how hard the set calls the problem; the same in all languages
            "answer_kind": pl.String,  # "number" or "expression", of the reference; null in older runs: a number
        },
        ("problem_id", "language"),
        ("level", "answer_kind"),
        ("problem_id", "language", "split", "question", "reference"),
    ),
    "candidates": Table(  # in the store, not a separate file
        "one row per candidate",
        "01_generate_candidates or 02_import_pool",
        KEY
        | {
            "draw": pl.String,  # hash of all that shapes the completion: model, revision, prompt, settings
            "model": pl.String,
            "completion": pl.String,
            "n_tokens": pl.Int32,  # null where an imported pool does not say
            "finish_reason": pl.String,  # "stop", "length" or "error"
            "logprob": pl.Float64,  # summed over the completion's tokens, of the untempered model
            "seed": pl.Int64,
            "seconds": pl.Float64,  # its share of its batch's wall time
            "condition": pl.String,  # null, or what set this candidate apart in an imported pool, or "wording 2"
            # the three axes, as asked; null in runs made before they were kept: all are `language`
            "question_language": pl.String,  # the question's text
            "thinking_language": pl.String,  # what the instruction or the begun solution asks to think in
            "answer_language": pl.String,  # what the last line is asked in
        },
        tuple(KEY),
        ("question_language", "thinking_language", "answer_language"),
        (*KEY, "draw", "model"),
    ),
    "readings": Table(
        "one row per candidate",
        "03_check_answers",
        KEY
        | {
            "answer": pl.String,  # canonical, equal answers alike; null when nothing could be read
            "rule": pl.String,  # which rule read the answer; null exactly where the answer is
            "start": pl.Int32,
            "end": pl.Int32,
            "note": pl.String,  # empty, or why the reading is doubtful
            "is_correct": pl.Boolean,  # never null: an unreadable answer is not correct, and is counted
            "trace_language": pl.String,  # the language the completion is written in; null: abstained
            "equations": pl.Int32,  # written in the completion, see `answers/equations`; null: not looked for
            "false_equations": pl.Int32,  # and how many of them do not hold
        },
        tuple(KEY),
        ("equations", "false_equations"),
        (*KEY, "is_correct"),
    ),
    "labels": Table(  # made by hand in the explorer, never by a study
        "one row per candidate whose reading was judged by a person",
        "10_explore_candidates",
        KEY
        | {
            "answer": pl.String,  # what had been read when it was judged; null: nothing
            "is_right": pl.Boolean,  # the reading is what the completion says
            "judged": pl.String,  # when, ISO 8601
        },
        tuple(KEY),
    ),
    "accuracy": Table(
        "one row per language; a single candidate of the test problems",
        "03_check_answers",
        {
            "language": pl.String,
            "accuracy": pl.Float64,
            **_INTERVAL,
            "unreadable": pl.Float64,  # share of candidates in which no answer was found
            "doubtful": pl.Float64,  # share read with a note
            "cut": pl.Float64,  # share that ended at the longest length
            "n_candidates": pl.Int64,
            "n_problems": pl.Int64,
            "accuracy_unrevised": pl.Float64,  # without problems whose question was replaced; null where none was
            "n_unrevised": pl.Int64,
        },
        ("language",),
    ),
    "accuracy_by_level": Table(
        "one row per language and level; a single candidate of the test problems",
        "03_check_answers",
        {
            "level": pl.String,
            "language": pl.String,
            "accuracy": pl.Float64,
            **_INTERVAL,
            "unreadable": pl.Float64,
            "n_candidates": pl.Int64,
            "n_problems": pl.Int64,
        },
        ("level", "language"),
    ),
    "step_labels": Table(
        "one row per training candidate and step of its completion",
        "12_label_steps",
        KEY
        | {
            "step": pl.Int32,  # counts from 0
            "end": pl.Int32,  # where it ends in the completion, in characters
            "rollouts": pl.Int32,  # continuations of the completion up to here; of the last step: 1, the completion
            "right": pl.Int32,  # how many of them reached the right answer
        },
        (*KEY, "step"),
    ),
    "trained": Table(
        "one row per reward model, training seed and fold",
        "04_train_reward_models",
        {
            "reward_model": pl.String,
            "seed": pl.Int32,  # of the pairs drawn, of new weights and of the order of training
            "fold": pl.Int32,  # null without cross-fitting
            "rows": pl.Int32,  # training pairs; the same for all models trained together; 0: it could not be trained
            "available": pl.Int64,  # pairs that existed
            "n_problems": pl.Int32,  # problems its pairs come from
            "n_candidates": pl.Int32,  # distinct candidates in its pairs
            "loss": pl.String,
            "readout": pl.String,
            "tuning": pl.String,
            "held_out_accuracy": pl.Float64,  # share of held-out training pairs in the right order; null if none
            "truncated": pl.Int32,  # candidates of its pairs that were cut to fit
            "seconds": pl.Float64,  # for this model alone, without what all models share
            "status": pl.String,  # "trained", "kept" (it existed with the same recipe) or why it could not be trained
            "folder": pl.String,
        },
        ("reward_model", "seed", "fold"),
    ),
    "baseline": Table(
        "one row per reward model of the text baseline",
        "06_score_text_baseline",
        {
            "reward_model": pl.String,
            "rows": pl.Int64,  # pairs it learnt from in each fold; 0: none could be formed, so no rewards either
            "available": pl.Int64,  # pairs that existed, in the fold with fewest
            "n_problems": pl.Int64,  # problems its pairs come from, in the fold and training with fewest
            "n_candidates": pl.Int64,  # distinct candidates in its pairs, in the fold and training with fewest
            "status": pl.String,  # "trained" or why it could not be
        },
        ("reward_model",),
        ("n_problems", "n_candidates", "status"),
    ),
    "rewards": Table(
        "one row per candidate, reward model and training seed",
        "05_score_candidates or 06_score_text_baseline",
        _REWARDS,
        *_OF_REWARDS,
    ),
    "dev_rewards": Table(
        "one row per candidate of the dev split, reward model and training seed",
        "05_score_candidates",
        _REWARDS,
        *_OF_REWARDS,
    ),
    "given_rewards": Table(  # as `rewards`: 06_score_text_baseline and 05_score_candidates take them over
        "one row per candidate and reward that an imported pool brought; none where it brought none",
        "02_import_pool",
        _REWARDS,
        (*KEY, "reward_model"),
        ("seed",),
        (*KEY, "reward_model"),
    ),
    "reward_steps": Table(
        "one row per candidate, process reward model and step of the completion",
        "05_score_candidates",
        KEY | {"reward_model": pl.String, "step": pl.Int32, "reward": pl.Float64},  # P(right); the step counts from 0
        (*KEY, "reward_model", "step"),
    ),
    "reward_quality": Table(
        "one row per reward model and language, and one for all its languages (language null)",
        "05_score_candidates or 06_score_text_baseline",
        {
            "reward_model": pl.String,
            "language": pl.String,
            "auc": pl.Float64,  # chance that a right candidate outranks a wrong one of its problem and language
            **_INTERVAL,
            "n_problems": pl.Int32,
            "n_pairs": pl.Int64,
        },
        ("reward_model", "language"),
    ),
    "reward_trials": Table(
        "one row per way to train and reward model, judged on the dev split",
        "13_try_reward_settings",
        {
            "trial": pl.String,  # what was changed, as it was asked for
            "reward_model": pl.String,  # "mono": those of single languages, each in its own
            "rows": pl.Int32,  # training pairs, as the next two a mean over trainings
            "n_problems": pl.Int32,  # problems that its pairs come from
            "n_candidates": pl.Int32,  # distinct candidates in its pairs
            "trainings": pl.Int32,
            "auc": pl.Float64,  # chance that a right candidate outranks a wrong one of its problem and language
            **_INTERVAL,
            **_estimates("across"),  # the same of candidates in two languages
            **_estimates("mixed", "english"),  # accuracy of the best of as many completions as each language has, taken
            # from all languages or from English
            "seconds": pl.Float64,  # of one training, of all languages for mono, without what frozen models share
        },
        ("trial", "reward_model"),
    ),
    "reward_bias": Table(
        "one row per reward model, trait and value of it",
        "11_compare_reward_models",
        {
            "reward_model": pl.String,
            "trait": pl.String,  # "language", "script", "length", "place" (in the pool) or "cue" (announces its answer)
            "value": pl.String,  # a language, or what the candidates with the trait are
            "bias": pl.Float64,  # mean reward of these candidates minus that of others as right, in standard deviations
            **_INTERVAL,
            "n_problems": pl.Int64,
            "n_candidates": pl.Int64,
        },
        ("reward_model", "trait", "value"),
    ),
    "reward_across": Table(
        "one row per reward model, language of the right and of the wrong candidate, and one over all (both null)",
        "05_score_candidates",
        {
            "reward_model": pl.String,
            "chosen_language": pl.String,
            "rejected_language": pl.String,
            "accuracy": pl.Float64,  # chance that the right candidate outranks the wrong one of the same problem
            **_INTERVAL,
            "n_problems": pl.Int32,
            "n_pairs": pl.Int64,
        },
        ("reward_model", "chosen_language", "rejected_language"),
    ),
    "exclusive": Table(
        "one row per ordered pair of different languages and budget",
        "07_language_complementarity",
        {
            "language": pl.String,  # solves
            "other": pl.String,  # does not
            "budget": pl.Int32,  # completions of each
            "exclusive": pl.Float64,  # expected problems, as are the next three
            "both_wrong": pl.Float64,
            "both_right": pl.Float64,
            "phi": pl.Float64,  # correlation over problems; null where one never varies
            "exclusive_resampled": pl.Float64,  # the same against a second draw of the language itself
            "n_problems": pl.Int32,
        },
        ("language", "other", "budget"),
    ),
    "gains": Table(
        "one row per added language and budget",
        "07_language_complementarity",
        {
            "language": pl.String,
            "base": pl.String,
            "budget": pl.Int32,
            "added": pl.Int32,  # of the budget's completions, in the added language
            "coverage_base": pl.Float64,
            "coverage_with": pl.Float64,
            "coverage_again": pl.Float64,  # with more of the base instead
            "with_low": pl.Float64,
            "with_high": pl.Float64,
            "again_low": pl.Float64,
            "again_high": pl.Float64,
            "gain": pl.Float64,  # coverage_with - coverage_again
            **_INTERVAL,
            **_TESTED,
            "verdict": pl.String,
            "n_problems": pl.Int32,
        },
        ("language", "budget"),
    ),
    "added_languages": Table(
        "one row per base language and added language, at one budget",
        "07_language_complementarity",
        {
            "base": pl.String,  # who asks
            "language": pl.String,  # gets half of the budget
            "budget": pl.Int32,
            "coverage_with": pl.Float64,
            "coverage_again": pl.Float64,  # the whole budget in the base
            "gain": pl.Float64,
            **_INTERVAL,
            **_TESTED,  # Holm over the languages added to one base
            "room": pl.Float64,
            "verdict": pl.String,
            "n_problems": pl.Int32,
        },
        ("base", "language", "budget"),
    ),
    "greedy": Table(
        "one row per step of adding the language that helps most",
        "07_language_complementarity",
        {
            "step": pl.Int32,
            "language": pl.String,
            "pool": pl.String,  # languages so far, joined by "+"
            "objective": pl.String,
            "budget": pl.Int32,
            "accuracy": pl.Float64,
            **_INTERVAL,
            "gain": pl.Float64,  # over the step before; null at the first
            "n_problems": pl.Int32,
        },
        ("step",),
    ),
    "shapley": Table(
        "one row per language and objective",
        "07_language_complementarity",
        {
            "language": pl.String,
            "objective": pl.String,  # "oracle" (coverage) or the reward model that chooses
            "budget": pl.Int32,
            "shapley": pl.Float64,
            **_INTERVAL,
            "share": pl.Float64,  # of the total; null where nothing is solved
            "total": pl.Float64,  # all languages together
            "n_problems": pl.Int32,
        },
        ("language", "objective"),
    ),
    "sole_solvers": Table(
        "one row per language and cause of its being the only one to solve a problem",
        "07_language_complementarity",
        {
            "language": pl.String,
            "cause": pl.String,
            "problems": pl.Float64,  # expected number
            "share": pl.Float64,  # of all sole solves
            "budget": pl.Int32,
            "n_problems": pl.Int32,
        },
        ("language", "cause"),
    ),
    "claims": Table(
        "one row per claim, part and definition of high-resource",
        "08_budget_curves",
        {
            "claim": pl.String,
            "part": pl.String,  # "total"; of H1 and H2 also "pool" and "reward", which add up to it
            "high_resource": pl.String,  # of H2: "fixed" (the list) or "strongest" (this policy's best); else null
            "statement": pl.String,
            "verdict": pl.String,  # "supported", "not supported", "no room", "undecided" or "not tested"
            "effect": pl.Float64,  # H2: of the weakest language
            **_INTERVAL,
            **_TESTED,  # Holm over the claims tested that share the part; what the verdict's own rule finds
            "room": pl.Float64,  # what a perfect arm would gain
            "budget": pl.String,  # one or several, as words
            "strategy": pl.String,
            "base": pl.String,  # language that H3 and H4 compare with
            "language": pl.String,  # H2: the weakest, which decides; else null
            "gaining": pl.String,  # languages that gain for themselves after Holm, such as "sw, te"
            "losing": pl.String,
            "n_compared": pl.Int32,  # comparisons that all have to succeed: H2's languages, else 1
            "n_arms": pl.Int32,  # arms that were looked at to find the ones compared
            "n_seeds": pl.Int32,  # training seeds of the reward models
            "n_problems": pl.Int32,
            **_estimates("break_even", "break_even_tokens"),  # H3: completions up to which the mix is ahead
            "bounded_by": pl.String,  # what the verdict rests on
            "not_evidence_for": pl.String,
            "sentence": pl.String,
        },
        ("claim", "part", "high_resource"),
    ),
    "claim_details": Table(
        "one row per claim, part and language (H1, H4) or per mix and budget (H3)",
        "08_budget_curves",
        {
            "claim": pl.String,
            "part": pl.String,
            "language": pl.String,
            "arm": pl.String,  # languages that share the budget, or the reward model
            "budget": pl.Int32,
            "strategy": pl.String,
            "reward_model": pl.String,
            "against": pl.String,
            "effect": pl.Float64,
            **_INTERVAL,
            **_TESTED,  # Holm over the rows of this claim and part
            "room": pl.Float64,
            "verdict": pl.String,
            "high_resource": pl.String,  # H1: by which definition, "fixed", "strongest" or both; else null
            "n_problems": pl.Int32,
        },
        ("claim", "part", "language", "arm", "budget", "strategy", "reward_model", "against"),
    ),
    "claim_controls": Table(
        "one row per arm and target language, and one for the mean over languages (language null)",
        "08_budget_curves",
        {
            "language": pl.String,
            "pool": pl.String,  # the language's own code ("own" for the mean), "mixed", or the base language
            "selector": pl.String,  # reward model, strategy, or what was made of a reward model
            "fitted": pl.Boolean,  # something was fitted or chosen, on other problems than those it is judged on
            "budget": pl.Int32,
            "accuracy": pl.Float64,
            **_INTERVAL,
            **_estimates("gain"),  # over the own pool chosen from by the own model
            "p": pl.Float64,
            "p_holm": pl.Float64,  # over the arms of one language
            "n_problems": pl.Int32,
        },
        ("language", "pool", "selector"),
    ),
    "curves": Table(
        "one row per target language, pool, strategy, reward model and budget",
        "08_budget_curves",
        _CURVES,
        ("target", "pool", "strategy", "reward_model", "budget"),
        ("gain", "gain_low", "gain_high"),
    ),
    "curves_by_level": Table(
        "one row per level, target language, pool, strategy, reward model and budget",
        "08_budget_curves",
        {"level": pl.String, **_CURVES},
        ("level", "target", "pool", "strategy", "reward_model", "budget"),
        ("gain", "gain_low", "gain_high"),
    ),
    "interval_sources": Table(
        "one row per pool, strategy, reward model and what is resampled",
        "08_budget_curves",
        {
            "pool": pl.String,
            "strategy": pl.String,
            "reward_model": pl.String,
            "budget": pl.Int32,
            "resampled": pl.String,  # "problems", "candidates" or "both"
            "accuracy": pl.Float64,
            **_INTERVAL,
            "n_problems": pl.Int32,
        },
        ("pool", "strategy", "reward_model", "budget", "resampled"),
    ),
    "selected": Table(
        "one row per strategy, reward model, pool, budget and language of the candidate that wins",
        "08_budget_curves",
        {
            "language": pl.String,
            "share": pl.Float64,  # of wins
            "strategy": pl.String,
            "reward_model": pl.String,
            "pool": pl.String,
            "budget": pl.Int32,
            "n_problems": pl.Int32,
        },
        ("language", "strategy", "reward_model", "pool", "budget"),
    ),
    "plan": Table(
        "one row per budget and arm",
        "09_plan_budget",
        {
            "budget": pl.Int32,
            "objective": pl.String,
            "arm": pl.String,  # "planned", "en", "mixed" or "hindsight"
            "allocation": pl.String,  # such as "en 2, th 1"
            "accuracy": pl.Float64,  # of "planned": on problems it was not made on
            **_INTERVAL,
            **_estimates("gain"),  # of the plan over this arm
            "p": pl.Float64,
            "regret": pl.Float64,  # hindsight minus this arm
            "exhaustive": pl.Boolean,  # whether hindsight tried all allocations
            "n_problems": pl.Int32,
        },
        ("budget", "arm"),
    ),
    "allocations": Table(
        "one row per budget and language",
        "09_plan_budget",
        {
            "budget": pl.Int32,
            "objective": pl.String,
            "language": pl.String,
            "completions": pl.Int32,  # planned on all problems
            "least": pl.Int32,  # over the plans of all folds
            "most": pl.Int32,
            "n_problems": pl.Int32,
        },
        ("budget", "language"),
    ),
}
SCHEMAS: dict[str, pl.Schema] = {name: table.schema for name, table in TABLES.items()}


def check_table(name: str, table: pl.DataFrame, *, extra: bool = True) -> pl.DataFrame:
    """The table with its columns in the order and types of its schema.

    Args:
        name: one of TABLES.
        extra: whether columns that the schema does not have are left out without a word, or refused.

    Raises:
        ValueError: naming missing columns (with a suggestion), columns of another type, columns too many, rows
            without a value that every row has, or rows with the same key.
    """
    declared = TABLES[name]
    table = table.with_columns(pl.lit(None).alias(c) for c in declared.optional if c not in table.columns)
    missing = [column for column in declared.schema if column not in table.columns]
    if missing:
        near = {m: nearest(m, table.columns) for m in missing}
        hints = [f"{m} (is it {n!r}?)" if n else m for m, n in near.items()]
        raise ValueError(f"table {name!r} lacks {', '.join(hints)}; it has {', '.join(table.columns)}")
    unknown = [column for column in table.columns if column not in declared.schema]
    if unknown and not extra:
        raise ValueError(
            f"table {name!r} has columns that its schema lacks: {', '.join(unknown)}; add them in "
            "bestofl_lib/tables.py, or leave them out"
        )
    try:
        table = table.select(pl.col(column).cast(dtype) for column, dtype in declared.schema.items())
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"table {name!r} does not fit its schema: {error}") from error
    for column in declared.filled:
        if count := table[column].null_count():
            raise ValueError(
                f"table {name!r} has {counted(count, 'row')} without a value in {column!r}; run its notebook again "
                f"({declared.made_by})"
            )
    double = table.select(declared.key).is_duplicated()
    if double.any():
        row = table.filter(double).row(0, named=True)
        raise ValueError(
            f"table {name!r} has more than one row with "
            + ", ".join(f"{c} {row[c]!r}" for c in declared.key)
            + f"; it has {declared.grain}"
        )
    return table
