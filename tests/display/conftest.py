"""Made-up tables with the shapes and sizes of a real study, one per chart."""

from __future__ import annotations

import shutil
from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from bestofl_lib.languages import LANGUAGES

CODES = list(LANGUAGES)
SKILL = dict(zip(CODES, (0.31, 0.62, 0.71, 0.66, 0.63, 0.45, 0.58, 0.24, 0.19, 0.33, 0.52), strict=True))
N = 250


def made_up() -> dict[str, pl.DataFrame]:
    """Chart name to a table that it takes."""
    rng = np.random.default_rng(7)
    rows: dict[str, list[dict]] = {
        name: []
        for name in (
            "accuracy_by_language",
            "reward_quality",
            "exclusive_solves",
            "gain_over_resampling",
            "curves",
            "selected_languages",
            "reading_rules",
            "accuracy_by_reader",
            "trace_languages",
            "calibration",
            "shapley",
            "claims_forest",
            "allocation",
            "planner_regret",
            "greedy_order",
            "sole_solvers",
            "interval_sources",
        )
    }
    for code, p in SKILL.items():
        rows["accuracy_by_language"].append(
            {
                "language": code,
                "accuracy": p,
                "low": p - 0.055,
                "high": p + 0.055,
                "unreadable": 0.002 + 0.08 * (1 - p) ** 4,
                "n_candidates": 2000,
                "n_problems": N,
            }
        )
        for model, bonus in (("mono", 0), ("multi", 0.03), ("cross", 0.05)):
            auc = 0.62 + 0.3 * p + bonus + rng.normal(0, 0.01)
            rows["reward_quality"].append(
                {
                    "reward_model": f"mono-{code}" if model == "mono" else model,
                    "language": code,
                    "auc": auc,
                    "low": auc - 0.025,
                    "high": auc + 0.025,
                    "n_problems": N,
                }
            )
        for other, q in SKILL.items():
            if other != code:
                rows["exclusive_solves"].append(
                    {"language": code, "other": other, "exclusive": N * p * (1 - q) * 0.6, "n_problems": N}
                )
            rows["trace_languages"].append(
                {"language": code, "trace_language": other, "n": 1960 if other == code else 2}
            )
        rows["trace_languages"].append({"language": code, "trace_language": None, "n": 20})
        if code != "en":
            gain = 0.06 * (p - 0.3) + rng.normal(0, 0.01)
            rows["gain_over_resampling"].append(
                {
                    "language": code,
                    "gain": gain,
                    "low": gain - 0.018,
                    "high": gain + 0.018,
                    "n_problems": N,
                    "budget": 8,
                    "p_holm": 0.04,
                }
            )
        for rule, share in (("cue", 0.85), ("boxed", 0.06), ("last number", 0.06), (None, 0.03)):
            rows["reading_rules"].append({"language": code, "rule": rule, "n": int(2000 * share)})
        for reader, loss in (
            ("this reader", 0),
            ("last number", 0.05),
            ("after the cue", 0.3 * (1 - p)),
            ("math-verify", 0.4 * (1 - p)),
        ):
            rows["accuracy_by_reader"].append(
                {"language": code, "reader": reader, "accuracy": max(0.01, p - loss), "n_candidates": 2000}
            )
        for k in (1, 2, 4, 8):
            rows["allocation"].append(
                {
                    "budget": k,
                    "language": code,
                    "completions": round(k * p**3 / sum(v**3 for v in SKILL.values())),
                    "objective": "oracle",
                    "n_problems": N,
                }
            )
        for objective in ("oracle", "cross"):
            rows["shapley"].append(
                {
                    "language": code,
                    "shapley": 0.16 * p - 0.02,
                    "low": 0.16 * p - 0.03,
                    "high": 0.16 * p - 0.01,
                    "objective": objective,
                    "budget": 11,
                    "n_problems": N,
                }
            )
        for cause, part in (("answer reading", 0.1), ("revised question", 0.1), ("resampling", 0.5), ("left", 0.3)):
            rows["sole_solvers"].append(
                {
                    "language": code,
                    "cause": cause,
                    "problems": 6 * p * part,
                    "share": part / 11,
                    "budget": 4,
                    "n_problems": N,
                }
            )
        for strategy, model in (("best_of_k", "cross"), ("best_of_k", "multi"), ("random", None)):
            rows["selected_languages"].append(
                {
                    "language": code,
                    "share": p / sum(SKILL.values()),
                    "pool_share": 1 / 11,
                    "strategy": strategy,
                    "reward_model": model,
                    "budget": 11,
                }
            )
    for place, (strategy, model) in (
        (place, how) for how in (("oracle", None), ("best_of_k", "cross")) for place in ("en", "mixed")
    ):
        for kind, wide in (("problems", 0.05), ("candidates", 0.01), ("both", 0.055)):
            rows["interval_sources"].append(
                {
                    "pool": place,
                    "strategy": strategy,
                    "reward_model": model,
                    "budget": 8,
                    "resampled": kind,
                    "accuracy": 0.7,
                    "low": 0.7 - wide,
                    "high": 0.7 + wide,
                    "n_problems": N,
                }
            )
    for model, tilt in (("mono", 0.8), ("multi", 0.9), ("cross", 0.97)):
        for x in np.linspace(0.05, 0.95, 10):
            y = 0.5 + tilt * (x - 0.5)
            rows["calibration"].append(
                {
                    "reward_model": model,
                    "predicted": x,
                    "observed": y,
                    "low": y - 0.03,
                    "high": y + 0.03,
                    "n": int(800 + 3000 * abs(x - 0.5)),
                }
            )
    for k in (2, 4, 8):
        for arm, loss in (("planned", 0.012), ("mixed", 0.06), ("en", 0.03), ("hindsight", 0.0)):
            gain = None if arm == "planned" else loss - 0.012
            rows["planner_regret"].append(
                {
                    "budget": k,
                    "arm": arm,
                    "accuracy": 0.8 - loss,
                    "regret": loss + 0.005 * np.log2(k) * (loss > 0),
                    "gain": gain,
                    "gain_low": None if gain is None else gain - 0.02,
                    "gain_high": None if gain is None else gain + 0.02,
                    "n_problems": N,
                }
            )
    for step, (code, _) in enumerate(sorted(SKILL.items(), key=lambda item: -item[1]), 1):
        value = 0.9 - 0.2 / step
        rows["greedy_order"].append(
            {
                "step": step,
                "language": code,
                "accuracy": value,
                "low": value - 0.04,
                "high": value + 0.04,
                "objective": "oracle",
                "budget": 8,
                "n_problems": N,
            }
        )
    effects = (0.083, 0.061, 0.012, 0.024)
    for claim, effect, verdict in zip(
        ("H1", "H2", "H3", "H4"), effects, ("supported", "supported", "undecided", "not supported"), strict=True
    ):
        rows["claims_forest"].append(
            {
                "claim": claim,
                "statement": f"what {claim} says",
                "effect": effect,
                "low": effect - 0.03,
                "high": effect + 0.03,
                "p": 0.01,
                "mde": 0.05,
                "verdict": verdict,
                "sentence": f"{claim}: {100 * effect:.1f} points.",
            }
        )

    def curve(target: str | None, pool: str, strategy: str, model: str | None, start: float, slope: float) -> None:
        for k in (*range(1, 9), *((11, 16, 22, 32, 44, 64, 88) if pool.startswith("mixed") else ())):
            value = min(0.98, start + slope * np.log2(k))
            rows["curves"].append(
                {
                    "target": target,
                    "pool": pool,
                    "strategy": strategy,
                    "reward_model": model,
                    "budget": k,
                    "tokens": 60.0 * k,
                    "accuracy": value,
                    "low": value - 0.05,
                    "high": min(1.0, value + 0.05),
                    "n_problems": N,
                }
            )

    mean = float(np.mean(list(SKILL.values())))
    for strategy, model, slope in (
        ("best_of_k", "cross", 0.075),
        ("best_of_k", "multi", 0.066),
        ("majority", None, 0.05),
        ("oracle", None, 0.08),
        ("random", None, 0),
    ):
        curve(None, "mixed", strategy, model, mean, slope)
        curve(None, "mixed-en", strategy, model, mean - 0.03, slope)
        for code, p in SKILL.items():
            curve(None, code, strategy, model, p, slope * 0.9)
    for code, p in SKILL.items():
        curve(code, code, "best_of_k", "mono", p, 0.05)
    tables = {name: pl.DataFrame(values, infer_schema_length=None) for name, values in rows.items()}
    curves = tables.pop("curves")
    return tables | {"budget_curves": curves, "english_against_mixed": curves}


@pytest.fixture(scope="session")
def tables() -> dict[str, pl.DataFrame]:
    return made_up()


@pytest.fixture(scope="session")
def make_tables() -> Callable[[], dict[str, pl.DataFrame]]:
    return made_up


CHROMIUM = next(
    (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
)
DRAWN = """() => [['.bestofl-chart', 'charts'], ['.atlas', 'atlas']].every(
    ([what, said]) => !document.querySelector(what) || document.documentElement.dataset[said] === 'drawn')"""


@pytest.fixture(scope="session")
def browser():
    playwright = pytest.importorskip(
        "playwright.sync_api", reason="playwright is not installed; it comes with the extra dev"
    )
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine (Debian: apt-get install chromium)")
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--headless=new", "--disable-gpu"]
        )
        yield launched
        launched.close()


@pytest.fixture
def opened(browser):
    """Open a page from disk, network off; give it back with what it asked for and complained of."""
    contexts = []

    def open_page(path, width=1000, scheme="light"):
        context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme, offline=True)
        contexts.append(context)
        page = context.new_page()
        asked, said = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("dialog", lambda dialog: (said.append(dialog.message), dialog.dismiss()))
        page.goto(path.as_uri())
        page.wait_for_function(DRAWN, timeout=120_000)
        return page, asked, said

    yield open_page
    for context in contexts:
        context.close()
