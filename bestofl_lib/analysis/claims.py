"""The claims of a study, each with effect, interval, corrected p-value, detectable effect and verdict.

H1  at equal budget a mixed pool chosen by the cross-lingual reward model beats a language's own pool chosen by its own
    model; total = pool effect + reward effect (`decomposition`);
H2  the total and each part hold for *each* high-resource language: the verdict is that of the weakest;
H3  at small budgets a mix that holds the base language (English where the pool has it) beats the strongest way to use
    the base language alone (`base_mixes`);
H4  the best allocation of coverage, chosen on other folds, beats the base language alone.

Verdicts follow the rule of `verdicts`, corrected by Holm over the claims that share a part ("total", "pool", "reward").
"not tested": the pool lacks what the claim needs, and the sentence says what. Every comparison is made once; the tables
of claims, of details and of controls are views of the same results.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import polars as pl

from bestofl_lib.analysis import uncertainty as un
from bestofl_lib.analysis.arrays import CandidateArrays
from bestofl_lib.analysis.base_mixes import BEST_MIX, LARGEST, base_mixes, break_evens, reach
from bestofl_lib.analysis.break_even import BreakEven
from bestofl_lib.analysis.claim_sentences import STATEMENTS, bounds, not_evidence_for, paraphrases, sentence
from bestofl_lib.analysis.complementarity import gain_budgets, gain_values
from bestofl_lib.analysis.controls import control_table
from bestofl_lib.analysis.coverage import coverage_of_shares
from bestofl_lib.analysis.curves import default_budgets
from bestofl_lib.analysis.decomposition import PARTS, Cells, cells_of
from bestofl_lib.analysis.figures import Figures, compared, side_by_side
from bestofl_lib.analysis.planner import planned_values
from bestofl_lib.analysis.verdicts import SMALLEST_GAIN, Judged, holm, judge, verdict_of, weakest_of
from bestofl_lib.analysis.votes import DRAWS
from bestofl_lib.languages import LANGUAGES, is_language
from bestofl_lib.tables import SCHEMAS
from bestofl_lib.text import counted

Array = np.ndarray
HIGH_RESOURCE = ("fixed", "strongest")  # of "high-resource": the fixed list, and the languages this policy is best at


@dataclass(frozen=True)
class ClaimTables:
    """What one pool says about the claims."""

    claims: pl.DataFrame  # table `claims`
    details: pl.DataFrame  # table `claim_details`
    controls: pl.DataFrame  # table `claim_controls`; empty where H1 was not tested


@dataclass(frozen=True)
class _Settings:
    budget: int
    small_budgets: tuple[int, ...]
    cross: str
    mono: str
    smallest_gain: float
    draws: int
    replicates: int
    seed: int


@dataclass(frozen=True)
class _Entry:
    """One row of `claims` before it is corrected."""

    claim: str
    part: str
    budget: str  # as text: "8" or "2, 4"
    strategy: str
    effect: float
    low: float
    high: float
    p: float
    p_gain: float  # against the smallest gain
    room: float
    high_resource: str | None = None
    weakest: str | None = None  # the language that decides
    unless: str | None = None  # verdict where it is not supported; None: by the rule
    jointly: int = 1  # comparisons that must all succeed
    gaining: tuple[str, ...] = ()
    losing: tuple[str, ...] = ()
    n_arms: int = 1  # arms that were tried to find the ones compared
    n_seeds: int = 1
    breaks: dict[str, BreakEven] = field(default_factory=dict)
    why: str = ""  # why it was not tested
    beside: str = ""  # a sentence on a control


def claims_of(
    arrays: CandidateArrays,
    budget: int | None = None,
    small_budgets: Sequence[int] = (2, 4),
    cross: str | None = None,
    mono: str | None = None,
    smallest_gain: float = SMALLEST_GAIN,
    draws: int = DRAWS,
    replicates: int = un.REPLICATES,
    seed: int = 0,
    trained: pl.DataFrame | None = None,
    outside: CandidateArrays | None = None,
) -> ClaimTables:
    """All claims on one pool.

    Args:
        arrays: made by `CandidateArrays.of`; without reward models H1 and H2 are "not tested" and H3 compares
            majorities.
        budget: completions per problem for H1 and H2; by default the most every language can serve. H4 is about the
            largest power of two up to it.
        small_budgets: H3's budgets from 2; those that both sides can serve count, and are averaged.
        cross, mono: names of the reward models compared; "mono" is each language's own. By default those of the pool's
            `selectors`: where one model scores every language, it is both, and there is no reward effect.
        smallest_gain: a gain worth having, in accuracy; below it a claim counts as not supported.
        trained: table `trained`, to say what the reward models learnt from.
        outside: candidates of problems that are not judged (`arrays.outside_of_run`): what the controls need to fit is
            fitted on them, as far as they have the rewards it takes; else on other folds of the judged problems.
    """
    most = min(arrays.fewest(code) for code in arrays.languages)
    mono, cross = mono or arrays.selectors[0], cross or arrays.selectors[1]
    settings = _Settings(
        most if budget is None else budget, tuple(small_budgets), cross, mono, smallest_gain, draws, replicates, seed
    )
    if len(arrays.languages) < 2 or arrays.n_problems < 2:
        what = f"one language only ({arrays.languages[0]})" if len(arrays.languages) < 2 else "one problem only"
        entries = [_untested(claim, f"the pool has {what}") for claim in STATEMENTS]
        return ClaimTables(_claim_table(arrays, entries, settings, trained, outside), _details([]), _controls())
    own, details, controls = _own_pools(arrays, settings, trained, outside)
    entries = list(own)
    for test in (_small_budgets, _allocation):
        entry, rows = test(arrays, settings)
        entries.append(entry)
        details += rows
    return ClaimTables(_claim_table(arrays, entries, settings, trained, outside), _details(details), controls)


def _own_pools(
    arrays: CandidateArrays, settings: _Settings, trained: pl.DataFrame | None, outside: CandidateArrays | None
) -> tuple[list[_Entry], list[dict], pl.DataFrame]:
    """H1 and H2."""
    cross, mono = settings.cross, settings.mono
    lacking = [m for m in (cross, mono) if m not in arrays.reward_models]
    targets = [code for code in arrays.languages if not lacking and arrays.reward(mono, [code]) is not None]
    if lacking or any(arrays.reward(model, arrays.languages) is None for model in (cross, mono)):
        names = " and ".join(repr(m) for m in lacking) or f"{cross!r} and {mono!r}"
        why = f"the pool has no rewards by {names} for all its languages" + _needed_for_training(trained)
        return [_untested("H1", why), _untested("H2", why)], [], _controls()
    cells = cells_of(arrays, targets, settings.budget, cross, mono)
    groups = _high_resource(arrays, targets)
    entries, details = [], []
    parts = [part for part in PARTS if part != "reward" or mono != cross]  # one model has no other beside it
    judged = {part: judge(*cells.pair(part), **_how(settings)) for part in parts}
    for part in parts:
        first, second = cells.pair(part)
        gaining, losing = _sides(judged[part], targets)
        entry = _entry("H1", part, first.average(), second.average(), str(settings.budget), settings)
        entries.append(replace(entry, gaining=gaining, losing=losing))
        details += _language_rows("H1", part, judged[part], cells, settings, groups)
    for definition in HIGH_RESOURCE:
        if not groups[definition]:
            entries.append(_untested("H2", "none of the pool's languages is a high-resource language", definition))
            continue
        for part in parts:
            entries.append(_each(part, definition, judged[part], cells, groups[definition], settings))
    table = control_table(arrays, cells, cross, mono, settings.replicates, settings.seed, outside)
    return entries, details, table


def _each(
    part: str, definition: str, judged: Judged, cells: Cells, languages: Sequence[str], settings: _Settings
) -> _Entry:
    """H2: the weakest of some languages decides."""
    chosen = [cells.targets.index(code) for code in languages]
    weakest, p, _, verdict = weakest_of(judged, chosen)
    gaining, losing = _sides(judged, cells.targets, chosen)
    return _Entry(
        claim="H2",
        part=part,
        budget=str(settings.budget),
        strategy=f"best of k by {settings.cross}",
        effect=float(judged.effect[weakest]),
        low=float(judged.low[weakest]),
        high=float(judged.high[weakest]),
        p=p,
        p_gain=1.0,
        room=float(judged.room[weakest]),
        high_resource=definition,
        weakest=cells.targets[weakest],
        unless="undecided" if verdict == "supported" else verdict,
        jointly=len(chosen),
        gaining=gaining,
        losing=losing,
        n_seeds=len(cells.mixed_cross.values),
    )


def _small_budgets(arrays: CandidateArrays, settings: _Settings) -> tuple[_Entry, list[dict]]:
    """H3."""
    largest = reach(arrays)
    ks = [k for k in sorted(set(settings.small_budgets)) if 2 <= k <= largest]
    if not ks:
        return _untested(
            "H3",
            f"{arrays.base} has {counted(arrays.fewest(arrays.base), 'candidate')} per problem and mixes that hold it "
            f"reach {largest}, below the small budgets {list(settings.small_budgets)}",
        ), []
    grid = sorted({*ks, *(k for k in default_budgets(min(largest, LARGEST)) if k >= 2)})
    found = base_mixes(arrays, grid, settings.cross, settings.mono, draws=settings.draws, seed=settings.seed)
    at = [grid.index(k) for k in ks]
    first, second = (Figures(x.values[..., at]) for x in (found.mixes[BEST_MIX], found.best_way))
    entry = _entry("H3", "total", first.average(), second.average(), ", ".join(map(str, ks)), settings)
    tried = [name for name in found.mixes if name != BEST_MIX]
    arms = side_by_side([Figures(found.mixes[name].values[..., at]) for name in tried])
    others = side_by_side([second] * len(tried))
    judged = judge(arms, others, **_how(settings))
    rows = []
    for i, row in enumerate(judged.rows()):
        name = tried[i // len(ks)]
        code = name.removeprefix(f"{arrays.base}+")
        rows.append(
            row
            | {
                "claim": "H3",
                "part": "total",
                "language": code if code in arrays.languages else None,
                "arm": name,
                "budget": ks[i % len(ks)],
                "strategy": "majority" if found.chooser == "majority" else "best_of_k",
                "reward_model": None if found.chooser == "majority" else found.chooser,
                "against": f"{arrays.base} alone, best way",
                "n_problems": arrays.n_problems,
            }
        )
    breaks = break_evens(arrays, found, settings.replicates, settings.seed)
    name = "majority" if found.chooser == "majority" else f"best of k by {found.chooser}"
    return replace(entry, strategy=name, n_arms=len(tried) - 1 + len(found.ways), breaks=breaks), rows


def _allocation(arrays: CandidateArrays, settings: _Settings) -> tuple[_Entry, list[dict]]:
    """H4."""
    possible = gain_budgets(arrays, arrays.base)
    if not possible:
        count = arrays.fewest(arrays.base)
        return _untested(
            "H4", f"{arrays.base} has {counted(count, 'candidate')} per problem, so it cannot be drawn again"
        ), []
    at = max([b for b in possible if b <= settings.budget], default=possible[0])
    others = [code for code in arrays.languages if code != arrays.base]
    pairs = [gain_values(arrays, code, at, arrays.base) for code in others]
    both, again = (Figures(np.stack(side, 1)[None]) for side in zip(*pairs, strict=True))
    judged = judge(both, again, **_how(settings))
    plan = Figures(planned_values(arrays, [at], "oracle", seed=settings.seed).accuracy[None])
    entry = _entry("H4", "total", plan, again.at(0), str(at), settings)
    gaining, losing = _sides(judged, others)
    rows = [
        row
        | {
            "claim": "H4",
            "part": "total",
            "language": others[i],
            "arm": f"{arrays.base}+{others[i]}",
            "budget": at,
            "strategy": "oracle",
            "against": f"{arrays.base} again",
            "n_problems": arrays.n_problems,
        }
        for i, row in enumerate(judged.rows())
    ]
    told, more = _paraphrased(arrays, at, plan, settings)
    return replace(entry, strategy="oracle", gaining=gaining, losing=losing, beside=told), rows + more


def _paraphrased(arrays: CandidateArrays, budget: int, plan: Figures, settings: _Settings) -> tuple[str, list[dict]]:
    """H4's second control, where the base language was asked in several wordings: a sentence, and rows of the details.

    The budget is spread over the wordings in equal shares, and compared with one wording drawn again (the mean over
    wordings); the allocation over languages is compared with it.
    """
    worded = {"usual": arrays.is_correct[arrays.base], **arrays.wordings.get(arrays.base, {})}
    if len(worded) == 1 or min(int((~np.isnan(table)).sum(1).min()) for table in worded.values()) < budget:
        return "", []
    spread = Figures(coverage_of_shares(worded, budgets=[budget])[None])
    alone = [coverage_of_shares({name: table}, budgets=[budget]) for name, table in worded.items()]
    several, shared = f"{arrays.base}, {len(worded)} wordings", {"claim": "H4", "part": "wordings", "budget": budget}
    compared_ = [
        (several, f"{arrays.base} again", judge(spread, Figures(np.mean(alone, 0)[None]), **_how(settings))),
        ("planned", several, judge(plan, spread, **_how(settings))),
    ]
    rows = [
        row
        | shared
        | {"language": arrays.base, "arm": arm, "against": against}
        | {"strategy": "oracle", "n_problems": arrays.n_problems}
        for arm, against, judged in compared_
        for row in judged.rows()
    ]
    return paraphrases(rows, arrays.base, len(worded)), rows


def _entry(claim: str, part: str, first: Figures, second: Figures, budget: str, settings: _Settings) -> _Entry:
    difference = first - second
    found = compared(difference, replicates=settings.replicates, seed=settings.seed)
    gain = compared(difference, null=settings.smallest_gain, replicates=settings.replicates, seed=settings.seed)
    return _Entry(
        claim,
        part,
        budget,
        f"best of k by {settings.cross}",
        effect=float(found.effect[0]),
        low=float(found.low[0]),
        high=float(found.high[0]),
        p=float(found.p[0]),
        p_gain=float(gain.p[0]),
        room=float(1 - second.of_problems.mean()),
        n_seeds=len(difference.values),
    )


def _untested(claim: str, why: str, high_resource: str | None = None) -> _Entry:
    nan = float("nan")
    return _Entry(claim, "total", "", "", nan, nan, nan, nan, nan, nan, high_resource=high_resource, why=why)


def _needed_for_training(trained: pl.DataFrame | None) -> str:
    """Why reward models are missing and what they would need, for a sentence; empty where training left no trace."""
    failed = None if trained is None else trained.filter(pl.col("rows") == 0).drop_nulls("status")
    if failed is None or failed.is_empty():
        return ""
    return (
        f" ({failed['status'][0]}). Each needs problems with a correct and a wrong candidate in its languages: draw "
        "more candidates, or take easier problems or a stronger model"
    )


def _how(settings: _Settings) -> dict:
    return {"smallest_gain": settings.smallest_gain, "replicates": settings.replicates, "seed": settings.seed}


def _high_resource(arrays: CandidateArrays, targets: Sequence[str]) -> dict[str, list[str]]:
    """Both definitions of "high-resource", as languages of the pool."""
    fixed = [code for code in targets if is_language(code) and LANGUAGES[code].resource == "high"]
    count = len(fixed) or (len(targets) + 1) // 2
    ranked = sorted(targets, key=lambda code: -float(np.nanmean(arrays.is_correct[code])))
    return {"fixed": fixed, "strongest": ranked[:count]}


def _sides(
    judged: Judged, languages: Sequence[str], chosen: Sequence[int] | None = None
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Languages that gain and that lose, after the correction of their family."""
    places = range(len(languages)) if chosen is None else chosen
    sure = [i for i in places if judged.p_holm[i] < 0.05]
    return (
        tuple(languages[i] for i in sure if judged.effect[i] > 0),
        tuple(languages[i] for i in sure if judged.effect[i] < 0),
    )


def _language_rows(
    claim: str, part: str, judged: Judged, cells: Cells, settings: _Settings, groups: dict[str, list[str]]
) -> list[dict]:
    against = {"total": f"own pool, {settings.mono}", "pool": "own pool", "reward": settings.mono}
    return [
        row
        | {
            "claim": claim,
            "part": part,
            "language": code,
            "arm": "mixed" if part != "reward" else settings.cross,
            "budget": settings.budget,
            "strategy": "best_of_k",
            "reward_model": settings.cross,
            "against": against[part],
            "high_resource": ", ".join(definition for definition in HIGH_RESOURCE if code in groups[definition])
            or None,
            "n_problems": len(cells.mixed_cross.of_problems),
        }
        for code, row in zip(cells.targets, judged.rows(), strict=True)
    ]


def _claim_table(
    arrays: CandidateArrays,
    entries: Sequence[_Entry],
    settings: _Settings,
    trained: pl.DataFrame | None,
    outside: CandidateArrays | None,
) -> pl.DataFrame:
    rows = []
    families: dict[tuple[str, bool], list[_Entry]] = {}
    for entry in entries:  # the second definition of H2 is a check on the first, not one more claim
        families.setdefault((entry.part, entry.high_resource == "strongest"), []).append(entry)
    for family in families.values():
        p = holm([None if entry.why else entry.p for entry in family])
        q = holm([None if entry.why else entry.p_gain for entry in family])
        tests = sum(not entry.why for entry in family)
        rows += [
            _claim_row(arrays, entry, float(a), float(b), tests, settings, trained, outside)
            for entry, a, b in zip(family, p, q, strict=True)
        ]
    order = {(e.claim, e.part, e.high_resource): i for i, e in enumerate(entries)}
    rows.sort(key=lambda row: order[row["claim"], row["part"], row["high_resource"]])
    return pl.DataFrame(rows, schema=SCHEMAS["claims"])


def _claim_row(
    arrays: CandidateArrays,
    entry: _Entry,
    p: float,
    p_gain: float,
    tests: int,
    settings: _Settings,
    trained: pl.DataFrame | None,
    outside: CandidateArrays | None,
) -> dict:
    row: dict = {
        "claim": entry.claim,
        "part": entry.part,
        "high_resource": entry.high_resource,
        "statement": STATEMENTS[entry.claim],
        "verdict": "not tested",
        "base": arrays.base,
        "n_problems": arrays.n_problems,
        "not_evidence_for": not_evidence_for(entry.claim, entry.part, arrays.base),
    }
    if entry.why:
        return row | {"sentence": f"{entry.claim} was not tested: {entry.why}."}
    mde = float(un.minimum_detectable_effect(entry.low, entry.high, tests=tests, jointly=entry.jointly))
    verdict = verdict_of(entry.effect, p, p_gain, entry.room, mde, settings.smallest_gain)
    if entry.unless is not None and verdict != "supported":
        verdict = entry.unless
    row |= {
        "verdict": verdict,
        **{name: getattr(entry, name) for name in ("effect", "low", "high", "p", "room", "budget", "strategy")},
        "p_holm": p,
        "mde": mde,
        "language": entry.weakest,
        "gaining": ", ".join(entry.gaining),
        "losing": ", ".join(entry.losing),
        "n_compared": entry.jointly,
        "n_arms": entry.n_arms,
        "n_seeds": entry.n_seeds,
        "bounded_by": bounds(entry.claim, arrays, entry.n_seeds, entry.n_arms, settings.cross, trained, outside),
    }
    for unit, found in entry.breaks.items():
        suffix = "" if unit == "completions" else "_tokens"
        row |= {
            f"break_even{suffix}": found.end,
            f"break_even{suffix}_low": found.low,
            f"break_even{suffix}_high": found.high,
        }
    said = sentence(row, entry.breaks, settings.cross, settings.mono, settings.smallest_gain)
    return row | {"sentence": f"{said} {entry.beside}".strip()}


def _details(rows: list[dict]) -> pl.DataFrame:
    return pl.DataFrame(rows, schema=SCHEMAS["claim_details"])


def _controls() -> pl.DataFrame:
    return pl.DataFrame(schema=SCHEMAS["claim_controls"])
