"""A made-up pool whose references are expressions: 8 problems of four levels in 2 languages, 4 completions each."""

from __future__ import annotations

import json
import random
from pathlib import Path

REFERENCES = [  # of each problem, how right answers are written, and a wrong one that looks near
    (r"\frac{\sqrt{3}}{2}", [r"\dfrac{\sqrt3}{2}", r"\sqrt{3}/2"], r"\frac{\sqrt{2}}{3}"),
    (r"12\pi", [r"12\pi", r"4 \cdot 3\pi"], "12"),
    ("[0, 1)", [r"\left[0,1\right)", r"0 \le x < 1"], "(0, 1)"),
    (r"\{1, 3\}", [r"\{3, 1\}", r"\{1,3\}"], r"\{1, 2\}"),
    ("(2, -1)", ["(2,-1)", r"\left(2, -1\right)"], "(-1, 2)"),
    ("x^2+2x+1", ["(x+1)^2", "1+2x+x^2"], "x^2-2x+1"),
    (r"\text{(B)}", ["(B)", r"\text{B}"], "(C)"),
    ("18", ["18", "18.0"], "19"),
]
LEVELS = ("low", "medium", "high", "top")  # of two problems each, as PolyMath calls them
WORDS = {"en": ("What comes out of task {n}?", "We compute it."), "de": ("Was ergibt Aufgabe {n}?", "Wir rechnen.")}


def write_pool(path: Path, n: int = 4, seed: int = 0) -> Path:
    """The pool as JSON lines: every problem is solved by some and not by all."""
    rng, rows = random.Random(seed), []
    for number, (reference, right, wrong) in enumerate(REFERENCES):
        for code, (question, steps) in WORDS.items():
            for index in range(n):
                said = right[index % 2] if index != 1 and rng.random() < 0.7 else wrong
                text = f"{steps} $\\boxed{{{said}}}$" if index < 3 else f"{steps} \\boxed{{\\text{{?}}}}"
                rows.append({
                    "problem_id": f"p{number}", "language": code, "question": question.format(n=number),
                    "reference": reference, "level": LEVELS[number // 2], "completion": text, "reward": round(rng.random() + (said in right), 3),
                })  # fmt: skip
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf8")
    return path
