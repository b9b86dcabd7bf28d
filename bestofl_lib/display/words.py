"""The one list of names that people read: strategies, pools, reward models, languages, orders, filters, verdicts.

Tables and code use `best_of_k`, `mixed-en`, `mono`; charts, pages, the explorer and the command line use the words
listed here, and only these. A language is described with its writing direction. This file computes
nothing.
"""

from __future__ import annotations

import polars as pl

from bestofl_lib.languages import LANGUAGES, english_name, is_language

STRATEGIES = {
    "best_of_k": "best of k",
    "weighted": "weighted vote",
    "majority": "majority vote",
    "logprob": "log-probability",
    "shortest": "shortest",
    "arithmetic": "arithmetic check",
    "random": "one at random",
    "oracle": "oracle (coverage)",
}
POOLS = {
    "own": "own language",
    "mixed": "mixed pool",
    "planned": "planned pool",
    "best pair": "best pair",
    "best mix": "best mix",
}
POOL_LINES = {"mixed": "mixed", "planned": "planned"}  # at the ends of lines
REWARD_MODELS = {"cross": "cross: across languages", "multi": "multi: all languages", "mono": "mono: each its own"}
SORTS = {
    "difficulty": "hardest first",
    "exclusive": "solved by one language only first",
    "mistake": "worst reward-model mistakes first",
    "id": "problem id",
}
FILTERS = {
    "revised": "a question was revised",
    "unreadable": "an answer is unreadable",
    "stray": "an answer is in another language",
    "disagreement": "languages disagree",
    "mistake": "reward model picks wrong",
}
RESAMPLED = {
    "problems": "other problems",
    "candidates": "same problems, drawn again",
    "training": "other training seeds",
    "both": "problems and draws",
    "all": "all together",
}
VERDICT_MARKS = {"supported": "✓", "not supported": "✗", "undecided": "?", "no room": "=", "not tested": "–"}
CLAIMS = {  # rows of the chart of claims; a phone breaks them at the comma
    "H1": "H1 mixed pool, cross reward",
    "H2": "H2 the same, in each language",
    "H3": "H3 small budgets, mix of languages",
    "H4": "H4 coverage, planned budget",
}
NOTHING_READ = "nothing readable"
NOTHING_TO_DRAW = {  # why a chart is empty, by its name; "" for all others
    "": "This run has no rows for this chart.",
    "claim_controls": "The controls need a reward model of each language; where a language is always or never right, "
    "none can be trained.",
    "english_against_mixed": "The candidates come without token counts.",
    "curves_by_level": "This problem set has no levels of difficulty.",
    "claim_details": "No claim could be tested on this run; the table above says why.",
    "reward_quality": "This run has no rewards to judge.",
    "reward_trials": "No reward model could be trained.",
    "transfer": "The models of one language have scored their own language only; score all with -p scope=all in "
    "05_score_candidates.",
    "calibration": "This run has no rewards to calibrate.",
    "selected_languages": "Which languages win is known for rewards only.",
}
QUESTIONS = {  # of the first screen, one tile each
    "mixing": "What does mixing languages buy?",
    "reward": "What does the reward model buy?",
    "languages": "Which languages help which?",
    "plan": "How to spend the next completion?",
}
TILES = {  # what the number on a tile compares
    "total": "of accuracy: all languages chosen by the cross-lingual reward model, against a language's own pool and "
    "own model, at equal budget.",
    "pool": "of accuracy: candidates from all languages instead of a language's own, at equal budget, whichever model "
    "chooses.",
    "reward": "of accuracy: the cross-lingual reward model instead of a language's own, whichever pool it chooses "
    "from.",
    "small": "of accuracy: a mixed pool instead of English alone at small budgets.",
    "again": "of coverage: another language instead of drawing English again.",
}
NOT_TESTED = "This run lacks what the question needs."
LAB_CAVEAT = (
    "It is a toy policy of 1.8 million parameters on made-up problems: this report shows what the workbench does, not "
    "how real models behave."
)
BASELINE_CAVEAT = (
    "No rewards came with the completions: a baseline that sees only their text, trained on the file's other problems, "
    "stands in for a reward model."
)
DATA_ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".eval", ".gz", ".zst")
GLOSSARY = {
    "problem": "one task with one right answer; its translations count as the same problem",
    "completion, candidate": "one text that the model wrote for a problem in one language",
    "budget": "completions per problem, over all languages",
    "pool": "the candidates that one is chosen from: those of one language, of several (a mixed pool), or an imported "
    "file of completions",
    "reward model": "a model that says how good a completion seems; mono was trained on one language, multi on all "
    "languages within each, cross on pairs across languages",
    "best of k": "the candidate with the highest reward of k",
    "coverage": "at least one of the candidates is correct (pass@k): the ceiling for every way of choosing",
    "majority vote": "the most frequent answer",
    "arithmetic check": "a candidate without a false equation such as 7 × 4 = 25, else any; the check sees neither "
    "question nor answer",
    "interval": "95 %, over other problems of the same kind; differences are paired by problem",
    "supported": "the effect is positive and its p-value, corrected for the number of tests, is below 0.05",
    "not supported": "the interval rules out a gain of one point",
    "undecided": "neither: there are too few problems to tell",
    "no room": "so close to the ceiling that no gain could show",
}
VERDICT_COLUMNS = ("claim", "part", "statement", "verdict", "effect", "p_holm", "mde", "budget", "n_problems")
HEADINGS = {"effect": "effect [95 %]", "p_holm": "p (Holm)", "mde": "detectable", "n_problems": "problems"}


def describe_language(code: str) -> dict[str, str]:
    """Code, English name, own name and writing direction; a language that the project does not know keeps its code."""
    if not is_language(code):
        return {"code": code, "name": code, "endonym": "", "dir": "auto"}
    record = LANGUAGES[code]
    direction = "rtl" if record.right_to_left else "auto"
    return {"code": code, "name": record.name, "endonym": record.endonym, "dir": direction}


def rule_name(rule: str | None) -> str:
    """A rule of reading in words; the rule of an answer that could not be read is null.

    >>> rule_name("last_number"), rule_name(None)
    ('last number', 'nothing readable')
    """
    return (rule or "").replace("_", " ") or NOTHING_READ


def reader_name(reader: str) -> str:
    """Another reader in words, `ours` included."""
    return {"ours": "our reader"}.get(reader, reader.replace("_", " "))


def count_languages(codes: tuple[str, ...] | list[str]) -> str:
    """The number of languages ("3 languages"), or the name of the only one."""
    return f"{len(codes)} languages" if len(codes) > 1 else english_name(codes[0])


def strategy(name: str, reward_model: str | None = None) -> str:
    """A strategy in words.

    >>> strategy("best_of_k", "cross"), strategy("logprob")
    ('best of k by cross reward', 'log-probability')
    """
    label = STRATEGIES.get(name, name)
    return f"{label} by {reward_model} reward" if reward_model else label


def pool(name: str) -> str:
    """A pool in words.

    >>> pool("mixed-en"), pool("half-en"), pool("en")
    ('mixed without English', 'half English', 'English pool')
    """
    kind, _, code = name.partition("-")
    if kind in ("mixed", "half") and is_language(code):
        return f"{'mixed without' if kind == 'mixed' else 'half'} {english_name(code)}"
    return POOLS.get(name) or f"{english_name(name)} pool"


def wordings(name: str) -> str:
    """An arm of H4's control by several wordings of the instruction.

    >>> wordings("en, 3 wordings"), wordings("en again"), wordings("planned")
    ('3 wordings', 'one wording', 'planned pool')
    """
    return "one wording" if name.endswith(" again") else name.partition(", ")[2] or pool(name)


def arm(pool_name: str, strategy_name: str, reward_model: str | None) -> str:
    """An arm of a study in words: what was drawn, and how one candidate was chosen.

    >>> arm("en", "logprob", None), arm("mixed", "best_of_k", "cross")
    ('English pool, log-probability', 'mixed pool, best of k by cross reward')
    """
    return f"{pool(pool_name)}, {strategy(strategy_name, reward_model)}"


def selector(name: str) -> str:
    """A way of choosing, in a table of controls: a reward model, what was made of one, or a strategy.

    >>> selector("cross"), selector("majority"), selector("language prior")
    ('cross reward', 'majority vote', 'language prior')
    """
    return STRATEGIES.get(name) or (f"{name} reward" if name in REWARD_MODELS else name)


def plan_arm(name: str) -> str:
    """A simpler way of spending that the planner is compared with.

    >>> plan_arm("mixed"), plan_arm("en")
    ('equal shares', 'English only')
    """
    return {"mixed": "equal shares", "planned": "the plan", "hindsight": "hindsight"}.get(
        name
    ) or f"{english_name(name)} only"


def objective_column() -> pl.Expr:
    """The column `objective` in words: coverage, a measure of a completion, or choosing by a reward."""
    measures = {"oracle": "coverage"} | {name: STRATEGIES[name] for name in ("logprob", "shortest", "arithmetic")}
    return (
        pl.when(pl.col("objective").is_in(list(measures)))
        .then(pl.col("objective").replace(measures))
        .otherwise(pl.format("best of k by {} reward", "objective"))
    )
